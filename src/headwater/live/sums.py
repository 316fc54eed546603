"""A model that is kept by adding and taking away (additive.py): what one batch does to its sums, and then to its rows.

The order is the point. First the clock advances on the rows as they were before the batch: those that enter or leave between
the two moments. Then the old images go and the new ones come, both as of the new moment. (The other way round, a row that
arrives in the same batch that moves the clock over it would be counted twice.)

The sums stand in `sums.<model>` and are written in the batch's transaction, so they are always those of the clock row. When
anything but a batch has changed the model or its table, and after a failure, they are computed anew: all of them, or those
of the keys that are owed.
"""

from collections.abc import Iterator
from datetime import datetime

from headwater.live.analysis import Additive
from headwater.live.deltas import Deltas, at_moment, column_list, moment, quoted
from headwater.live.project import LiveModel
from headwater.live.refresh import Refresh, Refreshed, Run
from headwater.warehouse import Warehouse


class Sums(Refresh):
    """One additive model's part of a batch. Its table of sums is made, empty, when it is not there."""

    def __init__(
        self, warehouse: Warehouse, model: LiveModel, types: dict[str, str], run: Run, additive: Additive
    ) -> None:
        super().__init__(warehouse, model, types, run)
        self.additive = additive
        self.relation = f"sums.{quoted(model.name)}"
        self._before, self._held = f"before_{model.name}", f"held_{model.name}"
        self._moved = f"moved_{model.name}"
        self._made = self._make()

    def hold(self) -> bool:
        """Whether the sums are those of the clock row. They are not when their table has just been made, or somebody else has
        moved the clock over the moment of a row since they were written."""
        clock, written = self.warehouse.execute(
            "select (select max(as_of) from headwater.clock), (select max(as_of) from headwater.live_models where model = ?)",
            [self.model.name],
        ).fetchone() or (None, None)
        if self._made or clock is None or written is None or written > clock:
            return False
        crossings = (
            self.warehouse.value(at_moment(window.next_due.replace("{a0}", moment(written)), written))
            for window in self.model.analysis.windows
        )
        return all(at is None or at > clock for at in crossings)

    def _make(self) -> bool:
        """Make the table where it is not there; whether it had to be made. From then on the model is as of no moment, so that a
        kill before its sums are owed does not leave empty ones that are taken for right."""
        empty = self._at(self.additive.sums, f"(select * from {self.additive.table} limit 0)", datetime(1970, 1, 1))  # noqa: DTZ001
        rows = self.warehouse.execute(f"describe {empty}").fetchall()
        self._kinds = {row[0]: row[1] for row in rows}
        known = self.warehouse.execute(
            "select column_name, data_type from duckdb_columns() where database_name = current_database()"
            " and schema_name = 'sums' and table_name = ? order by column_index",
            [self.model.name],
        ).fetchall()
        if dict(known) == self._kinds:
            return False
        columns = ", ".join(
            f"{quoted(name)} {kind}{' using compression uncompressed' if kind == 'HUGEINT' or 'DECIMAL(38' in kind else ''}"
            for name, kind in self._kinds.items()  # DuckDB takes ten times as long to unpack 128 bits as to read them
        )
        with self.warehouse.transaction():
            self.warehouse.execute(f"create or replace table {self.relation} ({columns})")
            self.warehouse.execute("update headwater.live_models set as_of = null where model = ?", [self.model.name])
        self.warehouse.checkpoint()
        return True

    def whole(self, as_of: datetime, about: int = 0) -> Refreshed:
        """Compute all sums anew, and the model from them."""
        self.run(f"delete from {self.relation}")
        self.run(f"insert into {self.relation} {self._at(self.additive.sums, self.additive.table, as_of)}")
        return self._whole(self._visible(self.relation), about)

    def built(self, database: str, as_of: datetime) -> Iterator[str]:
        """The sums first, and the rows from them."""
        sums = f"{database}.main.sums"
        yield f"create table {sums} as {self._at(self.additive.sums, self.additive.table, as_of)}"
        yield self._built(database, self._visible(sums))

    def take_over(self, database: str) -> None:
        """The sums."""
        names = column_list(list(self._kinds))
        self.run(f"delete from {self.relation}")
        self.run(f"insert into {self.relation} ({names}) select {names} from {database}.main.sums")

    def keyed(self, as_of: datetime, touched: int) -> Refreshed:
        """Compute the sums of the touched keys anew, from all their rows."""
        fresh = self._at(self.additive.scoped.replace("{touched}", self.touched), self.additive.table, as_of)
        self.run(f"create or replace temp table {self._held} as {fresh}")
        self._replace(f"{quoted(self.additive.key)} in (select key from {self.touched})")
        return self._rows(touched)

    def advance(self, deltas: Deltas, a0: datetime, a1: datetime, *, crossed: bool) -> int:
        """Bring the sums from the moment `a0` before the batch to `a1` after it; how many keys that touches.

        `crossed`: the clock may cross rows. The touched keys are filled as `collect` does.
        """
        columns = ", ".join(f"sum({quoted(name)}) as {quoted(name)}" for name in self._amounts)
        nothing = " and ".join(f"sum({quoted(name)}) = 0" for name in self._amounts)
        groups = column_list(self.additive.groups)
        parts = [
            *(self._clock(deltas, a0, a1) if crossed else ()),
            *self._images(deltas, a1),
        ]
        if not parts:
            return 0
        self.run(
            f"create or replace temp table {self._moved} as select {groups}, {columns}"
            f" from ({' union all '.join(parts)}) group by {groups} having not ({nothing})"
        )
        key = quoted(self.additive.key)
        return self.run(
            f"create or replace temp table {self.touched} as select distinct cast({key} as {self.types[self.model.key]}) as key,"
            f" false as is_due from {self._moved} where {key} is not null"
        )

    def moved(self, as_of: datetime, touched: int) -> Refreshed:
        """What `advance` has found, written: the sums, then the model's rows."""
        groups, key = column_list(self.additive.groups), quoted(self.additive.key)
        names = column_list(list(self._kinds))
        summed = ", ".join(
            f"cast(sum({quoted(name)}) as {self._kinds[name]}) as {quoted(name)}" for name in self._amounts
        )
        touching = f"where {key} in (select key from {self.touched})"
        self.run(
            f"create or replace temp table {self._before} as select {names}, rowid as _row from {self.relation} {touching}"
        )
        self.run(
            f"create or replace temp table {self._held} as select {groups}, {summed} from ("
            f"select {names} from {self._before} union all select {names} from {self._moved} {touching}"
            f") group by {groups} having sum(_n) <> 0"
        )
        if self.warehouse.value(f"select exists (select 1 from {self._held} where _n < 0)"):
            return self.keyed(as_of, touched)  # fewer rows than none: what came was not what had changed
        self._replace(f"rowid in (select _row from {self._before})")
        return self._rows(touched)

    def _clock(self, deltas: Deltas, a0: datetime, a1: datetime) -> Iterator[str]:
        """What the clock does to the rows as they were: those that are there, without those that came, with those that went."""
        crossing = self.additive.crossing
        if crossing is None or a1 <= a0:
            return
        sql = crossing.replace("{a0}", moment(a0)).replace("{a1}", moment(a1))
        removed, added = self._sides(deltas)
        for rows, sign in ((self.additive.table, 1), (added, -1), (removed, 1)):
            if rows is not None:
                yield self._signed(self._at(sql, rows, a1), sign)
                yield self._signed(self._at(sql, rows, a0), -sign)

    def _images(self, deltas: Deltas, a1: datetime) -> Iterator[str]:
        """The old images, negative, and the new ones."""
        for rows, sign in zip(self._sides(deltas), (-1, 1), strict=True):
            if rows is not None:
                yield self._signed(self._at(self.additive.sums, rows, a1), sign)

    def _sides(self, deltas: Deltas) -> tuple[str | None, str | None]:
        """The rows of the table that went, and those that came."""
        if self.additive.table not in deltas:
            return None, None
        delta = deltas[self.additive.table]
        return delta.removed, delta.added

    def _signed(self, sql: str, sign: int) -> str:
        amounts = ", ".join(f"{'-' if sign < 0 else ''}{quoted(name)} as {quoted(name)}" for name in self._amounts)
        return f"select {column_list(self.additive.groups)}, {amounts} from ({sql})"

    @property
    def _amounts(self) -> list[str]:
        return [name for name in self._kinds if name not in self.additive.groups]

    def _replace(self, where: str) -> None:
        """Put the sums set aside in the place of those of the touched keys, which `where` finds."""
        names = column_list(list(self._kinds))
        self.run(f"delete from {self.relation} where {where}")
        self.run(f"insert into {self.relation} ({names}) select {names} from {self._held}")

    def _rows(self, touched: int) -> Refreshed:
        return self._keyed(self._visible(self._held), touched)

    def _visible(self, sums: str) -> str:
        return self.additive.visible.replace("{sums}", sums)

    @staticmethod
    def _at(sql: str, rows: str, as_of: datetime) -> str:
        return at_moment(sql.replace("{rows}", rows), as_of)
