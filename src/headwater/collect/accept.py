"""One event: what is wrong with it, or what it becomes. Pure; nothing here knows HTTP or the log.

    decoded JSON --prepare--> the payload of an accepted record, or every reason why not

The moment of an event is corrected for the sender's clock: `timestamp = receivedAt − (sentAt − originalTimestamp)`, where
`originalTimestamp` is the `timestamp` that came. Without a `sentAt` it is what came, without a `timestamp` it is `receivedAt`.
"""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from headwater.collect.reasons import Reason
from headwater.collect.sources import Source

KINDS = frozenset({"track", "identify", "page", "screen", "group", "alias", "delete"})
KNOWN = frozenset(
    [
        "type",
        "messageId",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "event",
        "name",
        "category",
        "properties",
        "traits",
        "context",
        "integrations",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
        "version",
        "channel",
    ]
)
"""The fields that the specification names; others are kept as they are."""

MESSAGE_ID = 100
"""Longest `messageId`, characters."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_IDS = ("messageId", "userId", "anonymousId", "previousId", "groupId")
_OBJECTS = ("properties", "traits", "context", "integrations")
_decode = msgspec.json.Decoder().decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Arrival:
    """What all events of one request share.

    `ip`: of a client-side sender, else None. `sent_at`, `context`, `integrations`: as they stand at the top of a batch,
    JSON of the latter two. `corrected`: the moments are those of the sender's clock (not so for events that another
    collector passes on). `id_seed`: what a missing messageId is derived from, with the event's bytes; None = drawn.
    """

    received: datetime
    ip: str | None = None
    sent_at: Any = None
    context: bytes | None = None
    integrations: bytes | None = None
    corrected: bool = True
    future_after: timedelta = timedelta(hours=1)
    id_seed: str | None = None
    received_text: str = field(init=False)
    received_us: int = field(init=False)
    _offsets: dict[str, timedelta | None] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.received_text = _encode(self.received)[1:-1].decode()
        self.received_us = microseconds(self.received)

    def offset(self, sent: Any) -> timedelta | None:
        """How far the sender's clock is behind ours, the way included; None when `sent` is no moment."""
        if not isinstance(sent, str):
            return None
        if sent not in self._offsets:
            moment = moment_of(sent)
            self._offsets[sent] = None if moment is None else self.received - moment
        return self._offsets[sent]


def microseconds(moment: datetime) -> int:
    """Since 1970, UTC, exactly."""
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds


def moment_of(text: str) -> datetime | None:
    """The moment in UTC; without a zone it is taken to be UTC; None when it is not ISO 8601 or beyond the years 1 to 9999."""
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is UTC:
            return moment
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        return None


