"""What a rejected event would become now, after its source, plan or limits were mended. Pure; nothing is written.

    bytes and arrival, as `headwater.rejected_events` keeps them --check--> entries for the log, or every reason why not

The entries say when the event first came, and are dated by that. A messageId is kept; an event that had none gets one that
follows from its bytes and that moment, so that a second redrive gives the same event and not another.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from headwater.clock import FixedClock
from headwater.collect import endpoints
from headwater.collect.intake import Intake
from headwater.collect.mask import Mask
from headwater.collect.reasons import Reason
from headwater.collect.settings import CollectSettings
from headwater.records.logged import Entry


@dataclass(frozen=True)
class Verdict:
    """`entries` for the log, in the order in which they were sent; `reasons` when nothing would pass.

    Of a whole batch some events may pass and others not: those others are among the entries, each as a rejected event of
    its own, and there are no `reasons`.
    """

    entries: list[Entry] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)


class Redrive:
    """Checks rejected events against the settings as they are now."""

    def __init__(self, settings: CollectSettings, folder: Path = Path()) -> None:
        """Raises ConfigError as the collector does: for a plan, a key or a secret that is not there."""
        self._clock = FixedClock(datetime(1970, 1, 1, tzinfo=UTC))
        self._intake = Intake(settings, self._clock, folder)

    def check(self, source: str, raw: bytes | None, arrival: Mapping[str, Any], received_at: datetime) -> Verdict:
        """The columns of one row of `headwater.rejected_events`; `received_at` without zone is UTC.

        `arrival` is its JSON, read. `source` is empty when nobody knew the sender.
        """
        moment = received_at.astimezone(UTC) if received_at.tzinfo else received_at.replace(tzinfo=UTC)
        endpoint = endpoints.named(str(arrival.get("endpoint")))
        if arrival.get("endpoint") == "database":
            return Verdict(reasons=[Reason("row_not_kept")])
        if arrival.get("kept") == "nothing":
            return Verdict(reasons=[Reason("digest_kept")])
        if raw is None or endpoint is None or arrival.get("kept") == "beginning":
            return Verdict(reasons=[Reason("not_kept")])
        if endpoint.shape == "tool" and arrival.get("whole"):
            return Verdict(reasons=[Reason("told_again")])
        self._clock.at = moment
        seed = f"redrive:{moment.isoformat()}"
        if arrival.get("whole"):
            known = self._intake.sources.by_name.get(source)
            key = known.write_key if known else arrival.get("writeKey")
            taken = self._intake.take(
                endpoint,
                raw,
                authorization=None if key is None else b"Basic " + base64.b64encode(f"{key}:".encode()),
                encoding=str(arrival.get("encoding", "")).encode("latin-1", "replace"),
                ip=arrival.get("ip"),
                signature=arrival.get("signature"),
                webhook_source=str(arrival.get("webhook", source)),
                id_seed=seed,
            )
        else:
            known = self._intake.sources.by_name.get(source)
            if known is None:
                return Verdict(reasons=[Reason("unknown_write_key", "no source of that name")])
            if arrival.get("masked"):
                known = replace(known, mask=Mask({}, None))
            taken = self._intake.take_event(endpoint, raw, known, arrival, id_seed=seed)
        rejected = [msgspec.json.decode(entry.payload) for entry in taken.entries if entry.topic == "rejected"]
        reasons = [Reason(one["code"], one["found"], one["path"]) for told in rejected for one in told["reasons"]]
        return Verdict(taken.entries) if taken.accepted else Verdict(reasons=reasons)
