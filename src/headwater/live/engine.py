"""The engine: one batch after the other, each in one transaction of the warehouse.

    begin
      land the records; follow identities; move the clock
      for each live model, in order: touched keys -> their rows as they should be -> write those that differ
      record changes, contents, state of the models, clock and position
    commit
    read the position back; acknowledge to the log

A kill at any moment leaves the last committed batch; what was read and not committed is read again. The engine's clock
never goes back. Only one engine works on a warehouse, in one thread.

An idle step opens no transaction. It knows the moment at which the next window ends and sleeps through until then.
"""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headwater.clock import Clock, naive_utc
from headwater.errors import HeadwaterError, StageFailed
from headwater.failpoint import failpoint
from headwater.identity.settings import IdentitySettings
from headwater.live import contents, persons
from headwater.live.deltas import Delta, Deltas, at_moment, moment
from headwater.live.landing import Landed, Landing
from headwater.live.project import LiveModel, Project
from headwater.live.refresh import Refresh, Refreshed, Touched
from headwater.live.settings import LiveSettings
from headwater.log.base import Log
from headwater.records.logged import Topic
from headwater.warehouse import Warehouse

READER = "engine"
"""The engine's name among the log's readers."""

_PART = 20_000
"""Records read from the log and landed at a time; a batch is as many of these as it needs."""


@dataclass(frozen=True)
class ModelStep:
    """One model in one batch. `seconds` of work; `whole`: all of it was recomputed."""

    touched: int = 0
    removed: int = 0
    added: int = 0
    whole: bool = False
    seconds: float = 0.0


@dataclass(frozen=True)
class BatchResult:
    """What one step did. Nothing was committed when `committed` is false.

    `lag`: records of topic events that wait in the log; `backlog`: keys that wait for their turn; `failed`: models left
    out, with the error; `wait_seconds`: how long the caller may sleep before the next step finds anything, unless a
    record arrives.
    """

    committed: bool = False
    as_of: datetime | None = None
    landed: Landed = field(default_factory=Landed)
    models: dict[str, ModelStep] = field(default_factory=dict)
    lag: int = 0
    backlog: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    wait_seconds: float = 0.0

    @property
    def moved(self) -> tuple[str, ...]:
        """Models of which rows changed."""
        return tuple(name for name, step in self.models.items() if step.removed or step.added)


class _ModelFailed(Exception):
    """A statement of one model failed; the transaction is gone."""

    def __init__(self, model: str, error: Exception) -> None:
        super().__init__(f"{model}: {error}")
        self.model = model
        self.error = error


