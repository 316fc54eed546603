"""One live model in one batch: which keys are touched, what their rows should be, and the rows that differ.

All of it is SQL in the caller's transaction. Only rows that differ are written; what was removed and added is handed on to
the models below as a delta. The temporary tables of a model are made anew in each batch: emptying them instead keeps every
row version ever written in memory.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from headwater.live.deltas import Delta, Deltas, at_moment, casts, column_list, moment, quoted
from headwater.live.project import LiveModel
from headwater.warehouse import Warehouse

Run = Callable[[str], int]
"""Runs one statement and answers how many rows it wrote."""


_MANY = 50_000
"""Touched keys above which rows are compared by their hashes."""

GROWN = 4
"""How many times as many rows as it holds make a table one that has grown: hardly any of its rows can stay."""

_SOURCE_TIMES = ("updated_at", "occurred_at", "last_event_at", "linked_at")
"""Columns that say when the source of a row last spoke; the first that a model has counts."""


@dataclass(frozen=True)
class Refreshed:
    """What a refresh wrote. `content`: by how much the sum of the table's row hashes has grown; `source_time`: the newest
    moment that the added rows know of."""

    removed: int = 0
    added: int = 0
    whole: bool = False
    content: int = 0
    source_time: datetime | None = None

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


class Refresh:
    """One model's part of a batch. `types`: the table's columns and their types, in its order."""

    def __init__(self, warehouse: Warehouse, model: LiveModel, types: dict[str, str], run: Run) -> None:
        self.warehouse = warehouse
        self.model = model
        self.types = types
        self.run = run
        self.columns = column_list(list(types))
        self.key = quoted(model.key)
        self.touched = f"touched_{model.name}"
        self.diff = f"diff_{model.name}"
        self._wanted = f"wanted_{model.name}"
        at = next((name for name in _SOURCE_TIMES if types.get(name) == "TIMESTAMP"), None)
        self.newest = f"max({quoted(at)})" if at else "max(cast(null as timestamp))"
        self._nothing = f"(select {self.columns} from {model.relation} limit 0)"
        self.gone = self.came = self._nothing
        self._let_go: list[str] = []

    def collect(self, deltas: Deltas, due: Sequence[str], a1: datetime, *, owed: bool) -> int:
        """Fill the table of touched keys; how many there are. `due`: SQL of keys whose windows ended; `owed`: also those of
        headwater.due_keys."""
        parts = [
            f"select key, false as is_due from ({at_moment(deltas.rendered(path.sql, path.source), a1)})"
            for path in self.model.analysis.paths
            if path.source in deltas
        ]
        parts += [f"select key, true as is_due from ({sql})" for sql in due]
        kind = self.types[self.model.key]
        if owed:
            parts.append(
                f"select cast(key as {kind}) as key, true as is_due from headwater.due_keys"
                f" where model = '{self.model.name}' and key is not null"
            )
        if not parts:
            return 0
        return self.run(
            f"create or replace temp table {self.touched} as select cast(key as {kind}) as key, bool_and(is_due) as is_due"
            f" from ({' union all '.join(parts)}) as all_keys where key is not null group by 1"
        )

    def only(self, keys: Sequence[str]) -> None:
        """Make these the touched keys."""
        listed = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
        self.run(
            f"create or replace temp table {self.touched} as select cast(key as {self.types[self.model.key]}) as key,"
            f" false as is_due from (select unnest([{listed}]) as key)"
        )

    def leave_out_stale(self) -> int:
        """Take the keys whose SQL is known to fail out of the touched ones; how many they were."""
        return self.run(
            f"delete from {self.touched} where cast(key as varchar) in (select key from headwater.stale_keys"
            f" where origin_model = '{self.model.name}' and model = '{self.model.name}')"
        )

    def due_count(self) -> int:
        """How many of the touched keys are there only because a window ended or they were owed."""
        return int(self.warehouse.value(f"select count(*) from {self.touched} where is_due"))

    def bound(self, limit: int, since: datetime) -> int:
        """Put off all but `limit` of the due keys; how many were put off."""
        put_off = self.run(
            f"insert into headwater.due_keys select '{self.model.name}', cast(key as varchar), 'window', {moment(since)}"
            f" from (select key from {self.touched} where is_due order by key offset {limit})"
            f" where cast(key as varchar) not in (select key from headwater.due_keys where model = '{self.model.name}' and key is not null)"
        )
        self.run(
            f"delete from {self.touched} where is_due and cast(key as varchar) in"
            f" (select cast(key as varchar) from {self.touched} where is_due order by key offset {limit})"
        )
        return put_off

    def owe(self, since: datetime, because: str) -> None:
        """Write all touched keys to headwater.due_keys."""
        self.run(
            f"insert into headwater.due_keys select '{self.model.name}', cast(key as varchar), '{because}', {moment(since)}"
            f" from {self.touched} where cast(key as varchar) not in"
            f" (select key from headwater.due_keys where model = '{self.model.name}' and key is not null)"
        )

    def keyed(self, as_of: datetime, touched: int) -> Refreshed:
        """Bring the rows of the touched keys, so many, up to date."""
        return self._keyed(at_moment(self.model.analysis.scoped.replace("{touched}", self.touched), as_of), touched)

    def _keyed(self, expected: str, touched: int) -> Refreshed:
        held = f"where {self.key} in (select key from {self.touched})"
        return self._many(expected, held) if touched > _MANY else self._few(expected, held)

    def whole(self, as_of: datetime, about: int = 0) -> Refreshed:
        """Recompute the model and write the rows that differ; how they are compared depends on how many there are. `about`: a
        guess how many there will be; a wrong one costs time only."""
        return self._whole(at_moment(self.model.analysis.whole, as_of), about)

    def built(self, database: str, as_of: datetime) -> Iterator[str]:
        """SQL that makes `<database>.main.wanted`: all rows that there should be, in a database aside."""
        yield self._built(database, at_moment(self.model.analysis.whole, as_of))

    def _built(self, database: str, expected: str) -> str:
        return f"create table {database}.main.wanted as select {casts(self.types)} from ({expected})"

    def take_over(self, database: str) -> None:
        """Take what else was built aside, in the batch that takes the rows."""

    def _whole(self, expected: str, about: int) -> Refreshed:
        present = self.warehouse.value(f"select count(*) from {self.model.relation}")
        if about > max(_MANY, GROWN * present):
            return replace(self._grown(expected), whole=True)
        rows = self._set_aside(expected)
        if max(rows, present) > _MANY:
            return replace(self._hashed(rows, ""), whole=True)
        return replace(self._few(f"select {self.columns} from {self._wanted}", ""), whole=True)

    def _set_aside(self, expected: str) -> int:
        """Fill the table of the rows that there should be; how many they are."""
        self._let_go.append(self._wanted)
        return self.run(f"create or replace temp table {self._wanted} as select {casts(self.types)} from ({expected})")

    def _few(self, expected: str, held: str) -> Refreshed:
        """`diff`: each row of which the table should hold more (`_more` > 0) or fewer copies, with the rows that hold it now."""
        differing = self.run(
            f"create or replace temp table {self.diff} as"
            f" select {self.columns}, sum(_side) as _more, list(_row) filter (_row is not null) as _rows from ("
            f"select {casts(self.types)}, 1 as _side, null as _row from ({expected})"
            f" union all select {self.columns}, -1, rowid from {self.model.relation} {held}"
            f") group by {self.columns} having sum(_side) <> 0"
        )
        if not differing:
            return Refreshed()
        counts = self.warehouse.execute(
            f"select coalesce(sum(_more) filter (_more < 0), 0), coalesce(sum(_more) filter (_more > 0), 0),"
            f" sum(_more * cast(hash({self.columns}) as hugeint)), {self.newest} filter (_more > 0), max(abs(_more)) from {self.diff}"
        ).fetchone()
        assert counts is not None
        several = counts[4] > 1
        self.gone, self.came = self._copies("-_more", several), self._copies("_more", several)
        rows = f"select unnest(_rows[:cast(-_more as bigint)]) from {self.diff} where _more < 0"
        return self._write(-int(counts[0]), int(counts[1]), int(counts[2]), counts[3], rows)

    def _copies(self, more: str, several: bool) -> str:
        """The rows of `diff` on one side, as often as they went or came."""
        times = f", unnest(range(cast({more} as bigint)))" if several else ""
        return f"(select {self.columns} from (select {self.columns}{times} from {self.diff} where {more} > 0))"

    def _many(self, expected: str, held: str) -> Refreshed:
        """The same for many rows."""
        return self._hashed(self._set_aside(expected), held)

    def _hashed(self, all_of_it: int, held: str) -> Refreshed:
        """For more rows than memory holds, of which so many are set aside: compared by 128 bits of hash, which DuckDB can put on the disk meanwhile.

        That two different rows of ten million have the same 128 bits is less likely than one in 10^24.
        """
        wanted, gone, came = self._wanted, f"gone_{self.model.name}", f"came_{self.model.name}"
        hashes = f"hash({self.columns}) as _one, hash({column_list(list(reversed(self.types)))}) as _other"
        self._let_go += [gone, came, self.diff]
        self.gone = self.came = self._nothing
        if not self.warehouse.value(f"select exists (select 1 from {self.model.relation} {held})"):
            self.came = f"(select {self.columns} from {wanted})"
            content, newest = self.warehouse.execute(
                f"select coalesce(sum(cast(hash({self.columns}) as hugeint)), 0), {self.newest} from {wanted}"
            ).fetchone() or (0, None)
            return self._write(0, all_of_it, int(content), newest, "")
        differing = self.run(
            f"create or replace temp table {self.diff} as select _one, _other, sum(_side) as _more from ("
            f"select {hashes}, 1 as _side from {wanted} union all select {hashes}, -1 from {self.model.relation} {held}"
            ") group by _one, _other having sum(_side) <> 0"
        )
        if not differing:
            return Refreshed()
        removed, added, content = self.warehouse.execute(
            "select coalesce(-sum(_more) filter (_more < 0), 0), coalesce(sum(_more) filter (_more > 0), 0),"
            f" sum(_more * cast(_one as hugeint)) from {self.diff}"
        ).fetchone() or (0, 0, 0)
        self._pick(gone, f"select *, rowid as _row, {hashes} from {self.model.relation} {held}", "-_more", int(removed))
        self._pick(came, f"select *, null as _row, {hashes} from {wanted}", "_more", int(added))
        self.gone, self.came = f"(select {self.columns} from {gone})", f"(select {self.columns} from {came})"
        newest = self.warehouse.value(f"select {self.newest} from {came}")
        return self._write(int(removed), int(added), int(content), newest, f"select _row from {gone}")

    def _grown(self, expected: str) -> Refreshed:
        """The same for a whole table that holds few of its rows: those are taken out, and all that there should be is written
        straight into it, once. A row that was there before and is there again neither went nor came."""
        relation = self.model.relation
        old, same, gone = (f"{name}_{self.model.name}" for name in ("old", "same", "gone"))
        both = f"hash({self.columns}) as _one, hash({column_list(list(reversed(self.types)))}) as _other"
        self._let_go += [old, same, gone]
        held = self.run(f"create or replace temp table {old} as select {self.columns}, {both} from {relation}")
        if held:
            self.run(f"delete from {relation}")
        written = self.run(f"insert into {relation} ({self.columns}) select {casts(self.types)} from ({expected})")
        content = self._sum(f"hash({self.columns})", relation) - self._sum("_one", old)
        kept = removed = 0
        if held:
            kept = self.run(
                f"create or replace temp table {same} as select _row, _one, _other from (select rowid as _row, {both} from {relation})"
                f" inner join (select _one, _other, count(*) as _many from {old} group by all) using (_one, _other)"
                " qualify row_number() over (partition by _one, _other) <= _many"
            )
            removed = self.run(
                f"create or replace temp table {gone} as select {self.columns} from ("
                f"select *, row_number() over (partition by _one, _other) as _nth from {old})"
                f" left join (select _one, _other, count(*) as _kept from {same} group by all) using (_one, _other)"
                " where _nth > coalesce(_kept, 0)"
            )
        stays = f" where rowid not in (select _row from {same})" if kept else ""
        self.gone = f"(select {self.columns} from {gone})" if removed else self._nothing
        self.came = f"(select {self.columns} from {relation}{stays})"
        newest = self.warehouse.value(f"select {self.newest} from {self.came}")
        return Refreshed(removed, written - kept, content=content, source_time=newest)

    def _sum(self, hashed: str, rows: str) -> int:
        """The sum of the hashes of rows."""
        return int(self.warehouse.value(f"select coalesce(sum(cast({hashed} as hugeint)), 0) from {rows}"))

    def _pick(self, table: str, rows: str, more: str, count: int) -> None:
        """Make `table` of those `rows` of which there are too many, or too few: of equal ones as many copies as differ."""
        differing = f"{self.diff} as differing where {more} > 0 and differing._one = held._one and differing._other = held._other"
        picked = self.run(
            f"create or replace temp table {table} as select {self.columns}, _row from ({rows}) as held where exists (select 1 from {differing})"
        )
        if picked != count:
            self.run(
                f"create or replace temp table {table} as select {self.columns}, _row from ({rows}) as held inner join {self.diff} as differing"
                f" using (_one, _other) where {more} > 0 qualify row_number() over (partition by _one, _other) <= {more}"
            )

    def _write(self, removed: int, added: int, content: int, newest: datetime | None, rows: str) -> Refreshed:
        """Delete the row numbers that `rows` selects, insert `came`."""
        if removed:
            self.run(f"delete from {self.model.relation} where rowid in ({rows})")
        if added:
            self.run(f"insert into {self.model.relation} ({self.columns}) select {self.columns} from {self.came}")
        return Refreshed(removed, added, content=content, source_time=newest)

    def let_go(self) -> None:
        """Give back what a large refresh has put aside; when the models below have read it."""
        for table in self._let_go:
            self.warehouse.execute(f"drop table if exists temp.main.{quoted(table)}")
        self._let_go = []

    def delta(self, done: Refreshed) -> Delta:
        """The rows that went and came, for the models below."""
        return Delta(self.gone if done.removed else None, self.came if done.added else None)

    def record_changes(self, done: Refreshed, version: int, as_of: datetime) -> None:
        """Write the changed rows to headwater.model_changes; a row that went and one that came under a key are an update."""
        if not done:
            return
        key = f"cast({self.key} as varchar)"  # a table that was swapped may have had a key of another type
        sides = {
            side: f"(select {key} as key, row_number() over (partition by {key}) as nth, to_json(image) as image from {table} as image)"
            for side, table in (("old", self.gone), ("new", self.came))
        }
        self.run(
            f"""insert into headwater.model_changes (model, key, op, old, new, version, as_of)
            select
                '{self.model.name}', coalesce(old.key, new.key),
                case when old.image is null then 'insert' when new.image is null then 'delete' else 'update' end,
                old.image, new.image, {version}, {moment(as_of)}
            from {sides["old"]} as old
            full outer join {sides["new"]} as new on old.key is not distinct from new.key and old.nth = new.nth"""
        )
