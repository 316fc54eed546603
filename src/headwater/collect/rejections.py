"""Rejected events as they are logged: raw bytes, all reasons, and what a redrive needs beside them; masked before.

    {"raw": base64, "reasons": [{code, message, path, found}], "receivedAt", "endpoint", "messageId"?, "length"?, "digest"?,
     "arrival": {"endpoint", "ip"?, "shared"?: {context, integrations, sentAt}, "whole"?, "masked"?, "kept"?, …}}

`whole`: the bytes are those of the request, not of one event. `masked`: the bytes were written anew, masked. `kept`: nothing
(digest and length only) or beginning. `writeKey`, `webhook`, `signature`, `encoding`: of a request whose sender or
compression was not accepted.
"""

import base64
import hashlib
from typing import Any

import msgspec

from headwater.collect.accept import KNOWN, Arrival
from headwater.collect.endpoints import Endpoint
from headwater.collect.reasons import Reason
from headwater.collect.sources import Source
from headwater.collect.taken import Taken
from headwater.records.logged import Entry

_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode

UNREADABLE = (msgspec.DecodeError, UnicodeError, RecursionError, ValueError)


class Rejections:
    """What is said about one request, to its sender and to the log."""

    def __init__(self, endpoint: Endpoint, arrival: Arrival) -> None:
        self.endpoint = endpoint
        self.arrival = arrival
        self.rejected: list[dict[str, Any]] = []
        self.came: dict[str, Any] = {"endpoint": endpoint.name}

    def reject(
        self,
        taken: Taken,
        source: Source | None,
        raw: bytes,
        reasons: list[Reason],
        length: int | None = None,
        hidden: bool = False,
    ) -> None:
        """One entry of topic rejected.

        `length`: `raw` is only the beginning of so many bytes. `hidden`: keep digest and length only; so it is for a masked
        source too, when there are no fields to be masked. Objects in unknown fields of a masked source are not kept: no
        path leads into a batch that was sent to the endpoint of a single.
        """
        arrival = self.arrival
        item = _readable(raw)
        message_id = item.get("messageId") if item else None
        message_id = message_id if isinstance(message_id, str) else ""
        payload: dict[str, Any] = {
            "reasons": [reason.as_json() for reason in reasons],
            "receivedAt": arrival.received_text,
            "endpoint": self.endpoint.name,
        }
        if message_id:
            payload["messageId"] = message_id[:1000]
        came = dict(self.came)
        if source is not None and source.mask:
            hidden = hidden or item is None
            came["masked"] = True
            if item is not None:
                item = {
                    name: value for name, value in item.items() if name in KNOWN or not isinstance(value, dict | list)
                }
                item.pop("writeKey", None)
                source.mask.apply(item)
                raw = raw if hidden else _encode(item)
        if length is not None or hidden:
            payload["length"] = len(raw) if length is None else length
        if hidden or length is not None:
            came["kept"] = "nothing" if hidden else "beginning"
        key = ""
        if hidden:
            payload["digest"] = hashlib.sha256(raw).hexdigest()
        else:
            payload["raw"] = base64.b64encode(raw).decode()
            ids = [item.get("userId"), item.get("anonymousId")] if item else []
            key = next((str(one) for one in ids if isinstance(one, str | int) and one), "")
        if shared := self._shared(source):
            came["shared"] = shared
        if arrival.ip:
            told: dict[str, Any] = {"context": {"ip": arrival.ip}}
            if source is not None and source.mask:
                source.mask.apply(told)
            came["ip"] = told["context"].get("ip")
        payload["arrival"] = came
        taken.entries.append(
            Entry(
                "rejected",
                source.name if source else "",
                key[:1000],
                message_id[:1000],
                arrival.received_us,
                _encode(payload),
            )
        )
        self.rejected.append(
            {
                "index": len(self.rejected) + taken.accepted,
                "messageId": message_id or None,
                "reason": reasons[0].code,
                "message": "; ".join(reason.message for reason in reasons),
            }
        )
        taken.rejected += 1
        taken.reasons = [*taken.reasons, reasons[0].code]

    def _shared(self, source: Source | None) -> dict[str, Any]:
        """What stands at the top of the batch and belongs to each of its events, masked."""
        arrival = self.arrival
        shared: dict[str, Any] = {}
        if arrival.context is not None:
            shared["context"] = _decode(arrival.context)
        if arrival.integrations is not None:
            shared["integrations"] = _decode(arrival.integrations)
        if source is not None and source.mask:
            source.mask.apply(shared)
        if arrival.sent_at is not None:
            shared["sentAt"] = arrival.sent_at
        return shared


def _readable(raw: bytes) -> dict[str, Any] | None:
    try:
        item = _decode(raw)
    except UNREADABLE:
        return None
    return item if isinstance(item, dict) else None
