"""The forms in which Debezium writes a change as JSON, all read as one.

{"schema": {…}, "payload": X}      schemas.enable=true, of keys as of values
X                                  schemas.enable=false
X = {"before", "after", "source", "op", "ts_ms"}                 the envelope
X = {…columns…, "__deleted": "true", "__op": …, "__lsn": …}      ExtractNewRecordState, with whatever add.fields adds
no value at all                                                  a tombstone
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Op = Literal["r", "c", "u", "d", "t"]

_OPS = frozenset({"r", "c", "u", "d", "t"})
_NAMES = frozenset({"op", "before", "source"})


class Unfit(ValueError):
    """A message that is none of these forms; what was found."""


@dataclass(frozen=True)
class Said:
    """One message. `row`: the columns, None where the row is gone; `key`: as the message's key has it, None without names.

    `lsn`: the position in the journal, None where it is not told. `at_us`: when the source committed, microseconds since
    1970, None where it is not told. `fields`: the schemas of the columns by name, empty without any. `tombstone`: there was
    no value.
    """

    op: Op
    row: dict[str, Any] | None
    key: dict[str, Any] | None
    lsn: int | None = None
    at_us: int | None = None
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    key_fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tombstone: bool = False
    snapshot: bool = False


def read(key: bytes | None, value: bytes | None) -> Said | None:
    """What a message says; None for what is no change of a row (a heartbeat, a message). Raises Unfit."""
    key_said, key_fields = _plain(key)
    named = key_said if isinstance(key_said, dict) else None
    if value is None:
        if key_said is None:
            raise Unfit("neither a key nor a value")
        return Said("d", None, named, key_fields=key_fields, tombstone=True)
    said, fields = _plain(value)
    if not isinstance(said, dict):
        raise Unfit(f"a {type(said).__name__} where an object belongs")
    if said.keys() >= _NAMES:
        return _enveloped(said, fields, named, key_fields)
    return _unwrapped(said, fields, named, key_fields)


def _enveloped(
    said: dict[str, Any], fields: Mapping[str, Any], key: dict[str, Any] | None, key_fields: Mapping[str, Any]
) -> Said | None:
    op = said["op"]
    if op == "m":
        return None
    if op not in _OPS:
        raise Unfit(f"op {op!r}")
    source = said.get("source") or {}
    row = said.get("after") if op in "rcu" else None
    if op in "rcu" and not isinstance(row, dict):
        raise Unfit(f"op {op!r} without a row")
    if op == "d" and key is None:
        key = said.get("before") or None
    after = fields.get("after") or fields.get("before") or {}
    columns = {one["field"]: one for one in after.get("fields", ()) if "field" in one}
    at = _micros(source, "") or _micros(said, "")
    snapshot = str(source.get("snapshot", "false")).lower() not in ("false", "", "none")
    return Said(op, row, key, _number(source.get("lsn")), at, columns, key_fields, snapshot=snapshot)


def _unwrapped(
    said: dict[str, Any], fields: Mapping[str, Any], key: dict[str, Any] | None, key_fields: Mapping[str, Any]
) -> Said:
    added = {name.removeprefix("__"): value for name, value in said.items() if name.startswith("__")}
    row = {name: value for name, value in said.items() if not name.startswith("__")}
    deleted = str(added.get("deleted", "false")).lower() == "true"
    op = added.get("op") or "u"
    if op not in _OPS:
        raise Unfit(f"__op {op!r}")
    at = _micros(added, "source_") or _micros(added, "")
    lsn = _number(added.get("source_lsn", added.get("lsn")))
    if deleted or op == "d":
        return Said("d", None, key or row, lsn, at, fields, key_fields)
    return Said(op, row, key, lsn, at, fields, key_fields)


def _plain(text: bytes | None) -> tuple[Any, Mapping[str, Any]]:
    """The value, and the schemas of its fields by name."""
    if text is None:
        return None, {}
    try:
        said = json.loads(text)
    except ValueError as error:
        raise Unfit(
            f"no JSON ({text[:1].hex() or 'nothing'}…): Avro and Protobuf need a registry, write the topic with JsonConverter"
        ) from error
    if isinstance(said, dict) and said.keys() == {"schema", "payload"}:
        schema = said["schema"] or {}
        return said["payload"], {one["field"]: one for one in schema.get("fields", ()) if "field" in one}
    return said, {}


def _micros(holder: Mapping[str, Any], prefix: str) -> int | None:
    for name, factor in (("ts_us", 1), ("ts_ms", 1_000)):
        found = _number(holder.get(prefix + name))
        if found is not None:
            return found * factor
    found = _number(holder.get(f"{prefix}ts_ns"))
    return None if found is None else found // 1_000


def _number(value: Any) -> int | None:
    return int(value) if isinstance(value, int | str) and str(value).lstrip("-").isdigit() else None