class Engine:
    """Keeps the live models of one project true. Open it before the first step; one thread only.

    `reload` compiles the project anew; it is called by `resume`, because the command that ran meanwhile may have changed
    models. Without it the models stay as they are.
    """

    def __init__(
        self,
        warehouse: Warehouse,
        log: Log,
        project: Project,
        clock: Clock,
        settings: LiveSettings | None = None,
        *,
        identity: IdentitySettings | None = None,
        reload: Callable[[], Project] | None = None,
    ) -> None:
        self.warehouse = warehouse
        self.log = log
        self.project = project
        self.clock = clock
        self.settings = settings or LiveSettings()
        self.identity = identity or IdentitySettings()
        self._reload = reload
        self._landing = Landing(warehouse)
        self._open = False

    # ------------------------------------------------------------------ opening and parking

    def open(self) -> None:
        """Read the clock and the position, and find what was changed while no engine ran."""
        w = self.warehouse
        persons.prepare(w)
        row = w.execute("select max(as_of), max(position) from headwater.clock").fetchone() or (None, None)
        self.as_of: datetime = row[0] or datetime(1970, 1, 1)  # noqa: DTZ001  (naive UTC, as the warehouse stores it)
        self._position = self._positions(row[1])
        self._version = int(w.value("select coalesce(max(version), 0) from headwater.model_changes"))
        self._keys: dict[str, int] = {}
        self._refreshed_at: dict[str, datetime] = {}
        self._failed_at: dict[str, datetime] = {}
        self._size = self.settings.batch_rows
        self._next_due: datetime | None = None
        self._next_due_known = False
        self._next_due_cost = 0.0
        self._next_due_at = 0.0
        self._refreshes = {}
        for model in self.project.models:
            self._refreshes[model.name] = Refresh(w, model, contents.types(w, model.relation), self._run)
        with w.transaction():
            self._note_models()
            self._note_changed()
        self._owed = self._read_owed()
        for topic, offset in self._position.items():
            self.log.acknowledge(READER, topic, offset)
        self._open = True

    def park(self) -> None:
        """Give the warehouse back at a batch boundary, so that a command or dbt may have it. The log goes on filling."""
        self.warehouse.close()
        self._open = False

    def resume(self) -> None:
        """Take the warehouse again, with the models as they are now; what the command changed is followed."""
        if self._reload is not None:
            self.project = self._reload()
        self.open()

    def close(self) -> None:
        """Park for good."""
        self.park()

    def _positions(self, text: str | None) -> dict[Topic, int]:
        """The stored position; where a command has lost it, what was landed says how far the log was read."""
        stored = json.loads(text) if text else {}
        w = self.warehouse
        landed = int(
            w.value(
                "select coalesce(greatest((select max(position) from collected.events),"
                " (select max(position) from collected.identifies), (select max(position) from collected.aliases)), 0)"
            )
        )
        rejected = int(
            w.value(
                "select coalesce(max(position), 0) from headwater.rejected_events where rejected_id like 'rejected-%'"
            )
        )
        return {
            "events": int(stored.get("events", landed)),
            "rejected": int(stored.get("rejected", rejected)),
        }

    def _note_models(self) -> None:
        """One row of headwater.live_models for each model; none for those that are gone."""
        w = self.warehouse
        names = [model.name for model in self.project.models]
        for table in ("live_models", "due_keys", "stale_keys"):
            w.execute(f"delete from headwater.{table} where not list_contains(?, model)", [names])
        known = {row[0]: row[1] for row in w.execute("select model, sql_hash from headwater.live_models").fetchall()}
        for model in self.project.models:
            if known.get(model.name) == model.sql_hash:
                continue
            w.execute("delete from headwater.live_models where model = ?", [model.name])
            w.execute(
                "insert into headwater.live_models (model, mode, sql_hash, state, due_backlog, message)"
                " values (?, ?, ?, 'live', 0, ?)",
                [model.name, model.analysis.mode, model.sql_hash, "; ".join(model.analysis.why_full) or None],
            )
            self._owe(model.name, "new or changed model")

    def _note_changed(self) -> None:
        """Owe every model that somebody else changed, or that reads a table that somebody else changed."""
        relations = [model.relation for model in self.project.models] + list(self.project.sources)
        changed = contents.changed(self.warehouse, relations)
        for model in self.project.models:
            touched = sorted({model.relation, *model.analysis.reads} & changed.keys())
            if touched:
                self._owe(model.name, f"{', '.join(touched)} changed outside the engine")
        contents.remember(self.warehouse, changed)

    def _owe(self, model: str, because: str) -> None:
        self.warehouse.execute("delete from headwater.due_keys where model = ? and key is null", [model])
        self.warehouse.execute(
            "insert into headwater.due_keys values (?, null, ?, ?)", [model, because, naive_utc(self.clock.now())]
        )

    def _read_owed(self) -> dict[str, tuple[int, bool]]:
        """Keys owed by each model, and whether all of it is."""
        rows = self.warehouse.execute(
            "select model, count(key), bool_or(key is null) from headwater.due_keys group by model"
        ).fetchall()
        return {row[0]: (int(row[1]), bool(row[2])) for row in rows}

    # ------------------------------------------------------------------ the batch

    def step(self, limit: int | None = None) -> BatchResult:
        """One batch, or nothing when there is nothing to do. `limit`: most records of topic events to take.

        Raises StageFailed when the position that was committed cannot be read back, and whatever the log or the warehouse
        raise; the batch is then undone and its records are read again.
        """
        if not self._open:
            self.open()
        started = time.perf_counter()
        now = max(self.as_of, naive_utc(self.clock.now()))
        size = min(limit or self._size, self.settings.max_batch_rows)
        lag = self.log.end("events") - self._position["events"]
        lag_rejected = self.log.end("rejected") - self._position["rejected"]
        if lag <= 0 and lag_rejected <= 0 and not self._something_due(now):
            return BatchResult(as_of=self.as_of, backlog=self._backlog(), wait_seconds=self._wait(now))
        failed: dict[str, str] = {}
        while True:
            try:
                result = self._batch(now, size, failed)
                break
            except _ModelFailed as failure:
                failed[failure.model] = f"{type(failure.error).__name__}: {failure.error}"
                self._owed = self._read_owed()
        for topic, offset in self._position.items():
            self.log.acknowledge(READER, topic, offset)
        failpoint("live.acknowledged")
        rest = self.log.end("events") - self._position["events"]
        self._adapt(rest, limit)
        seconds = time.perf_counter() - started
        return BatchResult(
            True, self.as_of, result[0], result[1], rest, self._backlog(), failed, seconds, self._wait(now)
        )

    def _adapt(self, rest: int, limit: int | None) -> None:
        """Batches grow with what waits, and shrink again when nothing does."""
        if limit is None:
            grown = self._size * 4 if rest > self._size else max(self.settings.batch_rows, self._size // 2)
            self._size = min(grown, self.settings.max_batch_rows)

    def _backlog(self) -> int:
        return sum(count for count, _ in self._owed.values())

    def _batch(self, now: datetime, size: int, failed: dict[str, str]) -> tuple[Landed, dict[str, ModelStep]]:
        w = self.warehouse
        a0, a1 = self.as_of, now
        position = dict(self._position)
        deltas = Deltas()
        with w.transaction():
            landed = self._land(position, size)
            failpoint("live.landed")
            self._put_landed(deltas, landed)
            failpoint("live.identified")
            steps = self._refresh_all(deltas, a0, a1, failed)
            failpoint("live.refreshed")
            self._store(a1, position)
            failpoint("live.stored")
        failpoint("live.committed")
        stored = w.value("select position from headwater.clock")
        if json.loads(stored or "{}") != position:
            raise StageFailed(
                f"the engine committed position {position} and read {stored} back: the warehouse did not keep the batch. "
                "Nothing was acknowledged to the log; look at the disk, then start again"
            )
        self.as_of, self._position = a1, position
        self._owed = self._read_owed() if (self._owed or failed or self._put_off) else {}
        self._next_due_known = False
        return landed, steps

    def _land(self, position: dict[Topic, int], size: int) -> Landed:
        """Land up to `size` records of events and as many of rejected, part by part; `position` is moved."""
        total = Landed()
        self._landing.begin()
        for topic, land in (("events", self._landing.land), ("rejected", self._landing.land_rejected)):
            taken = 0
            while taken < size:
                records = self.log.read(topic, position[topic], min(_PART, size - taken))  # type: ignore[arg-type]
                if not records:
                    break
                total += land(records)
                position[topic] = records[-1].offset  # type: ignore[literal-required]
                taken += len(records)
        return total

    def _put_landed(self, deltas: Deltas, landed: Landed) -> None:
        """What landing and identity changed, as deltas."""
        after = self._position["events"]
        w = self.warehouse
        for relation, count in (
            ("collected.events", landed.events),
            ("collected.identifies", landed.identifies),
            ("collected.aliases", landed.aliases),
        ):
            if count:
                added = f"(select * from {relation} where position > {after})"
                deltas.put(relation, list(contents.types(w, relation)), Delta(added=added))
        if landed.events or landed.identifies or landed.aliases:
            changed = persons.follow(w, after, self.identity)
            if changed:
                deltas.put(
                    "headwater.identities",
                    list(contents.types(w, "headwater.identities")),
                    Delta(changed.before, changed.after),
                )

    def _refresh_all(self, deltas: Deltas, a0: datetime, a1: datetime, failed: dict[str, str]) -> dict[str, ModelStep]:
        """One pass over the models in their order; each sees what the ones before it have changed."""
        steps: dict[str, ModelStep] = {}
        moved: list[str] = []
        self._put_off = False
        for model in self.project.models:
            started = time.perf_counter()
            try:
                touched, done = self._refresh(model, deltas, a0, a1, skip=model.name in failed)
            except HeadwaterError:
                raise
            except Exception as error:
                if model.name in failed:
                    raise
                raise _ModelFailed(model.name, error) from error
            if touched.total or done.whole:
                refresh = self._refreshes[model.name]
                if done:
                    deltas.put(model.relation, list(refresh.types), refresh.delta(done))
                    moved.append(refresh.content_change(done))
                steps[model.name] = ModelStep(
                    touched.total, done.removed, done.added, done.whole, time.perf_counter() - started
                )
            failpoint("live.model")
        contents.move(self.warehouse, moved)
        self._note_steps(steps, a1)
        return steps

    def _refresh(
        self, model: LiveModel, deltas: Deltas, a0: datetime, a1: datetime, *, skip: bool
    ) -> tuple[Touched, Refreshed]:
        refresh = self._refreshes[model.name]
        owed_keys, owed_whole = self._owed.get(model.name, (0, False))
        if model.analysis.mode == "full":
            dirty = owed_whole or bool(model.analysis.reads & set(deltas)) or self._window_passed(model, a0, a1)
            if not dirty:
                return Touched(0, 0), Refreshed()
            if skip or not self._may_refresh(model, a1):
                if not owed_whole:
                    self._owe(model.name, "waits for its turn")
                self._put_off = True
                return Touched(0, 0), Refreshed()
            return Touched(0, 0), self._whole(refresh, a1)
        if owed_whole and not skip:
            return Touched(0, 0), self._whole(refresh, a1)
        if not skip and any(path.everything and path.source in deltas for path in model.analysis.paths):
            return Touched(0, 0), self._whole(refresh, a1)
        touched = refresh.collect(deltas, a0, a1, owed=bool(owed_keys), windows=True)
        if not touched.total:
            return touched, Refreshed()
        if skip:
            refresh.bound(0, a1)
            self._put_off = True
            return touched, Refreshed()
        if touched.total > max(self.settings.full_above, self.settings.full_share * self._key_count(model)):
            return touched, self._whole(refresh, a1)
        if touched.due > self.settings.due_per_batch:
            refresh.bound(self.settings.due_per_batch, a1)
            self._put_off = True
        done = refresh.keyed(a1)
        if owed_keys:
            self._run(
                f"delete from headwater.due_keys where model = '{model.name}' and key in"
                f" (select cast(key as varchar) from {refresh.touched})"
            )
        self._record(refresh, done, a1)
        return touched, done

    def _whole(self, refresh: Refresh, a1: datetime) -> Refreshed:
        done = refresh.whole(a1)
        self._run(f"delete from headwater.due_keys where model = '{refresh.model.name}'")
        self._refreshed_at[refresh.model.name] = a1
        self._keys.pop(refresh.model.name, None)
        self._record(refresh, done, a1)
        return done

    def _record(self, refresh: Refresh, done: Refreshed, a1: datetime) -> None:
        if done and refresh.model.changes:
            self._version += 1
            refresh.record_changes(done, self._version, a1)

    def _may_refresh(self, model: LiveModel, now: datetime) -> bool:
        """Whether a model that is always recomputed whole may be so now."""
        every = self.settings.full_every if model.max_every is None else model.max_every
        last = self._refreshed_at.get(model.name)
        return last is None or (now - last).total_seconds() >= every

    def _window_passed(self, model: LiveModel, a0: datetime, a1: datetime) -> bool:
        if a1 <= a0:
            return False
        for window in model.analysis.windows:
            due = window.due.replace("{a0}", moment(a0)).replace("{a1}", moment(a1))
            if self.warehouse.value(f"select exists (select 1 from ({at_moment(due, a1)}))"):
                return True
        return False

    def _key_count(self, model: LiveModel) -> int:
        """About how many keys a model has; measured when it was last recomputed whole, or now."""
        if model.name not in self._keys:
            refresh = self._refreshes[model.name]
            self._keys[model.name] = int(
                self.warehouse.value(f"select approx_count_distinct({refresh.key}) from {model.relation}")
            )
        return self._keys[model.name]

    def _note_steps(self, steps: dict[str, ModelStep], a1: datetime) -> None:
        """How each model fared, in headwater.live_models."""
        if not steps:
            return
        rows = ", ".join(f"('{name}', {step.touched}, cast({step.seconds} as double))" for name, step in steps.items())
        self._run(
            f"update headwater.live_models as held set touched_keys = now.touched, seconds = now.seconds,"
            f" refreshed_at = {moment(naive_utc(self.clock.now()))}, as_of = {moment(a1)}"
            f" from (values {rows}) as now (model, touched, seconds) where held.model = now.model"
        )

    def _store(self, as_of: datetime, position: dict[Topic, int]) -> None:
        self._run("delete from headwater.clock")
        self.warehouse.execute(
            "insert into headwater.clock (as_of, position, set_at) values (?, ?, ?)",
            [as_of, json.dumps(position), naive_utc(self.clock.now())],
        )

    def _run(self, sql: str) -> int:
        """One statement of the batch; how many rows it wrote."""
        failpoint("live.statement")
        row = self.warehouse.execute(sql).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    # ------------------------------------------------------------------ windows

    def _something_due(self, now: datetime) -> bool:
        """Whether a step without records has anything to do."""
        for name, (keys, whole) in self._owed.items():
            if keys or (whole and self._may_refresh(self.project.model(name), now)):
                return True
        if now <= self.as_of:
            return False
        if now.date() > self.as_of.date():  # ages in views count calendar days
            return True
        self._look_ahead()
        return self._next_due is not None and now >= self._next_due

    def _look_ahead(self) -> None:
        """Find the next moment at which a window ends, unless it is known; at most one hundredth of the time goes into it."""
        if self._next_due_known or time.monotonic() < self._next_due_at + 100 * self._next_due_cost:
            return
        started = time.monotonic()
        found = []
        for model in self.project.models:
            for window in model.analysis.windows:
                at = self.warehouse.value(at_moment(window.next_due.replace("{a0}", moment(self.as_of)), self.as_of))
                if at is not None:
                    found.append(at)
        self._next_due = min(found, default=None)
        self._next_due_known = True
        self._next_due_at = time.monotonic()
        self._next_due_cost = self._next_due_at - started

    def _wait(self, now: datetime) -> float:
        """Seconds until something is due without any record, at most a minute."""
        if self._owed:
            return self.settings.full_every
        if self._next_due_known and self._next_due is not None:
            return min(60.0, max(0.0, (self._next_due - now).total_seconds()))
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time())
        return min(60.0, (midnight - now).total_seconds(), 100 * self._next_due_cost + 0.001)
