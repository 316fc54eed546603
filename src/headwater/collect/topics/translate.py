"""A message of somebody's Debezium -> records of the log, masked. Pure."""

import base64
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from headwater.collect import column_masks, mask
from headwater.collect.column_masks import CONSTANT
from headwater.collect.reasons import Reason
from headwater.collect.topics import columns, shapes
from headwater.collect.topics.settings import TopicSettings, TopicsSettings
from headwater.collect.topics.shapes import Said, Unfit
from headwater.errors import ConfigError, StageFailed
from headwater.records.logged import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Translator:
    """Makes entries of the messages of one source. `key`: of hashed columns. Not for several threads at once."""

    def __init__(self, settings: TopicsSettings, key: bytes | None, version: int = 1) -> None:
        tables = {name: own.model_copy(update={"mask": own.masked}) for name, own in settings.tables.items()}
        self._settings = settings.model_copy(update={"tables": tables})
        self._hash = mask.Mask({}, key, version).hash
        self._zone = ZoneInfo(settings.source_timezone)
        self._told: dict[str, list[dict[str, Any]]] = {}

    def entries(
        self, table: str, offset: int, key: bytes | None, value: bytes | None, moment_us: int, received: int
    ) -> list[Entry]:
        """What becomes of one message of the table's topic. `offset`: its place there; `moment_us`: when it was written there."""
        own = self._settings.tables[table]
        try:
            said = shapes.read(key, value)
            if said is None or (said.tombstone and self._settings.order == "lsn"):
                return []
            return list(self._changed(table, own, said, offset, moment_us, received))
        except Unfit as error:
            return [self._rejected(table, own, key, value, str(error), received)]

    def _changed(
        self, table: str, own: TopicSettings, said: Said, offset: int, moment_us: int, received: int
    ) -> Iterator[Entry]:
        lsn = said.lsn if self._settings.order == "lsn" else offset + 1
        if lsn is None:
            raise Unfit("no position in the journal; add `source.lsn` to add.fields, or set order: offset")
        at = _iso(said.at_us if said.at_us is not None else moment_us)
        payload: dict[str, Any] = {"kind": "change", "table": table, "op": said.op, "key": {}, "row": None}
        key_text = ""
        if said.op != "t":
            payload["key"] = self._key(own, said)
            key_text = json.dumps(payload["key"], ensure_ascii=False, separators=(",", ":"))
        if said.row is not None:
            absent = [name for name, found in said.row.items() if found == columns.UNAVAILABLE]
            row = {name: found for name, found in said.row.items() if name not in absent}
            payload["row"] = self._masked(own, self._values(own, row, said.fields))
            if absent := [name for name in absent if self._comes_in(own, name)]:
                payload["unavailable"] = absent
            yield from self._schema(table, own, said, payload["key"], lsn, at, received)
        payload |= {"lsn": lsn, "at": at}
        yield self._entry(table, key_text, f"{table}:{lsn}:{key_text}", payload, received)

    def _key(self, own: TopicSettings, said: Said) -> dict[str, Any]:
        found = said.key if said.key is not None else said.row
        if found is None:
            raise Unfit("no named key; set `key`, or have Debezium write keys as JSON")
        names = own.key or (list(said.key) if said.key is not None else [])
        missing = [name for name in names if name not in found]
        if not names or missing:
            raise Unfit(f"a key without {', '.join(missing) or 'names'}; set `key` to its columns")
        if one := [name for name in names if own.mask.get(name, "hash") != "hash"]:
            raise ConfigError(
                f"{self._settings.name}: {', '.join(one)} is part of the key of {own.topic}; mask it with `hash`, which keeps "
                "keys apart. Nothing of it was stored"
            )
        return self._masked(
            own, self._values(own, {name: found[name] for name in names}, said.key_fields or said.fields)
        )

    def _values(self, own: TopicSettings, row: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
        if not own.columns and not fields:
            raise Unfit("no schema, so the types are not known; declare `columns`, or set schemas.enable=true")
        return {
            name: found if found is None or own.mask.get(name) else self._value(own, name, found, fields.get(name, {}))
            for name, found in row.items()
            if self._comes_in(own, name)
        }

    def _value(self, own: TopicSettings, name: str, found: Any, schema: Mapping[str, Any]) -> Any:
        kind = own.columns.get(name) or columns.postgres_type(schema)
        try:
            return columns.value(found, kind, schema, self._settings.time_unit, self._zone)
        except Unfit as error:
            raise Unfit(f"{name}: {error}") from error

    def _masked(self, own: TopicSettings, row: dict[str, Any]) -> dict[str, Any]:
        for name, kind in own.mask.items():
            if row.get(name) is None:
                continue
            row[name] = CONSTANT if kind == "constant" else self._hash(row[name])
        return row

    @staticmethod
    def _comes_in(own: TopicSettings, name: str) -> bool:
        return own.mask.get(name) != "drop" and (not own.columns or name in own.columns)

    def _schema(
        self, table: str, own: TopicSettings, said: Said, key: Mapping[str, Any], lsn: int, at: str, received: int
    ) -> Iterator[Entry]:
        """What the columns are, when that was not said before."""
        types = own.columns or {name: columns.postgres_type(schema) for name, schema in said.fields.items()}
        told = [
            {
                "name": name,
                "type": "text" if name in own.mask else kind,
                "nullable": name not in key,
                "key": name in key,
            }
            for name, kind in types.items()
            if self._comes_in(own, name) and not name.startswith("__")
        ]
        if self._told.get(table) == told:
            return
        if unknown := sorted(set(own.mask) - set(types)):
            raise ConfigError(
                f"{self._settings.name}: {own.topic} has no column {', '.join(unknown)}, which is to be masked; it has "
                f"{', '.join(sorted(types))}. Was it renamed? Nothing of it was stored"
            )
        self._told[table] = told
        payload = {"kind": "schema", "table": table, "columns": told, "lsn": lsn, "at": at}
        digest = hashlib.sha256(json.dumps(told).encode()).hexdigest()[:12]
        yield self._entry(table, "", f"schema:{table}:{lsn}:{digest}", payload, received)

    def _entry(self, table: str, key: str, message_id: str, payload: Mapping[str, Any], received: int) -> Entry:
        body = json.dumps(payload, ensure_ascii=False, separators=(",", ":")).encode()
        return Entry("changes", self._settings.name, f"{table}:{key}", message_id, received, body)

    def _rejected(
        self, table: str, own: TopicSettings, key: bytes | None, value: bytes | None, found: str, received: int
    ) -> Entry:
        """What cannot be held; of a masked table only digest and length."""
        raw = (key or b"") + b"\n" + (value or b"")
        digest = hashlib.sha256(raw).hexdigest()
        payload: dict[str, Any] = {
            "reasons": [Reason("bad_change", found).as_json()],
            "receivedAt": _iso(received),
            "endpoint": "database",
            "arrival": {"endpoint": "database", **({"kept": "nothing", "masked": True} if own.mask else {})},
        }
        if own.mask:
            payload |= {"digest": digest, "length": len(raw)}
        else:
            payload["raw"] = base64.b64encode(raw).decode()
        body = json.dumps(payload).encode()
        return Entry("rejected", self._settings.name, table, f"{table}:{digest[:32]}", received, body)


def prove(settings: TopicsSettings, key: bytes | None, version: int = 1) -> int:
    """Send planted values of every masked column through, in every form, and look for them in all that comes out; how many
    columns were tried. Raises StageFailed, naming the column: nothing may be read then."""
    tried = 0
    for table, own in settings.tables.items():
        for column, kind in own.masked.items():
            planted = column_masks.planted(tried)
            tried += 1
            keys = own.key or ["id"]
            others = dict.fromkeys((*own.columns, *own.masked))
            row: dict[str, Any] = {**others, **dict.fromkeys(keys, 1), column: planted}
            fields = [{"field": name, "type": "string"} for name in row]
            envelope = {"before": row, "after": row, "source": {"lsn": 1, "ts_ms": 1}, "op": "u", "ts_ms": 1}
            after = [{"field": "after", "fields": fields}]
            messages: Sequence[Any] = (
                {**row, "__lsn": 1},
                {"schema": {"fields": fields}, "payload": {**row, "__lsn": 1}},
                envelope,
                {**envelope, "op": "d"},
                {**envelope, "op": "z"},
                {"schema": {"fields": after}, "payload": envelope},
                [planted],
            )
            trial = Translator(settings, key, version)
            sent = json.dumps({name: row[name] for name in keys}).encode()
            for message in messages:
                for entry in trial.entries(table, 1, sent, json.dumps(message).encode(), 1, 1):
                    if column_masks.carries((entry.payload, entry.key.encode(), entry.message_id.encode()), planted):
                        raise StageFailed(
                            f"the mask of {table}.{column} ({kind}) lets a planted value through; nothing was read"
                        )
    return tried


def _iso(micros: int) -> str:
    return (_EPOCH + timedelta(microseconds=micros)).isoformat(timespec="microseconds").replace("+00:00", "Z")
