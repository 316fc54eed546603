"""Large models that are owed as a whole are built aside: their old rows serve, and the engine goes on with everything else.

    begun      between two batches: a connection of its own sees the warehouse as it is at that clock, and nothing later
    built      in a thread of its own: the rows as they should be at that clock, and how they differ from those that are there
    meanwhile  no batch writes the model's table; the keys that a batch touches are owed (headwater.due_keys)
    taken      in one batch: what differs of all other keys is written, and the owed keys are refreshed at the batch's clock
    swapped    instead, between two batches, where the columns differ: the new table takes the place of the old one

Because the table stands still, what the thread has found is still true in the batch that takes it, and that batch writes no
more than what differs. What is built lies in a database in memory (beyond `live.memory_limit` in DuckDB's temporary files): a
kill, a stop, a command that needs the file leave nothing of it, no snapshot and no new file has it, and nobody who is
forgotten meanwhile can come back from it. The model is owed until it is taken, so whoever opens the warehouse next begins again.

One model is built at a time, in their order. A changed model below one that is about to change waits for it, whatever its size:
the two may have changed together.
"""

import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from datetime import datetime

from headwater.clock import naive_utc
from headwater.failpoint import failpoint
from headwater.live import contents
from headwater.live.deltas import column_list
from headwater.live.project import LiveModel, Project
from headwater.live.refresh import Refresh, Refreshed
from headwater.live.standing import CHANGED, PUT_OFF, Standing
from headwater.warehouse import Warehouse

DATABASE = "headwater_aside"
"""What the database in memory is called; all of the warehouse's connections see it."""

_WANTED, _GONE, _CAME, _DIFFERING = (f"{DATABASE}.main.{name}" for name in ("wanted", "gone", "came", "differing"))
_PAUSE = 0.02
_TOLD_SECONDS = 2.0


class _Unwanted(Exception):
    """The build is to end."""


class _Build:
    """One model on its way, until `end`. `error`: why the thread has ended without its rows."""

    def __init__(self, warehouse: Warehouse, refresh: Refresh, as_of: datetime, *, other_shape: bool) -> None:
        self.refresh = refresh
        self.stage = "its rows are computed"
        self.error: Exception | None = None
        self._as_of = as_of
        self._other_shape = other_shape
        self._unwanted = threading.Event()
        self._own = warehouse.sibling()
        try:
            self._own.execute("set enable_progress_bar = true")
            self._own.execute("set enable_progress_bar_print = false")
            self._own.execute(f"attach ':memory:' as {DATABASE} (compress)")
            self._own.execute("begin transaction")
            self._own.execute(
                "select max(as_of) from headwater.clock"
            ).fetchone()  # what it sees now it sees until the end
        except BaseException:
            self._let_go()
            raise
        self._thread = threading.Thread(target=self._work, name="aside", daemon=True)
        self._thread.start()

    @property
    def ended(self) -> bool:
        return not self._thread.is_alive()

    def how_far(self) -> str:
        done = self._own.progress()
        return self.stage if done is None else f"{self.stage}, {done:.0%} done"

    def end(self) -> None:
        """Stop it if it is not done, and let go of all that it has made."""
        self._unwanted.set()
        while not self.ended:
            self._own.interrupt()
            self._thread.join(_PAUSE)
        self._let_go()

    def _let_go(self) -> None:
        """Give the file back, also when DuckDB answers nothing any more (after a write to a full disk, say)."""
        for sql in ("rollback", f"detach {DATABASE}"):
            with suppress(Exception):  # no transaction, or no database
                self._own.execute(sql)
        self._own.close()

    def _work(self) -> None:
        try:
            for sql in self.refresh.built(DATABASE, self._as_of):
                self._run(sql)
            if not self._other_shape:
                self.stage = "its rows are compared"
                self._compare()
            self._own.execute("commit")
        except Exception as error:
            self.error = error
            with suppress(Exception):
                self._own.execute("rollback")

    def _run(self, sql: str) -> None:
        failpoint("live.aside")
        if self._unwanted.is_set():
            raise _Unwanted
        self._own.execute(sql)

    def _compare(self) -> None:
        """The rows that go and those that come, compared by 128 bits of hash; of equal rows as many copies as differ."""
        columns, hashes, table = self.refresh.columns, _hashes(self.refresh), self.refresh.model.relation
        self._run(
            f"create table {_DIFFERING} as select _one, _other, sum(_side) as _more from (select {hashes}, 1 as _side from {_WANTED}"
            f" union all select {hashes}, -1 from {table}) group by _one, _other having sum(_side) <> 0"
        )
        for name, rows, more in ((_GONE, table, "-_more"), (_CAME, _WANTED, "_more")):
            self._run(
                f"create table {name} as select {columns}, _one, _other from (select {columns}, {hashes} from {rows})"
                f" inner join {_DIFFERING} using (_one, _other) where {more} > 0"
                f" qualify row_number() over (partition by _one, _other) <= {more}"
            )
        for name in (_WANTED, _DIFFERING):
            self._run(f"drop table {name}")


