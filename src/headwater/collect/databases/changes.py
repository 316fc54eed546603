"""What Debezium says of a change -> entries for the log. Pure, but for the order that a snapshot leaves behind.

Debezium's own envelope is read, not an unwrapped row: `unwrap` leaves truncates out, and writes empty texts into deletes.

Order. `lsn` orders the changes of one row, and a snapshot's rows among them. A transaction may write before a snapshot and
commit after it: the journal then has its change at a position below the snapshot's own, though it is the newer one. So rows of
a snapshot carry the position just before a moment noted ahead of it (`Floor`), and a change below that moment, of a
transaction that had not ended then, is lifted just above them. At most one such transaction can hold a row, and what comes
after its commit is higher still.

A row holds the columns that the table has now: what an older change says of a column that was renamed or dropped since goes
no further, because no mask is known for it.
"""

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

import msgspec

from headwater.collect.column_masks import CONSTANT
from headwater.collect.databases.masks import TEXTS, MaskBroken, Masks
from headwater.collect.databases.postgres import Column, Moment, Table
from headwater.collect.databases.settings import DatabaseSettings
from headwater.collect.reasons import Reason
from headwater.records.logged import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_encode = msgspec.json.Encoder().encode
_MADE_BY_US = frozenset({"r", "c", "u", "d", "t"})
_SPOKEN = frozenset(
    {
        "bool", "int2", "int4", "int8", "oid", "float4", "float8", "numeric", "money", "varchar", "bpchar", "text", "name",
        "citext", "enum", "uuid", "json", "jsonb", "xml", "bytea", "bit", "varbit", "date", "time", "timetz", "timestamp",
        "timestamptz", "interval", "inet", "cidr", "macaddr", "macaddr8", "int4range", "int8range", "numrange", "tsrange",
        "tstzrange", "daterange", "tsvector", "ltree", "hstore", "point", "geometry", "geography", "vector", "halfvec",
        "sparsevec",
    }
)  # fmt: skip
"""Types that Debezium sends as values; every other one comes as the text of the value, in base64."""


class _Source(msgspec.Struct, gc=False):
    table: str
    lsn: int | None = None
    ts_us: int | None = None
    txId: int | None = None  # noqa: N815 (Debezium's name)


class _Said(msgspec.Struct, gc=False):  # JSON has no cycles: nobody has to look for them
    op: str | None = None
    source: _Source | None = None
    before: dict[str, Any] | None = None
    after: dict[str, Any] | None = None
    type: str | None = None
    aggregate_type: str | None = None
    additional_data: dict[str, Any] | None = None


_decode = msgspec.json.Decoder(_Said).decode


