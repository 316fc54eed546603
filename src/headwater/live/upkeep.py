"""The live models of one project: one pass over them in each batch, and what becomes of those that cannot be refreshed.

Each model in its order sees what the ones before it have changed. It is refreshed for its touched keys, or whole: when it
cannot be scoped to keys, when more keys are touched than `full_share` of them, when all of it is owed. What does not come
about in a batch (windows beyond `due_per_batch`, a throttled model, a model that fails) is owed: it stands in
`headwater.due_keys` and is taken up by a later batch (standing.py). A large model that is owed whole is built aside (aside.py).
"""

import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from headwater.clock import Clock, naive_utc
from headwater.errors import HeadwaterError
from headwater.failpoint import failpoint
from headwater.live import contents, isolate
from headwater.live.aside import Aside, is_large
from headwater.live.deltas import Deltas, at_moment, moment, quoted
from headwater.live.horizon import Horizon
from headwater.live.project import LiveModel, Project
from headwater.live.refresh import GROWN, Refresh, Refreshed
from headwater.live.settings import LiveSettings
from headwater.live.standing import CHANGED, PUT_OFF, Standing
from headwater.live.sums import Sums
from headwater.warehouse import Warehouse

Moved = dict[str, tuple[int, int]]
"""By table: rows more, content more."""

_AGAIN = "the SQL that finds its keys fails"
_NO_ROOM = "it needs more memory than `live.memory_limit` allows; raise it, or make the model smaller"


@dataclass(frozen=True)
class ModelStep:
    """One model in one batch. `seconds` of work; `whole`: all of it was recomputed; `source_time`: the newest moment that the
    added rows know of."""

    touched: int = 0
    removed: int = 0
    added: int = 0
    whole: bool = False
    seconds: float = 0.0
    source_time: datetime | None = None


class ModelFailed(Exception):
    """A statement of one model failed; the transaction is gone."""

    def __init__(self, model: str, error: Exception) -> None:
        super().__init__(f"{model}: {error}")
        self.model = model
        self.error = error