class Aside:
    """What one engine builds aside, until `end`; of the engine's thread. `always_whole`: models that every batch recomputes whole.

    `other_shape`: models whose tables have other columns than their SQL. `names`: the models that batches leave alone.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        project: Project,
        refreshes: Mapping[str, Refresh],
        standing: Standing,
        always_whole: Collection[str],
        other_shape: Collection[str],
    ) -> None:
        self.warehouse = warehouse
        self.names: frozenset[str] = frozenset()
        self._project = project
        self._refreshes = refreshes
        self._standing = standing
        self._always_whole = always_whole
        self._other_shape = other_shape
        self._build: _Build | None = None
        self._began = ""
        self._told_at = 0.0

    # ------------------------------------------------------------------ which models

    def choose(self) -> None:
        """Which models batches leave alone, after it was read how the models stand."""
        found: set[str] = set()
        tables: set[str] = set()
        for model in self._project.models:
            because = self._standing.owed.get(model.name, (0, None))[1]
            if because is None:
                continue
            large = (
                because != PUT_OFF
                and model.name not in self._always_whole
                and is_large(self.warehouse, model, self._rows)
            )
            waits = because == CHANGED and not tables.isdisjoint(model.analysis.reads)
            if large or waits or model.name in self._other_shape:
                found.add(model.name)
                if model.name not in self._standing.stopped:
                    tables.add(model.relation)
        self.names = frozenset(found)

    @property
    def _rows(self) -> int:
        return self._standing.settings.aside_rows

    def _next(self, now: datetime) -> LiveModel | None:
        """The model whose turn it is: none that it reads is about to change as a whole."""
        coming: set[str] = set()
        for model in self._project.models:
            if not self._standing.owed.get(model.name, (0, None))[1] or model.name in self._always_whole:
                continue
            if model.name in self.names and coming.isdisjoint(model.analysis.reads):
                if self._standing.may_retry(model.name, now):
                    return model
            elif model.name not in self._standing.stopped:
                coming.add(model.relation)
        return None

    # ------------------------------------------------------------------ between two batches

    @property
    def model(self) -> str | None:
        """The model that is built, or built and not yet taken."""
        return self._build.refresh.model.name if self._build else None

    @property
    def ready(self) -> bool:
        """Whether the model can be taken."""
        return self._build is not None and self._build.ended and self._build.error is None

    @property
    def to_swap(self) -> str | None:
        """The model whose table is to be swapped now."""
        return self.model if self.ready and self.model in self._other_shape else None

    def go_on(self, as_of: datetime, now: datetime) -> Exception | None:
        """Begin with the next model, as of the clock that is committed, or say how far the present one is.

        The answer: why the present one cannot be built; it is let go then.
        """
        if self._build is not None and self._build.ended and self._build.error is not None:
            return self._build.error
        if self.model is not None and self.model not in self.names:  # a batch has recomputed it, or put it off
            self.end()
        if self.model is not None:
            self._tell(self.model)
        elif self.names and (model := self._next(now)) is not None:
            self._begin(model, as_of)
        return None

    def _begin(self, model: LiveModel, as_of: datetime) -> None:
        since = naive_utc(self._standing.clock.now())
        self._began = f"is built aside since {since:%Y-%m-%d %H:%M:%S} UTC"
        with self.warehouse.transaction():
            self.warehouse.execute("delete from headwater.due_keys where model = ? and key is not null", [model.name])
            for name in sorted(self.names - self._standing.stopped | {model.name}):
                text = self._began if name == model.name else f"waits until {model.name} is built aside"
                self._standing.say(name, "rebuilding", f"{text}; its last rows serve")
        self._standing.read()
        self.choose()
        self._build = _Build(
            self.warehouse, self._refreshes[model.name], as_of, other_shape=model.name in self._other_shape
        )
        self._told_at = time.monotonic()

    def _tell(self, name: str) -> None:
        """How far it is, now and then."""
        if self._build is None or self._build.ended or time.monotonic() < self._told_at + _TOLD_SECONDS:
            return
        self._told_at = time.monotonic()
        self._standing.say(name, "rebuilding", f"{self._began} ({self._build.how_far()}); its last rows serve")

    def end(self) -> None:
        """Let go of what is built or was taken; the model is as it is."""
        build, self._build = self._build, None
        if build is not None:
            build.end()

    # ------------------------------------------------------------------ within a batch

    def take(self, as_of: datetime, touched: int) -> Refreshed:
        """Write what differs, in the batch's transaction; so many touched keys are refreshed at `as_of` instead.

        What went and came is the refresh's then, for the models below. Raises RuntimeError when the table was not left alone.
        """
        assert self._build is not None
        refresh = self._build.refresh
        refresh.take_over(DATABASE)
        done = self._write(refresh, touched)
        failpoint("live.aside_written")
        late = Refreshed()
        if touched:
            gone, came = refresh.gone, refresh.came
            late = refresh.keyed(as_of, touched)
            if late:
                refresh.gone, refresh.came = (
                    f"(select {refresh.columns} from {first} union all select {refresh.columns} from {then})"
                    for first, then in ((gone, refresh.gone), (came, refresh.came))
                )
            else:  # comparing many rows has left nothing in their place
                refresh.gone, refresh.came = gone, came
        newest = max((at for at in (done.source_time, late.source_time) if at is not None), default=None)
        removed, added = done.removed + late.removed, done.added + late.added
        return Refreshed(removed, added, whole=True, content=done.content + late.content, source_time=newest)

    def _write(self, refresh: Refresh, touched: int) -> Refreshed:
        columns, key, table = refresh.columns, refresh.key, refresh.model.relation
        others = f"({key} is null or {key} not in (select key from {refresh.touched}))" if touched else "true"
        refresh.gone, refresh.came = (f"(select {columns} from {side} where {others})" for side in (_GONE, _CAME))
        (removed, went, _), (added, came, newest) = (
            self.warehouse.execute(
                f"select count(*), coalesce(sum(cast(_one as hugeint)), 0), {refresh.newest} from {side} where {others}"
            ).fetchone()
            or (0, 0, None)
            for side in (_GONE, _CAME)
        )
        if removed:
            deleted = refresh.run(
                f"delete from {table} where rowid in (select _row from"
                f" (select rowid as _row, {_hashes(refresh)} from {table} where {key} is null or {key} in (select {key} from {_GONE}))"
                f" inner join (select _one, _other, count(*) as _more from {_GONE} where {others} group by _one, _other)"
                " using (_one, _other) qualify row_number() over (partition by _one, _other) <= _more)"
            )
            if deleted != removed:
                raise RuntimeError(
                    f"{table} was changed by somebody else while it was built aside: of the rows that go it holds {deleted:,}, not {removed:,}"
                )
        if added:
            refresh.run(f"insert into {table} ({columns}) select {columns} from {refresh.came}")
        return Refreshed(int(removed), int(added), content=int(came) - int(went), source_time=newest)

    def swap(self, as_of: datetime, touched: int, changed: Callable[[Refreshed], None]) -> None:
        """Put the new table in the place of the old one and refresh the touched keys, in a transaction between two batches.

        `changed` is called while the old rows and the new ones are the refresh's `gone` and `came`.
        """
        assert self._build is not None
        refresh, table = self._build.refresh, self._build.refresh.model.relation
        before, followed = f"was_{refresh.model.name}", refresh.model.changes
        keyed = refresh.model.key in contents.types(self.warehouse, table)  # else nobody knows whose the old rows were
        rows = f"select * from {table}" if keyed else f"select null as {refresh.key} limit 0"
        removed = refresh.run(f"create or replace temp table {before} as {rows}") if followed else 0
        added = refresh.run(f"create or replace table {table} as select {refresh.columns} from {_WANTED}")
        refresh.take_over(DATABASE)
        if touched:
            refresh.keyed(as_of, touched)
        if followed:
            refresh.gone, refresh.came = f"(select * from {before})", f"(select {refresh.columns} from {table})"
            changed(Refreshed(removed, added, whole=True))
            self.warehouse.execute(f"drop table temp.main.{before}")
        failpoint("live.aside_swapped")


def is_large(warehouse: Warehouse, model: LiveModel, rows: int) -> bool:
    """Whether a model's table and those behind it have so many rows together."""
    held = warehouse.value(
        "select sum(estimated_size) from duckdb_tables() where database_name = current_database()"
        " and list_contains(?, schema_name || '.' || table_name)",
        [[model.relation, *model.analysis.reads]],
    )
    return int(held or 0) >= rows


def _hashes(refresh: Refresh) -> str:
    """128 bits of a row; the first 64 are those that the table's contents are summed of."""
    return f"hash({refresh.columns}) as _one, hash({column_list(list(reversed(refresh.types)))}) as _other"
