"""Very many rows at a time: claimed, sent and recorded by one statement each, for destinations that take a `RowSet`.

The same states, ids and promises as a row by itself has: a set is claimed under a batch id, re-checked, sent, and only what
the destination confirmed is done. A set that is refused is halved, and again, until a part is as small as one batch; what
else goes wrong, or is that small, is made into operations and goes through the sender, where each row gets its own answer.
While the destination takes one set the next can be claimed and read: a set's rows lie in a table, and as text, of its own.
A row goes in a set only where what is sent is what will be confirmed (`delivered.<sync>__next._headwater_plain`).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from dataclasses import field as dataclass_field
from functools import partial
from itertools import cycle
from typing import Any

from headwater.activation import delivered, outbox
from headwater.activation.destinations import Later, Operation, Rejected, RowSet, Unusable
from headwater.activation.mapping import Field, literal, quoted
from headwater.activation.outbox import CLAIM
from headwater.activation.plan import Plan, Recheck
from headwater.activation.runs import KEEP_BODIES
from headwater.activation.send import Sender
from headwater.clock import Clock, naive_utc
from headwater.warehouse import Warehouse

_SETS = ("activation_set_odd", "activation_set_even")
"""The temporary tables that sets lie in, in turn: one is at the destination, the next is claimed."""
_LINES = 20_000
"""Rows in one part of the text that a destination reads."""


@dataclass(frozen=True)
class Part:
    """Rows of a claimed set: places `first` up to before `last`. `doubt`: they may have been written already."""

    first: int
    last: int
    doubt: bool = False

    @property
    def rows(self) -> int:
        return self.last - self.first


@dataclass(frozen=True)
class Claimed:
    """A set that was taken in one go, how many rows a rule held back, and the temporary table that it lies in.

    `fields` are those that some row has a value for; `text` is what the destination is to get.
    """

    batch_id: str
    table: str
    rows: int
    held: int
    removal: bool
    fields: tuple[Field, ...] = ()
    text: tuple[str, ...] = dataclass_field(default=(), repr=False)

    @property
    def whole(self) -> Part:
        return Part(0, self.rows)


@dataclass(frozen=True)
class Sets:
    """The sets of one run: `rows` at most in one; halves of one that is refused stay sets while they are above `batch_rows`."""

    warehouse: Warehouse
    plan: Plan
    clock: Clock
    rows: int
    batch_rows: int
    write_nulls: bool
    fields: tuple[Field, ...]
    tables: Iterator[str] = dataclass_field(default_factory=lambda: cycle(_SETS))

    def claim(
        self, batch_ids: Iterator[str], recheck: Recheck | None, release: outbox.Release | None
    ) -> Claimed | None:
        """Take the next set: one that a crash left, under its own id, or a new one; None when what is next needs batches.

        In one transaction: rows that `recheck` names go to held, `release` is called for the rest, which become claimed.
        At most two sets may be claimed and not recorded.
        """
        now, table = naive_utc(self.clock.now()), next(self.tables)
        with self.warehouse.transaction():
            again = outbox.left_over(self.warehouse, self.plan, now)
            if again and again[0][1] <= self.batch_rows:
                return None
            removal = self._take(table, now, again[0][0] if again else None)
            if removal is None:
                return None
            held = self._reserve(table, recheck, release, now)
            if held:
                self.warehouse.execute(
                    f"create or replace temp table {table} as select * from {table} "
                    f"where _headwater_operation_id in (select operation_id from {CLAIM})"
                )
            batch_id = again[0][0] if again else next(batch_ids)
            self.warehouse.execute(
                f"update headwater.outbox set state = 'claimed', claimed_by = {literal(batch_id)}, updated_at = timestamp '{now}' "
                f"where rowid in (select _headwater_row from {table})"
            )
            rows = self.warehouse.value(f"select count(*) from {table}")
        claimed = Claimed(batch_id, table, rows, held, removal)
        if not removal:
            claimed = replace(claimed, fields=tuple(self._filled(table)))
        return replace(claimed, text=tuple(self._lines(claimed, claimed.whole)))

    def left_over(self) -> bool:
        """Whether there are rows that a crash left without an answer; those that are no set are to go in batches, before the sets."""
        return bool(outbox.left_over(self.warehouse, self.plan, naive_utc(self.clock.now())))

    def give_back(self, claimed: Claimed) -> None:
        """A set of which nothing was sent: its rows wait again, as doubtful as they were."""
        self.warehouse.execute(
            f"update headwater.outbox set state = 'ready', updated_at = timestamp '{naive_utc(self.clock.now())}' "
            f"where {self._of(claimed)}"
        )

    def _of(self, claimed: Claimed) -> str:
        """The condition on the outbox for the rows of a claimed set."""
        return f"sync = {literal(self.plan.sync)} and state = 'claimed' and claimed_by = {literal(claimed.batch_id)}"

    def _take(self, table: str, now: Any, batch_id: str | None) -> bool | None:
        """Put rows of one kind into the table; whether they are removals, None when there are none."""
        following = delivered.pending(self.plan.sync)
        fields = "".join(f", n.{quoted(name)}" for name in delivered.fields(self.warehouse, self.plan.sync))
        mixed = self.warehouse.value(f"select exists (select 1 from {following} where _headwater_plain is not true)")
        plain = f"and operation_id in (select _headwater_operation_id from {following} where _headwater_plain)"
        for removal in (False, True):
            which = f"operation {'=' if removal else '<>'} 'delete'"
            if mixed and not removal:
                which += f" {plain}"
            if batch_id is not None:
                which += f" and in_doubt and claimed_by = {literal(batch_id)}"
            joined = "" if removal else f"join {following} n on n._headwater_operation_id = o.operation_id"
            self.warehouse.execute(
                f"create or replace temp table {table} as select o.rowid as _headwater_row, o.operation_id as _headwater_operation_id, "
                f"o.key as _headwater_key, o.version as _headwater_version, o.operation as _headwater_operation, "
                f"o.decision_id as _headwater_decision_id, o.customer_id as _headwater_customer_id{'' if removal else fields} "
                f"from (select rowid, operation_id, key, version, operation, decision_id, customer_id from headwater.outbox "
                f"where {outbox.ready(self.plan, now)} and {which} limit {self.rows}) o {joined}"
            )
            if self.warehouse.value(f"select count(*) from {table}"):
                return removal
        return None

    def _reserve(self, table: str, recheck: Recheck | None, release: outbox.Release | None, now: Any) -> int:
        """Ask the rules about the set and tell who is contacted; returns how many are held and are not in the claim."""
        if recheck is None and release is None:
            return 0
        self.warehouse.execute(
            f"create or replace temp table {CLAIM} as select _headwater_operation_id as operation_id, _headwater_key as key, "
            f"_headwater_operation as operation, _headwater_decision_id as decision_id, "
            f"_headwater_customer_id as customer_id from {table}"
        )
        return outbox.reserve(self.warehouse, recheck, release, now)

    # sending

    def send(self, claimed: Claimed, sender: Sender) -> Exception | None:
        """Hand the set over; None when the destination confirmed it, else what it said. Does not touch the warehouse."""
        return sender.send_set(self._rows(claimed, claimed.whole, lambda: iter(claimed.text))) if claimed.rows else None

    def divide(self, claimed: Claimed, error: Exception | None, sender: Sender) -> tuple[list[Part], list[Part]]:
        """After `send`: the parts that the destination confirmed, and those that must go row by row. Halves are sent here."""
        return self._divide(claimed, claimed.whole, error, sender) if claimed.rows else ([], [])

    def _divide(
        self, claimed: Claimed, part: Part, error: Exception | None, sender: Sender
    ) -> tuple[list[Part], list[Part]]:
        """`divide` of a part, of which the destination has said `error`."""
        if error is None:
            return [part], []
        surely_not = isinstance(error, Rejected | Unusable) or (isinstance(error, Later) and not error.in_doubt)
        part = replace(part, doubt=part.doubt or not surely_not)  # after a bug nobody knows how far it came
        if isinstance(error, Later | Unusable) or part.rows <= self.batch_rows:
            return [], [part]
        done: list[Part] = []
        rest: list[Part] = []
        middle = (part.first + part.last) // 2
        for half in (replace(part, last=middle), replace(part, first=middle)):
            if half.rows <= self.batch_rows:
                rest.append(half)
                continue
            said = sender.send_set(self._rows(claimed, half, partial(self._lines, claimed, half)))
            confirmed, left = self._divide(claimed, half, said, sender)
            done += confirmed
            rest += left
        return done, rest

    def _filled(self, table: str) -> list[Field]:
        """The fields that any row of the set has a value for; all of them where a null clears."""
        if self.write_nulls or not self.fields:
            return list(self.fields)
        asked = ", ".join(f"coalesce(bool_or({quoted(field.name)} is not null), false)" for field in self.fields)
        (has,) = self.warehouse.execute(f"select {asked} from {table}").fetchall()
        return [field for field, any_value in zip(self.fields, has, strict=True) if any_value]

    def _lines(self, claimed: Claimed, part: Part) -> Iterator[str]:
        """The part as CSV, so many lines at a time."""
        cells = [_cell("_headwater_key"), *(_cell(quoted(field.name), field) for field in claimed.fields)]
        line = "concat(" + ", ',', ".join(cells) + ")"  # for which a null is nothing
        for first in range(part.first, part.last, _LINES):
            yield self.warehouse.value(
                f"select string_agg({line}, chr(10)) || chr(10) from {claimed.table} "
                f"where rowid >= {first} and rowid < {min(first + _LINES, part.last)}"
            )

    def _rows(self, claimed: Claimed, part: Part, read: Callable[[], Iterator[str]]) -> RowSet:
        return RowSet(
            claimed.batch_id,
            self.plan.sync,
            part.rows,
            claimed.removal,
            tuple(field.name for field in claimed.fields),
            {field.name: field.type for field in claimed.fields},
            self.write_nulls,
            read,
        )

    def batches(self, claimed: Claimed, rest: Sequence[Part]) -> dict[str, tuple[Operation, ...]]:
        """The rows that go one by one, in batches, by parts of the set's id."""
        batches: dict[str, tuple[Operation, ...]] = {}
        for part in rest:
            operations = [
                replace(row, in_doubt=row.in_doubt or part.doubt)
                for row in outbox.operations(
                    self.warehouse, f"select _headwater_operation_id from {_within(claimed, part)}"
                )
            ]
            for start in range(0, len(operations), self.batch_rows):
                batch_id = f"{claimed.batch_id}-{len(batches) + 1:04d}"
                batches[batch_id] = tuple(operations[start : start + self.batch_rows])
        return batches

    # the books

    def record(self, sync_run_id: str, claimed: Claimed, done: Sequence[Part]) -> int:
        """Write that these parts are confirmed, and a row of the log for each of theirs; returns how many rows they are.

        Call inside a transaction.
        """
        rows = sum(part.rows for part in done)
        if not rows:
            return 0
        now = naive_utc(self.clock.now())
        confirmed, ids = claimed.table, self._of(claimed)
        if rows < claimed.rows:
            confirmed = f"{claimed.table}_done"
            self.warehouse.execute(
                f"create or replace temp table {confirmed} as "
                + " union all ".join(f"select * from {_within(claimed, part)}" for part in done)
            )
            ids = f"operation_id in (select _headwater_operation_id from {confirmed})"
        self.warehouse.execute(
            f"update headwater.outbox set code = null, reason = null, in_doubt = false, available_at = null "
            f"where (code is not null or reason is not null or in_doubt or available_at is not null) and {ids}"
        )
        self.warehouse.execute(
            f"update headwater.outbox set state = 'done', attempts = attempts + 1, updated_at = timestamp '{now}' where {ids}"
        )
        delivered.confirm_set(self.warehouse, self.plan.sync, confirmed, self.clock, removal=claimed.removal)
        self._log(sync_run_id, claimed, confirmed, rows, now)
        return rows

    def _log(self, sync_run_id: str, claimed: Claimed, confirmed: str, rows: int, now: Any) -> None:
        """One row per operation, all in one statement, for row groups to be full; what was sent is kept of the last few."""
        self.warehouse.execute(
            f"create or replace temp table {confirmed}_kept as select operation_id, "
            f"json_object('operation', operation, 'key', key, 'fields', payload) as request from headwater.outbox "
            f"where sync = {literal(self.plan.sync)} and claimed_by = {literal(claimed.batch_id)} and operation_id in "
            f"(select _headwater_operation_id from {confirmed} where rowid >= {rows - KEEP_BODIES})"
        )
        self.warehouse.execute(
            f"insert into headwater.sync_rows select {literal(sync_run_id)}, {literal(self.plan.sync)}, "
            f"s._headwater_operation_id, s._headwater_key, s._headwater_operation, 1, 'done', null, null, null, k.request, null, "
            f"timestamp '{now}' from {confirmed} s left join {confirmed}_kept k on k.operation_id = s._headwater_operation_id"
        )


def _within(claimed: Claimed, part: Part) -> str:
    return f"(select * from {claimed.table} where rowid >= {part.first} and rowid < {part.last})"


def _cell(value: str, field: Field | None = None) -> str:
    """SQL for one value as it stands in a line of CSV: text quoted, a null as null."""
    kind = "VARCHAR" if field is None else field.type
    value = value if field is None else field.text(value)
    if kind in _BARE or kind.startswith("DECIMAL"):
        return value
    return f"""'"' || case when contains({value}, '"') then replace({value}, '"', '""') else {value} end || '"'"""


_BARE = {
    *("BOOLEAN", "TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"),
    *("UHUGEINT", "FLOAT", "DOUBLE", "DATE"),
}
"""Types whose text never holds a comma, a quote or a line's end, and is never empty."""