class _Unfit(Exception):
    """A value that cannot be held."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.code)
        self.reason = reason


@dataclass(frozen=True)
class Floor:
    """A moment noted before snapshot `id` began: its rows lie just below `position`; transactions from `oldest` on may not
    be in it. `shift` is added to every position: a database that was replaced begins its journal anew."""

    id: str
    position: int
    oldest: int
    tables: tuple[str, ...]
    shift: int = 0

    @classmethod
    def at(cls, moment: Moment, tables: Sequence[str], shift: int = 0) -> "Floor":
        """For a snapshot of these tables that begins after `moment`."""
        stamp = int((moment.at - _EPOCH) / timedelta(microseconds=1))
        return cls(f"{moment.position:x}-{stamp:x}", moment.position, moment.oldest, tuple(tables), shift)


@dataclass
class Taken:
    """One batch: `entries` in their order, and what they were. `began`, `ended`: a snapshot did so in this batch."""

    entries: list[Entry] = field(default_factory=list)
    rows: int = 0
    changes: int = 0
    rejected: int = 0
    beats: int = 0
    newest_us: int = 0
    began: Floor | None = None
    ended: Floor | None = None


class _Plan:
    """What is done with the rows of one table."""

    def __init__(self, table: Table, masks: Masks, settings: DatabaseSettings, placeholders: "_Placeholders") -> None:
        self.table = table
        kinds = masks.of(table.name)
        zone = None if settings.source_timezone in ("UTC", "Etc/UTC") else ZoneInfo(settings.source_timezone)
        self.masked = bool(kinds)
        self.key = table.key
        self.columns = frozenset(column.name for column in table.columns if kinds.get(column.name) != "drop")
        self.dropped = frozenset(name for name, kind in kinds.items() if kind == "drop")
        self.toasted = tuple(column.name for column in table.columns if column.toasted and column.name in self.columns)
        self.unavailable = placeholders.known
        self.steps: list[tuple[str, Callable[[Any], Any]]] = []
        for column in table.columns:
            step = _step(column, kinds.get(column.name), masks, zone)
            if step is not None and column.name in self.columns:
                self.steps.append((column.name, step))
        self.key_steps = [(name, step) for name, step in self.steps if name in self.key]
        self.schema = [
            {
                "name": column.name,
                "type": "text" if column.name in kinds else column.type,
                "nullable": column.nullable,
                "key": column.key,
            }
            for column in table.columns
            if column.name in self.columns
        ]

    def row(self, image: dict[str, Any], *, whole: bool) -> tuple[dict[str, Any], list[str]]:
        """The row to be stored, and the columns whose values were not sent; none of a row that is known to be `whole`."""
        if not image.keys() <= self.columns:
            if leaked := self.dropped & image.keys():
                raise MaskBroken(
                    f"{self.table.name}.{min(leaked)} is to be dropped and came all the same; nothing of it was stored"
                )
            image = {name: value for name, value in image.items() if name in self.columns}
        absent = [] if whole else [name for name in self.toasted if name in image and self.unavailable(image[name])]
        for name in absent:
            del image[name]
        for name, step in self.steps:
            value = image.get(name)
            if value is not None:
                image[name] = step(value)
        return image, absent

    def key_of(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """The key of a row that is not yet masked."""
        key = {name: image[name] for name in self.key}
        for name, step in self.key_steps:
            key[name] = step(key[name])
        return key


class _Placeholders:
    """The text that Debezium sends for a value that did not change and was not sent, in all its forms."""

    def __init__(self, text: str) -> None:
        numbers = list(text.encode())
        self._texts = frozenset({text, base64.b64encode(text.encode()).decode()})
        self._lists = ([text], numbers)
        self._maps = ({text: text}, f'{{"{text}":"{text}"}}')
        self._traces = [one.encode() for one in (*self._texts, ",".join(map(str, numbers)))]

    def anywhere(self, text: bytes) -> bool:
        """Whether one of them may stand in a message."""
        return any(trace in text for trace in self._traces)

    def known(self, value: Any) -> bool:
        """Whether a value is one of them."""
        if isinstance(value, str):
            return value in self._texts or value == self._maps[1]
        if isinstance(value, list):
            return value in self._lists
        return isinstance(value, dict) and value == self._maps[0]


Fetch = Callable[[Table, Mapping[str, Any], Sequence[str]], Mapping[str, Any]]
"""(table, primary key, columns) -> the values as they are now, as Debezium would say them; empty when the row is gone."""


class Translator:
    """Makes entries of what Debezium says. `placeholder`: a text that no value has. Not for several threads at once.

    `fetch` is asked for values that were not sent of a row that is new under its key, since nothing stands there yet.
    """

    def __init__(self, settings: DatabaseSettings, masks: Masks, placeholder: str, fetch: Fetch | None = None) -> None:
        self._settings = settings
        self._fetch = fetch
        self._masks = masks
        self._placeholders = _Placeholders(placeholder)
        self._plans: dict[str, _Plan] = {}
        self._schemas: dict[str, list[dict[str, Any]]] = {}
        self.floor: Floor | None = None
        self.next: Floor | None = None
        self._lifted: dict[str, int] = {}

    def tables(self, found: Mapping[str, Table]) -> None:
        """The tables as they are now. Raises ConfigError when a mask cannot hold any more."""
        self._masks.check(found)
        for name, table in found.items():
            plan = self._plans.get(name)
            if plan is None or plan.table.columns != table.columns:
                self._plans[name] = _Plan(table, self._masks, self._settings, self._placeholders)

    def take(self, texts: Sequence[bytes], now: datetime) -> Taken:
        """The entries of a batch, in its order. Raises MaskBroken when a masked value came that should not have come."""
        taken = Taken()
        received = int((now - _EPOCH) / timedelta(microseconds=1))
        add = taken.entries.append
        all_whole = not self._placeholders.anywhere(b"\n".join(texts))  # as it mostly is: one look for the batch
        for text in texts:
            try:
                said = _decode(text)
            except (msgspec.DecodeError, UnicodeError) as error:
                add(self._rejected(None, text, [Reason("bad_change", type(error).__name__)], received))
                taken.rejected += 1
                continue
            source = said.source
            if source is None or said.op is None:
                if said.aggregate_type == "Initial Snapshot":
                    self._snapshot(said, taken, received)
                continue
            if source.table == self._settings.heartbeat_table:
                taken.beats += 1
                taken.newest_us = max(taken.newest_us, source.ts_us or 0)
                continue
            plan = self._plans.get(source.table)
            try:
                if plan is None or said.op not in _MADE_BY_US or source.lsn is None:
                    raise _Unfit(Reason("bad_change", f"op {said.op!r} of table {source.table!r}"))  # noqa: TRY301
                whole = all_whole or not self._placeholders.anywhere(text)
                entry = self._change(plan, said, source, received, whole=whole)
            except (_Unfit, KeyError, TypeError, ValueError, OverflowError) as error:
                reason = error.reason if isinstance(error, _Unfit) else Reason("bad_change", type(error).__name__)
                add(self._rejected(source.table, text, [reason], received))
                taken.rejected += 1
                continue
            if plan.schema is not self._schemas.get(source.table):
                taken.entries += self._told(plan, source.lsn, source.ts_us, received)
            add(entry)
            if said.op == "r":
                taken.rows += 1
            else:
                taken.changes += 1
            taken.newest_us = max(taken.newest_us, source.ts_us or 0)
        return taken

    # ------------------------------------------------------------------ changes

    def _change(self, plan: _Plan, said: _Said, source: _Source, received: int, *, whole: bool) -> Entry:
        name, op = source.table, said.op
        payload: dict[str, Any] = {"kind": "change", "table": name, "op": op, "key": {}, "row": None}
        if op == "t":
            key_text = ""
        else:
            image = said.before if op == "d" else said.after
            if image is None:
                raise _Unfit(Reason("bad_change", f"op {op!r} without a row"))
            payload["key"] = plan.key_of(image)
            key_text = _encode(payload["key"]).decode()
            if op == "c" and not whole and self._fetch is not None:
                image = self._completed(plan, image, self._fetch)
            if op != "d":
                payload["row"], absent = plan.row(image, whole=whole)
                if absent:
                    payload["unavailable"] = absent
        payload["at"] = _moment(source.ts_us)
        floor = self.floor
        shift = floor.shift if floor else 0
        lsn = source.lsn or 0
        message_id = f"{name}:{lsn + shift}:{key_text}"
        if op == "r" and floor is not None:
            payload["lsn"], payload["snapshot"] = floor.position - 1 + shift, floor.id
            message_id = f"{name}:{floor.id}:{key_text}"
        else:
            payload["lsn"] = self._ordered(lsn, source.txId, f"{name}:{key_text}") + shift
        return Entry("changes", self._settings.name, f"{name}:{key_text}", message_id, received, _encode(payload))

    def _completed(self, plan: _Plan, image: dict[str, Any], fetch: Fetch) -> dict[str, Any]:
        """A row whose key has changed, with the long values that did not; null when it is gone again, which is told later."""
        absent = [name for name in plan.toasted if name in image and plan.unavailable(image[name])]
        if not absent:
            return image
        key = {name: image[name] for name in plan.key}
        return {**image, **dict.fromkeys(absent), **fetch(plan.table, key, absent)}

    def _ordered(self, lsn: int, transaction: int | None, key: str) -> int:
        """The position of a change among the others of its row; see the top."""
        floor = self.floor
        if floor is None or transaction is None:
            return lsn
        last = self._lifted.get(key)
        if last is None:
            if lsn >= floor.position or (transaction - floor.oldest) % 2**32 >= 2**31:
                return lsn  # written after the moment, or by a transaction that had ended then: the snapshot has it
            last = floor.position - 1
        self._lifted[key] = max(lsn, last + 1)
        return self._lifted[key]

    # ------------------------------------------------------------------ what is not a change

    def schemas(self, now: datetime) -> list[Entry]:
        """What the columns of every known table are, as far as it was not said before."""
        received = int((now - _EPOCH) / timedelta(microseconds=1))
        lsn = self.floor.position - 1 if self.floor else 0
        return [
            entry
            for plan in self._plans.values()
            if plan.schema is not self._schemas.get(plan.table.name)
            for entry in self._told(plan, lsn, received, received)
        ]

    def _told(self, plan: _Plan, lsn: int, at_us: int | None, received: int) -> Iterator[Entry]:
        name = plan.table.name
        before = self._schemas.get(name)
        self._schemas[name] = plan.schema
        if before == plan.schema:
            return
        shift = self.floor.shift if self.floor else 0
        payload = {"kind": "schema", "table": name, "columns": plan.schema, "lsn": lsn + shift, "at": _moment(at_us)}
        digest = hashlib.sha256(_encode(plan.schema)).hexdigest()[:12]
        message_id = f"schema:{name}:{lsn + shift}:{digest}"
        yield Entry("changes", self._settings.name, f"{name}:", message_id, received, _encode(payload))

    def _snapshot(self, said: _Said, taken: Taken, received: int) -> None:
        """A notification about a snapshot, in its place among the changes."""
        if said.type == "STARTED" and self.next is not None:
            self.floor, self.next = self.next, None
            self._lifted.clear()
            taken.began = self.floor
            state = "started"
        elif said.type == "COMPLETED" and self.floor is not None:
            taken.ended = self.floor
            state = "finished"
        else:
            return
        floor = self.floor
        payload = {
            "kind": "snapshot",
            "state": state,
            "id": floor.id,
            "tables": list(floor.tables),
            "lsn": floor.position - 1 + floor.shift,
            "at": _moment(received),
        }
        if state == "started":
            taken.entries += self.schemas(_EPOCH + timedelta(microseconds=received))
        message_id = f"snapshot:{floor.id}:{state}"
        taken.entries.append(Entry("changes", self._settings.name, "", message_id, received, _encode(payload)))

    def _rejected(self, table: str | None, text: bytes, reasons: Sequence[Reason], received: int) -> Entry:
        """What cannot be held; of a masked table, and of one that is not known, only digest and length."""
        plan = self._plans.get(table or "")
        hidden = bool(self._masks) if plan is None else plan.masked
        payload: dict[str, Any] = {
            "reasons": [reason.as_json() for reason in reasons],
            "receivedAt": _moment(received),
            "endpoint": "database",
            "arrival": {"endpoint": "database", **({"kept": "nothing", "masked": True} if hidden else {})},
        }
        if hidden:
            payload |= {"digest": hashlib.sha256(text).hexdigest(), "length": len(text)}
        else:
            payload["raw"] = base64.b64encode(text).decode()
        message_id = f"{table or ''}:{hashlib.sha256(text).hexdigest()[:32]}"
        return Entry("rejected", self._settings.name, table or "", message_id, received, _encode(payload))


def encoded(said: Sequence[Mapping[str, Any]]) -> list[bytes]:
    """What Debezium would say, as it would arrive."""
    return [_encode(one) for one in said]


@lru_cache(maxsize=64)  # the changes of a transaction have one moment, and so have all rows of a snapshot
def _moment(us: int | None) -> str:
    return (_EPOCH + timedelta(microseconds=us or 0)).isoformat(timespec="microseconds").replace("+00:00", "Z")


# ---------------------------------------------------------------------- values


def _step(column: Column, kind: str | None, masks: Masks, zone: ZoneInfo | None) -> Callable[[Any], Any] | None:
    """What is done with the values of a column that are not null; None = nothing."""
    if kind == "hash":
        return masks.hashed
    if kind == "constant":
        return _constant(column) if column.base in TEXTS else lambda _: CONSTANT
    if column.base == "timestamp" and zone is not None:
        return lambda text: _from_zone(text, column.name, zone)
    if column.base in ("timestamp", "timestamptz"):
        return lambda text: _dated(text, column.name)
    if column.base == "date":
        return lambda text: _dated(text, column.name).removesuffix("Z")
    if column.base == "time":
        return lambda text: text.removesuffix("Z")
    if column.base not in _SPOKEN and not column.base.startswith("_"):
        return _text_of
    return None


def _constant(column: Column) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value != CONSTANT:
            raise MaskBroken(
                f"the column {column.name} is to be masked by Debezium and came as it is; nothing of it was stored"
            )
        return value

    return check


def _dated(text: str, column: str) -> str:
    """A moment or a day of four-digit years, which is what ISO 8601 and every warehouse hold."""
    if not (text[:4].isdigit() and text[4:5] == "-"):
        raise _Unfit(Reason("bad_timestamp", "a year before 1 or after 9999, or infinity", column))
    return text


def _from_zone(text: str, column: str, zone: ZoneInfo) -> str:
    local = datetime.fromisoformat(_dated(text, column)).replace(tzinfo=zone)
    return local.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _text_of(value: Any) -> Any:
    """A value of a type that Debezium does not know: its text, out of base64."""
    if isinstance(value, str):
        try:
            return base64.b64decode(value, validate=True).decode()
        except ValueError:
            return value
    return value
