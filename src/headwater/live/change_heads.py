"""What must be known of a record of topic changes before SQL takes it apart, and why one cannot be read."""

from datetime import datetime
from typing import Any

import msgspec

from headwater.live.texts import END
from headwater.records.logged import Record

_OPS = ("r", "c", "u", "d", "t")


class Head(msgspec.Struct, gc=False):
    """What must be known of a record before SQL takes it apart. JSON has no cycles, so nobody looks for them."""

    kind: str
    lsn: int
    at: datetime
    table: str = ""
    op: str = ""
    key: dict[str, Any] | None = None
    unavailable: list[str] | None = None
    snapshot: str | None = None
    state: str = ""
    id: str = ""
    tables: list[str] | None = None
    columns: list[dict[str, Any]] | None = None


_head = msgspec.json.Decoder(Head).decode
whole = msgspec.json.Decoder(dict[str, Any]).decode

SENTENCES = {
    "bad_json": "the engine could not read the logged change",
    "unknown_change": "it is neither a change (r, c, u, d, t), a schema nor a snapshot",
    "bad_time": "its moment is no moment",
    "no_key": "it has no primary key, or a null in it",
    "value_not_sent": "a value that did not change was not sent, and no older version of the row is known",
}


def readable(record: Record) -> Head | str:
    """The head of a record, or the code of why it has none."""
    try:
        record.payload.decode()
        head = _head(record.payload)
    except (UnicodeDecodeError, msgspec.DecodeError):
        return "bad_json"
    if END.encode() in record.payload:
        return "bad_json"
    known = {"change": head.op in _OPS, "schema": bool(head.columns), "snapshot": head.state in ("started", "finished")}
    if not known.get(head.kind) or (head.kind != "snapshot" and not head.table):
        return "unknown_change"
    if head.kind == "change" and head.op != "t" and not head.key:
        return "no_key"
    if head.at.tzinfo is None:
        return "bad_time"
    return head