def prepare(item: dict[str, Any], kind: str | None, source: Source, arrival: Arrival, raw: bytes = b"") -> list[Reason]:
    """Make the payload of an accepted record out of an event, in place; or say everything that is wrong with it.

    `kind` is what the endpoint says, None when the event says it itself. With reasons the item is half made: throw it away.
    """
    reasons: list[Reason] = []
    get = item.get
    if kind is None:
        kind = get("type")
        if kind is None or kind == "":
            reasons.append(Reason("no_type", path="type"))
        elif not isinstance(kind, str) or kind not in KINDS:
            reasons.append(Reason("unknown_type", _shown(kind, source), "type"))
            kind = None
    item["type"] = kind

    for name in _IDS:
        value = get(name)
        if type(value) is str:
            if not value or value.isspace():
                item[name] = None
        elif value is not None:
            if isinstance(value, bool | dict | list):
                reasons.append(Reason("bad_type", f"{_kind(value)}; expected text or a number", name))
            else:
                item[name] = str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)
    for name in _OBJECTS:
        value = get(name)
        if type(value) is not dict and name in item:
            if value is None:
                del item[name]
            else:
                reasons.append(Reason("bad_type", f"{_kind(value)}; expected an object", name))

    user, anonymous = get("userId"), get("anonymousId")
    if kind == "alias":
        if not get("previousId"):
            reasons.append(Reason("no_previous_id", path="previousId"))
        if not user:
            reasons.append(Reason("no_user", "an alias without `userId`", "userId"))
    elif not user and not anonymous:
        near = next((name for name in ("user_id", "userID", "anonymous_id", "anonymousID") if name in item), None)
        reasons.append(Reason("no_user", f"`{near}`" if near else "neither", "userId"))
    if kind == "track":
        event = get("event")
        if event is None or event == "" or (type(event) is str and event.isspace()):
            reasons.append(Reason("no_event", path="event"))
        elif type(event) is not str:
            reasons.append(Reason("bad_type", f"{_kind(event)}; expected text", "event"))
    elif kind == "group" and not get("groupId"):
        reasons.append(Reason("no_group", path="groupId"))
    elif kind == "delete" and not source.deletes and arrival.corrected:
        reasons.append(Reason("delete_not_allowed", path="type"))
    message_id = get("messageId")
    if type(message_id) is str and len(message_id) > MESSAGE_ID:
        reasons.append(Reason("message_id_too_long", f"{len(message_id)} characters", "messageId"))

    if arrival.context is not None and type(get("context", {})) is dict:
        item["context"] = {**_decode(arrival.context), **get("context", {})}
    if arrival.integrations is not None and type(get("integrations", {})) is dict:
        item["integrations"] = {**_decode(arrival.integrations), **get("integrations", {})}
    _date(item, arrival, reasons)
    notes: list[str] = []
    if source.plan is not None and not reasons and kind is not None:
        more, notes = source.plan.check(kind, item)
        reasons += more
    if reasons:
        return reasons

    item.setdefault("userId", None)
    item.setdefault("anonymousId", None)
    if not message_id:
        item["messageId"] = str(uuid.uuid4()) if arrival.id_seed is None else derived_id(arrival.id_seed, raw)
    item["receivedAt"] = arrival.received_text
    item.pop("writeKey", None)
    if arrival.ip or notes:
        context = item.setdefault("context", {})
        if arrival.ip and context.get("ip") is None:
            context["ip"] = arrival.ip
        if notes:
            context["violations"] = notes
    if source.mask:
        source.mask.apply(item)
        if not (item.get("userId") or item.get("anonymousId")) or (kind == "alias" and not item.get("previousId")):
            return [Reason("no_user", "an id that stands for nobody, once masked", "userId")]
    return reasons


def derived_id(seed: str, raw: bytes) -> str:
    """A messageId that the same bytes get again."""
    return str(uuid.uuid5(uuid.NAMESPACE_OID, f"{seed}:{raw.hex()}"))


def _date(item: dict[str, Any], arrival: Arrival, reasons: list[Reason]) -> None:
    """Set `timestamp`, `originalTimestamp`, `sentAt` and, far ahead of our clock, `future`."""
    given = item.get("timestamp")
    field_name = "timestamp"
    if given is None:
        given = item.get("originalTimestamp")
        field_name = "originalTimestamp"
    moment = None
    if given is not None:
        moment = moment_of(given) if type(given) is str else None
        if moment is None:
            reasons.append(Reason("bad_timestamp", _kind(given), field_name))
    sent = arrival.sent_at if arrival.sent_at is not None else item.get("sentAt")
    offset = None
    if sent is not None:
        offset = arrival.offset(sent)
        if offset is None:
            reasons.append(Reason("bad_timestamp", _kind(sent), "sentAt"))
        item["sentAt"] = sent
    item.pop("future", None)
    if moment is None:
        item["timestamp"] = arrival.received_text
        return
    if arrival.corrected:
        item["originalTimestamp"] = given
        if offset is not None:
            try:
                moment += offset
            except OverflowError:
                reasons.append(
                    Reason("bad_timestamp", "a moment beyond the years 1 to 9999, once corrected", field_name)
                )
                return
    if moment - arrival.received > arrival.future_after:
        item["future"] = True
    item["timestamp"] = moment  # written as ISO 8601 in UTC with Z


def _kind(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    if isinstance(value, str):
        return f"a text of {len(value)} characters"
    return "an object" if isinstance(value, Mapping) else "a list"


def _shown(value: Any, source: Source) -> str:
    return f"{value[:40]!r}" if isinstance(value, str) and not source.mask else _kind(value)
