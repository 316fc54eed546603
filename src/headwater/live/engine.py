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
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from headwater.clock import Clock, naive_utc
from headwater.errors import StageFailed
from headwater.failpoint import failpoint
from headwater.identity.settings import IdentitySettings
from headwater.live import contents, persons, suppression
from headwater.live.deltas import Delta, Deltas
from headwater.live.landing import Landed, Landing
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.live.upkeep import ModelFailed, ModelStep, Moved, Upkeep
from headwater.live.verify import Verified, check
from headwater.log.base import Log
from headwater.records.logged import Topic
from headwater.warehouse import Warehouse

READER = "engine"
"""The engine's name among the log's readers."""

_PART = 20_000
"""Records read from the log and landed at a time; a batch is as many of these as it needs."""


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


class Engine:
    """Keeps the live models of one project true. One thread only; the first step opens it.

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
        self._size = self.settings.batch_rows
        self._open = False

    # ------------------------------------------------------------------ opening and parking

    def open(self) -> None:
        """Read the clock and the position, and find what was changed while no engine ran."""
        w = self.warehouse
        persons.prepare(w)
        row = w.execute("select max(as_of), max(position) from headwater.clock").fetchone() or (None, None)
        self.as_of: datetime = row[0] or datetime(1970, 1, 1)  # noqa: DTZ001  (naive UTC, as the warehouse stores it)
        self._position = self._positions(row[1])
        self._columns = {relation: list(contents.types(w, relation)) for relation in contents.LANDED}
        self._upkeep = Upkeep(w, self.project, self.clock, self.settings)
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

    def verify(self, models: Sequence[str] | None = None, keys: int | None = None) -> list[Verified]:
        """Compare live rows with the same SQL in full; see `headwater.live.verify`."""
        self._opened()
        return check(self.warehouse, self.project, models=models, keys=keys, clock=self.clock)

    @property
    def backlog(self) -> int:
        """Keys that wait for their turn."""
        self._opened()
        return self._upkeep.backlog

    def _opened(self) -> None:
        if not self._open:
            self.open()

    def _positions(self, text: str | None) -> dict[Topic, int]:
        """The stored position; where a command has lost it, what was landed says how far the log was read."""
        stored = json.loads(text) if text else {}
        w = self.warehouse
        landed = w.value(
            "select greatest((select max(position) from collected.events), (select max(position) from collected.identifies),"
            " (select max(position) from collected.aliases))"
        )
        rejected = w.value("select max(position) from headwater.rejected_events where rejected_id like 'rejected-%'")
        return {
            "events": int(stored.get("events", landed or 0)),
            "rejected": int(stored.get("rejected", rejected or 0)),
        }

    # ------------------------------------------------------------------ the batch

    def step(self, limit: int | None = None) -> BatchResult:
        """One batch, or nothing when there is nothing to do. `limit`: most records of topic events to take.

        Raises StageFailed when the position that was committed cannot be read back, and whatever the log or the warehouse
        raise; the batch is then undone and its records are read again.
        """
        self._opened()
        started = time.perf_counter()
        now = max(self.as_of, naive_utc(self.clock.now()))
        size = min(limit or self._size, self.settings.max_batch_rows)
        waiting = [self.log.end(topic) - offset for topic, offset in self._position.items()]
        if max(waiting) <= 0 and not self._something_due(now):
            return BatchResult(as_of=self.as_of, backlog=self._upkeep.backlog, wait_seconds=self._wait(now))
        failed: dict[str, str] = {}
        while True:
            try:
                landed, models = self._batch(now, size, failed)
                break
            except ModelFailed as failure:
                self._upkeep.failure(failed, failure)
        for topic, offset in self._position.items():
            self.log.acknowledge(READER, topic, offset)
        failpoint("live.acknowledged")
        for name in failed:
            self._upkeep.isolate(name, self.as_of)
        self._upkeep.retry_stale(self.as_of)
        rest = self.log.end("events") - self._position["events"]
        if limit is None:
            self._adapt(rest)
        seconds = time.perf_counter() - started
        return BatchResult(
            True,
            self.as_of,
            landed,
            models,
            rest,
            self._upkeep.backlog,
            failed,
            seconds,
            0.0 if rest else self._wait(now),
        )

    def _adapt(self, rest: int) -> None:
        """Batches grow with what waits, and shrink again when nothing does."""
        grown = self._size * 4 if rest > self._size else max(self.settings.batch_rows, self._size // 2)
        self._size = min(grown, self.settings.max_batch_rows)

    def _batch(self, now: datetime, size: int, failed: dict[str, str]) -> tuple[Landed, dict[str, ModelStep]]:
        w = self.warehouse
        position = dict(self._position)
        deltas = Deltas()
        with w.transaction():
            landed = self._land(position, size)
            failpoint("live.landed")
            moved = self._put_landed(deltas, landed)
            failpoint("live.identified")
            steps = self._upkeep.refresh_all(deltas, self.as_of, now, failed, moved)
            failpoint("live.refreshed")
            self._store(now, position)
            failpoint("live.stored")
        failpoint("live.committed")
        stored = w.value("select position from headwater.clock")
        if json.loads(stored or "{}") != position:
            raise StageFailed(
                f"the engine committed position {position} and read {stored} back: the warehouse did not keep the batch. "
                "Nothing was acknowledged to the log; look at the disk, then start again"
            )
        self.as_of, self._position = now, position
        self._upkeep.committed()
        return landed, steps

    def _land(self, position: dict[Topic, int], size: int) -> Landed:
        """Land up to `size` records of events and as many of rejected, part by part; `position` is moved."""
        total = Landed()
        self._landing.begin()
        topics: tuple[Topic, ...] = ("events", "rejected")
        for topic in topics:
            land = self._landing.land if topic == "events" else self._landing.land_rejected
            taken = 0
            while taken < size:
                records = self.log.read(topic, position[topic], min(_PART, size - taken))
                if not records:
                    break
                total += land(records)
                position[topic] = records[-1].offset
                taken += len(records)
        swept = suppression.sweep(self.warehouse, self._position["events"])
        return replace(
            total,
            events=total.events - swept.events,
            identifies=total.identifies - swept.identifies,
            aliases=total.aliases - swept.aliases,
            suppressed=swept.rows,
        )

    def _put_landed(self, deltas: Deltas, landed: Landed) -> Moved:
        """What landing and identity changed, as deltas; and by how much their tables have grown."""
        after = self._position["events"]
        moved: Moved = {}
        for relation, count in (
            ("collected.events", landed.events),
            ("collected.identifies", landed.identifies),
            ("collected.aliases", landed.aliases),
        ):
            if count:
                self._put(deltas, moved, relation, Delta(added=f"(select * from {relation} where position > {after})"))
        if landed.events or landed.identifies or landed.aliases:
            changed = persons.follow(self.warehouse, after, self.identity)
            if changed:
                self._put(deltas, moved, "headwater.identities", Delta(changed.before, changed.after))
        return moved

    def _put(self, deltas: Deltas, moved: Moved, relation: str, delta: Delta) -> None:
        columns = self._columns[relation]
        deltas.put(relation, columns, delta)
        came, went = (
            contents.added(self.warehouse, relation, columns, rows) if rows else (0, 0)
            for rows in (delta.added, delta.removed)
        )
        moved[relation] = (came[0] - went[0], came[1] - went[1])

    def _store(self, as_of: datetime, position: dict[Topic, int]) -> None:
        self.warehouse.execute("delete from headwater.clock")
        self.warehouse.execute(
            "insert into headwater.clock (as_of, position, set_at) values (?, ?, ?)",
            [as_of, json.dumps(position), naive_utc(self.clock.now())],
        )

    # ------------------------------------------------------------------ time alone

    def _something_due(self, now: datetime) -> bool:
        """Whether a step without records has anything to do."""
        if self._upkeep.anything_owed(now):
            return True
        if now <= self.as_of:
            return False
        if now.date() > self.as_of.date():  # ages in views count calendar days
            return True
        horizon = self._upkeep.horizon
        horizon.look(self.as_of)
        return horizon.next is not None and now >= horizon.next

    def _wait(self, now: datetime) -> float:
        """Seconds until something is due without any record, at most a minute."""
        if self._upkeep.owed:
            return self.settings.full_every
        horizon = self._upkeep.horizon
        if not horizon.known:
            return 0.1
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time())
        return min(60.0, max(0.0, (min(midnight, horizon.next or midnight) - now).total_seconds()))