class Upkeep:
    """Made anew whenever the warehouse was open elsewhere: it knows the tables as they are now.

    `untouched`: nobody has written since the engine did, so nothing has to be looked for.
    """

    def __init__(
        self, warehouse: Warehouse, project: Project, clock: Clock, settings: LiveSettings, *, untouched: bool = False
    ) -> None:
        self.warehouse = warehouse
        self.project = project
        self.clock = clock
        self.settings = settings
        self.standing = Standing(warehouse, clock, settings)
        self._other_shape: dict[str, dict[str, str]] = {}
        """Columns that the tables of large models are to have instead of theirs."""
        self._above: dict[str, Collection[str]] = {**project.above}
        self._misshapen = self._give_shape()
        self.horizon = Horizon(warehouse, self.project.models)
        self._refreshes = {model.name: self._refresh_of(model) for model in self.project.models}
        self._version = int(warehouse.value("select coalesce(max(version), 0) from headwater.model_changes"))
        self._keys: dict[str, int] = {}
        self._refreshed_at: dict[str, datetime] = {}
        self._taken: LiveModel | None = None
        self._moved: Moved = {}
        self._always_whole = {
            model.name
            for model in self.project.models
            if model.analysis.mode == "full" or (model.name not in self._other_shape and self._has_nobodys(model))
        }
        self.aside = Aside(
            warehouse, self.project, self._refreshes, self.standing, self._always_whole, self._other_shape
        )
        with warehouse.transaction():
            self.standing.note(self.project, {**project.refused, **self._misshapen}, self._waiting())
            if not untouched:
                self.standing.read()
                self._note_changed()
                self._note_sums()
        self.read()

    def _refresh_of(self, model: LiveModel) -> Refresh:
        types = self._other_shape.get(model.name) or contents.types(self.warehouse, model.relation)
        additive = model.analysis.additive if model.analysis.mode == "delta" else None
        if additive is None or model.name in self._misshapen:
            return Refresh(self.warehouse, model, types, self._run)
        return Sums(self.warehouse, model, types, self._run, additive)

    def _has_nobodys(self, model: LiveModel) -> bool:
        """Whether the model has rows without a key."""
        key = self._refreshes[model.name].key
        return bool(self.warehouse.value(f"select exists (select 1 from {model.relation} where {key} is null)"))

    # ------------------------------------------------------------------ what is owed

    def _give_shape(self) -> dict[str, str]:
        """Make tables anew that do not have the columns of their model (yet); the old rows serve until then, those of a large
        model until it is built aside.

        The answer: models whose SQL does not even say its columns, with the error. They keep their tables as they are.
        """
        w = self.warehouse
        as_of = w.value("select max(as_of) from headwater.clock") or naive_utc(self.clock.now())
        failing: dict[str, str] = {}
        for model in self.project.models:
            sql = at_moment(model.analysis.whole, as_of)
            try:
                wanted = [(row[0], row[1]) for row in w.execute(f"describe ({sql})").fetchall()]
                held = contents.types(w, model.relation)
                if wanted == list(held.items()):
                    continue
                large = model.analysis.mode != "full" and self._is_large(model)
                if large and held:
                    self._other_shape[model.name] = dict(wanted)
                    continue
                with w.transaction():
                    w.execute(f"create or replace table {model.relation} as {sql}{' limit 0' if large else ''}")
                w.checkpoint()
            except Exception as error:
                failing[model.name] = f"{type(error).__name__}: {error}"
                read = {above.name for above in self.project.models if above.relation in model.analysis.reads}
                self._above[model.name] = read.union(*(self._above.get(name, ()) for name in read))
        self.project = replace(
            self.project, models=tuple(model for model in self.project.models if model.name not in failing)
        )
        return failing

    def _waiting(self) -> dict[str, str]:
        """Models that cannot be live before tables above them have their new columns."""
        above = {name: ", ".join(sorted(self._other_shape.keys() & names)) for name, names in self._above.items()}
        return {
            name: f"waits for {names}, whose columns change; its last rows serve"
            for name, names in above.items()
            if names
        }

    def _note_changed(self) -> None:
        """Owe every model that somebody else changed, or that reads a table that somebody else changed."""
        relations = {model.relation for model in self.project.models} | set(self.project.sources) | set(contents.LANDED)
        changed = contents.changed(self.warehouse, sorted(relations))
        for model in self.project.models:
            touched = sorted({model.relation, *model.analysis.reads} & changed.keys())
            if touched:
                self._owe_too(model.name, f"{', '.join(touched)} changed outside the engine")
        contents.remember(self.warehouse, changed)

    def _note_sums(self) -> None:
        """Owe the models whose sums are not those of the clock, and let the sums of other models go."""
        for refresh in self._refreshes.values():
            if isinstance(refresh, Sums) and not refresh.hold():
                self._owe_too(refresh.model.name, "its sums are computed anew")
        kept = [refresh.model.name for refresh in self._refreshes.values() if isinstance(refresh, Sums)]
        for (name,) in self.warehouse.execute(
            "select table_name from duckdb_tables() where database_name = current_database() and schema_name = 'sums'"
            " and not list_contains(?, table_name)",
            [kept],
        ).fetchall():
            self.warehouse.execute(f"drop table sums.{quoted(name)}")

    def _owe_too(self, model: str, because: str) -> None:
        """Owe all of a model; one that is owed already keeps its reason, by which it may wait for another."""
        if not self.standing.owed.get(model, (0, None))[1]:
            self.standing.owe(model, because)

    def rebuild(self, model: str, because: str) -> None:
        """Have all of a model recomputed, from now on."""
        if model == self.aside.model:
            self.aside.end()
        self.standing.owe(model, because)

    def read(self) -> None:
        """How the models stand, after a transaction that may have changed it."""
        self.standing.read()
        self.aside.choose()

    def committed(self) -> None:
        """The batch is committed: what it owed is owed."""
        for refresh in self._refreshes.values():
            refresh.let_go()
        if self._taken is not None:
            self.aside.end()
        if self.standing.unread or self.standing.owed:
            self.read()

    @property
    def backlog(self) -> int:
        """Keys that wait for their turn."""
        return sum(count for count, _ in self.standing.owed.values())

    def anything_owed(self, now: datetime) -> bool:
        """Whether a batch without records has something to do for what is owed."""
        if self.aside.ready or any(self.standing.may_retry(name, now) for name in self._may_move(self.standing.stale)):
            return True
        for name, (keys, whole) in self.standing.owed.items():
            if name in self.aside.names or (name in self.standing.stopped and not self.standing.may_retry(name, now)):
                continue
            if keys or (whole and self._may_refresh(self.project.model(name), now)):
                return True
        return False

    # ------------------------------------------------------------------ the pass

    def refresh_all(
        self,
        deltas: Deltas,
        a0: datetime,
        a1: datetime,
        failed: dict[str, str],
        moved: Moved,
        only: tuple[LiveModel, Sequence[str]] | None = None,
        *,
        put_off: bool = False,
    ) -> dict[str, ModelStep]:
        """One pass over the models, in the caller's transaction; the clock moves from `a0` to `a1`.

        Models in `failed` are left out and owe what they would have done. `moved` has what changed in other tables.
        `only`: refresh these keys of this model, and what follows from them. `put_off`: refresh none, and owe all of those
        that something has changed for. Raises ModelFailed.
        """
        steps: dict[str, ModelStep] = {}
        self._taken, self._moved = None, moved
        for model in self.project.models:
            started = time.perf_counter()
            alone = only is not None and only[0].name == model.name
            try:
                if only is not None and alone:
                    touched, done = self._only(model, only[1], a1)
                else:
                    touched, done = self._refresh(model, deltas, a0, a1, failed, put_off=put_off, may_take=only is None)
            except HeadwaterError:
                raise
            except Exception as error:
                if alone:
                    raise
                raise ModelFailed(model.name, error) from error
            if touched or done.whole:
                refresh = self._refreshes[model.name]
                if done:
                    deltas.put(model.relation, list(refresh.types), refresh.delta(done))
                    moved[model.relation] = (done.added - done.removed, done.content)
                seconds = time.perf_counter() - started
                steps[model.name] = ModelStep(touched, done.removed, done.added, done.whole, seconds, done.source_time)
            failpoint("live.model")
        self.horizon.follow(deltas, a1)
        contents.move(self.warehouse, moved)
        self._note_steps(steps, a1)
        return steps

    def _refresh(
        self,
        model: LiveModel,
        deltas: Deltas,
        a0: datetime,
        a1: datetime,
        failed: dict[str, str],
        *,
        put_off: bool,
        may_take: bool,
    ) -> tuple[int, Refreshed]:
        """How many keys were touched, and what was written."""
        owed_keys, owed_whole = self.standing.owed.get(model.name, (0, None))
        due = self.horizon.due(model, a0, a1)
        concerned = bool(owed_whole or due) or any(table in deltas for table in model.analysis.reads)
        if not concerned and not owed_keys:
            return 0, Refreshed()
        if put_off:
            if model.name == self.aside.model:
                self.aside.end()
            if owed_whole != PUT_OFF:
                self.standing.owe(model.name, PUT_OFF)
            return 0, Refreshed()
        skip = model.name in failed
        if model.name in self.standing.stopped and (skip or not self.standing.may_retry(model.name, a1)):
            if skip:
                self._stop(model.name, failed[model.name], a1)
            elif not owed_whole:
                self.standing.owe(model.name, "stopped")
            return 0, Refreshed()
        refresh = self._refreshes[model.name]
        everything = any(path.everything and path.source in deltas for path in model.analysis.paths)
        always_whole = model.name in self._always_whole
        if skip and (always_whole or owed_whole or everything or failed[model.name].startswith((_AGAIN, _NO_ROOM))):
            self._stop(model.name, failed[model.name], a1)
            return 0, Refreshed()
        if always_whole:
            if model.name in self.aside.names:
                return 0, Refreshed()
            return 0, self._full(model, refresh, deltas, due, a1, owed=bool(owed_whole))
        if model.name in self.aside.names:
            return self._meanwhile(refresh, deltas, due, a1, everything=everything, may_take=may_take)
        if owed_whole or everything:
            return 0, self._whole(refresh, a1, self._rows_read(model) if owed_whole else 0)
        if isinstance(refresh, Sums) and not (skip or owed_keys or model.name in self.standing.stale):
            touched = refresh.advance(deltas, a0, a1, crossed=bool(due))
            done = refresh.moved(a1, touched) if touched else Refreshed()
            self._record(refresh, done, a1)
            return touched, done
        touched = refresh.collect(deltas, due, a1, owed=bool(owed_keys))
        if touched and model.name in self.standing.stale:
            touched -= refresh.leave_out_stale()
        if not touched:
            return 0, Refreshed()
        if skip:
            refresh.owe(a1, "failed")
            self.standing.unread = True
            return 0, Refreshed()
        if touched > max(self.settings.full_above, self.settings.full_share * self._key_count(model)):
            above = self._taken
            if above is not None and above.relation in model.analysis.reads and self._is_large(model):
                self.standing.owe(model.name, f"{above.name} was built anew")
                return touched, Refreshed()
            mostly_new = touched > GROWN * self._key_count(model)
            return touched, self._whole(refresh, a1, self._rows_read(model) if mostly_new else 0)
        if touched > self.settings.due_per_batch and refresh.due_count() > self.settings.due_per_batch:
            refresh.bound(self.settings.due_per_batch, a1)
            self.standing.unread = True
        done = refresh.keyed(a1, touched)
        if owed_keys:
            self._run(
                f"delete from headwater.due_keys where model = '{model.name}' and key in"
                f" (select cast(key as varchar) from {refresh.touched})"
            )
        self._record(refresh, done, a1)
        return touched, done

    def _full(
        self, model: LiveModel, refresh: Refresh, deltas: Deltas, due: Sequence[str], a1: datetime, *, owed: bool
    ) -> Refreshed:
        """A model that is always recomputed whole: when something concerns it, and not too often."""
        changed = any(table in deltas for table in model.analysis.reads)
        if not (owed or changed or any(self.warehouse.value(f"select exists (select 1 from ({sql}))") for sql in due)):
            return Refreshed()
        if not self._may_refresh(model, a1):
            if not owed:
                self.standing.owe(model.name, "waits for its turn")
            return Refreshed()
        return self._whole(refresh, a1)

    def _whole(self, refresh: Refresh, a1: datetime, about: int = 0) -> Refreshed:
        done = refresh.whole(a1, about)
        self._settled(refresh.model.name, a1)
        self._record(refresh, done, a1)
        return done

    def _settled(self, name: str, a1: datetime) -> None:
        self.standing.settled(name)
        if self._has_nobodys(self.project.model(name)):  # no key would ever lead to such a row again
            self._always_whole.add(name)
        self._refreshed_at[name] = a1
        self._keys.pop(name, None)

    def _only(self, model: LiveModel, keys: Sequence[str], a1: datetime) -> tuple[int, Refreshed]:
        refresh = self._refreshes[model.name]
        refresh.only(keys)
        done = refresh.keyed(a1, len(keys))
        self.warehouse.execute(
            "delete from headwater.due_keys where model = ? and list_contains(?, key)", [model.name, list(keys)]
        )
        if model.name in self.standing.stale:
            isolate.clear(self.warehouse, model.name, keys)
        self._record(refresh, done, a1)
        return len(keys), done

    def _record(self, refresh: Refresh, done: Refreshed, a1: datetime) -> None:
        if done and refresh.model.changes:
            self._version += 1
            refresh.record_changes(done, self._version, a1)

    def _may_refresh(self, model: LiveModel, now: datetime) -> bool:
        """Whether a model may be recomputed whole again; those that are so only now and then always may."""
        if model.name not in self._always_whole:
            return True
        every = self.settings.full_every if model.max_every is None else model.max_every
        last = self._refreshed_at.get(model.name)
        return last is None or (now - last).total_seconds() >= every

    def _key_count(self, model: LiveModel) -> int:
        """About how many keys a model has; measured after it was recomputed whole, or now."""
        if model.name not in self._keys:
            refresh = self._refreshes[model.name]
            self._keys[model.name] = int(
                self.warehouse.value(f"select approx_count_distinct({refresh.key}) from {model.relation}")
            )
        return self._keys[model.name]

    # ------------------------------------------------------------------ models that are built aside

    def build_aside(self, as_of: datetime, now: datetime, *, behind: bool) -> bool:
        """Look after what is built aside, between two batches, at the clock `as_of` that is committed.

        True when a table was swapped for one of other columns: the models must be read anew then. `behind`: the engine is far
        behind the log, and builds nothing.
        """
        if behind:
            return False
        name = self.aside.to_swap or self.aside.model
        swaps = self.aside.to_swap is not None
        error = self._swap(name, as_of) if name and swaps else self.aside.go_on(as_of, now)
        if name is not None and error is not None:
            with self.warehouse.transaction():
                self._stop(name, _said(error), now)
            self.read()
        return swaps and error is None

    def _swap(self, name: str, as_of: datetime) -> Exception | None:
        """Put a table of other columns in its place. The models that read it have to be recomputed."""
        refresh, relation = self._refreshes[name], self.project.model(name).relation
        started = time.perf_counter()
        try:
            with self.warehouse.transaction():
                touched = refresh.collect(Deltas(), (), as_of, owed=bool(self.standing.owed[name][0]))
                self.aside.swap(as_of, touched, lambda done: self._record(refresh, done, as_of))
                self._settled(name, as_of)
                step = ModelStep(touched, whole=True, seconds=time.perf_counter() - started)
                self._note_steps({name: step}, as_of)
                contents.remember(self.warehouse, {relation: contents.measured(self.warehouse, relation)})
                for below in self.project.readers(relation):
                    self.standing.owe(below.name, CHANGED)
        except Exception as error:
            return error
        self.aside.end()
        self.warehouse.checkpoint()
        return None

    def _meanwhile(
        self, refresh: Refresh, deltas: Deltas, due: Sequence[str], a1: datetime, *, everything: bool, may_take: bool
    ) -> tuple[int, Refreshed]:
        """A model that batches leave alone: while it is built aside it owes what is touched, and then it is taken.

        Where a batch concerns `everything` of it, what is built is of no use any more.
        """
        name = refresh.model.name
        if name != self.aside.model:
            return 0, Refreshed()
        if everything:
            self.aside.end()
            return 0, Refreshed() if name in self._other_shape else self._whole(refresh, a1)
        take = may_take and self.aside.ready and name not in self._other_shape
        touched = refresh.collect(deltas, due, a1, owed=take and self.standing.owed[name][0] > 0)
        if take:
            done = self.aside.take(a1, touched)
            self._taken = refresh.model
            self._settled(name, a1)
            self._record(refresh, done, a1)
            return touched, done
        if touched:
            refresh.owe(a1, "touched while the model is built aside")
            self.standing.unread = True
        return 0, Refreshed()

    def _is_large(self, model: LiveModel) -> bool:
        return is_large(self.warehouse, model, self.settings.aside_rows)

    def _may_move(self, names: set[str]) -> set[str]:
        """Without the model that is built: its table stands still."""
        return names - {self.aside.model}

    def _rows_read(self, model: LiveModel) -> int:
        """How many rows the largest of the tables has that a model reads, with what this batch has changed so far."""
        held = self.warehouse.execute("select relation, row_count from headwater.live_tables").fetchall()
        rows = [count + self._moved.get(name, (0, 0))[0] for name, count in held if name in model.analysis.reads]
        return max(rows, default=0)

    def _note_steps(self, steps: dict[str, ModelStep], a1: datetime) -> None:
        """How each model fared, in headwater.live_models."""
        if not steps:
            return
        rows = ", ".join(
            f"('{name}', {step.touched}, cast({step.seconds} as double), {_moment(step.source_time)}, {_moment(due)})"
            for name, step in steps.items()
            for due in [self.horizon.next_of(self.project.model(name))]
        )
        self._run(
            "update headwater.live_models as held set touched_keys = now.touched, seconds = now.seconds,"
            " source_time = greatest(held.source_time, now.source_time), next_due_at = now.next_due_at,"
            f" refreshed_at = {moment(naive_utc(self.clock.now()))}, as_of = {moment(a1)}"
            f" from (values {rows}) as now (model, touched, seconds, source_time, next_due_at) where held.model = now.model"
        )

    def _run(self, sql: str) -> int:
        """One statement of the batch; how many rows it wrote."""
        failpoint("live.statement")
        row = self.warehouse.execute(sql).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    # ------------------------------------------------------------------ models that fail

    def failure(self, failed: dict[str, str], failure: ModelFailed) -> None:
        """A batch was undone because of one model: leave it out the next time."""
        built = self.aside.model
        if built is not None and built != failure.model and _is_no_room(failure.error):
            self.aside.end()  # first what can wait gives its memory back
            self.standing.rest(built, naive_utc(self.clock.now()))
        elif failure.model in failed:
            failed[failure.model] = f"{_AGAIN}: {type(failure.error).__name__}: {failure.error}"
        else:
            failed[failure.model] = _said(failure.error)
        self.read()

    def _stop(self, name: str, error: str, now: datetime) -> None:
        """Keep the model's rows as they are, in the caller's transaction, until it is tried again."""
        if name == self.aside.model:
            self.aside.end()
        self.standing.stop(name, error, now)

    def isolate(self, name: str, as_of: datetime) -> None:
        """Try the keys that a failed model owes, half by half; those that fail alone are marked stale."""
        if name in self.standing.stopped:
            return
        model = self.project.model(name)
        w = self.warehouse
        keys = [
            row[0]
            for row in w.execute(
                "select distinct key from headwater.due_keys where model = ? and key is not null order by key", [name]
            ).fetchall()
        ]

        def attempt(model: LiveModel, part: Sequence[str]) -> None:
            with w.transaction():
                self.refresh_all(Deltas(), as_of, as_of, {}, {}, only=(model, part))

        try:
            failing = isolate.isolate(attempt, model, keys, self.settings.max_stale_keys)
        except isolate.TooMany as error:
            with w.transaction():
                self._stop(name, f"more than {self.settings.max_stale_keys} keys fail, the last: {error}", as_of)
        else:
            if failing:
                with w.transaction():
                    isolate.mark(w, self.project, self._refreshes, model, failing, as_of)
                    w.execute(
                        "delete from headwater.due_keys where model = ? and list_contains(?, key)",
                        [name, list(failing)],
                    )
                self.standing.rest(name, as_of)
        self.read()

    def retry_stale(self, now: datetime) -> None:
        """Try stale keys again whose time has come."""
        for name in sorted(self._may_move(self.standing.stale) - self.standing.stopped):
            if self.standing.may_retry(name, now):
                with self.warehouse.transaction():
                    self.warehouse.execute(
                        "insert into headwater.due_keys select distinct model, key, 'stale', ? from headwater.stale_keys"
                        " where model = ? and origin_model = ?",
                        [now, name, name],
                    )
                self.isolate(name, now)


def _is_no_room(error: Exception) -> bool:
    return type(error).__name__ == "OutOfMemoryException"


def _said(error: Exception) -> str:
    return f"{_NO_ROOM + ': ' if _is_no_room(error) else ''}{type(error).__name__}: {error}"


def _moment(at: datetime | None) -> str:
    return moment(at) if at else "cast(null as timestamp)"
