"""The engine: one batch after the other, each in one transaction of the warehouse.

    begin
      land the records; follow identities; move the clock
      for each live model, in order: touched keys -> their rows as they should be -> write those that differ
      record changes, contents, state of the models, clock and position
    commit
    read the position back; acknowledge to the log

A kill at any moment leaves the last committed batch; what was read and not committed is read again. The engine's clock
never goes back. Only one engine works on a warehouse, in one thread.

An engine that is far behind the log lands what waits first, batch by batch, and owes the models; they are recomputed whole when
it has caught up, or ten minutes later. An idle step opens no transaction. It knows the moment at which the next window ends and sleeps through until then.
"""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from headwater.clock import Clock, naive_utc
from headwater.errors import StageFailed
from headwater.failpoint import failpoint
from headwater.identity.settings import IdentitySettings
from headwater.live import contents, persons, storage, suppression
from headwater.live.changes import Changes
from headwater.live.deltas import Delta, Deltas
from headwater.live.landing import Landed, Landing
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.live.shapes import Declared
from headwater.live.texts import Texts
from headwater.live.upkeep import ModelFailed, ModelStep, Moved, Upkeep
from headwater.live.verify import Verified, check
from headwater.log.base import TOPICS, Log
from headwater.records.logged import Record, Topic
from headwater.warehouse import Warehouse

READER = "engine"
"""The engine's name among the log's readers."""

_PART = 250_000
"""Events landed at a time; a batch is as many of these as it needs. SQL works on them with two threads from 123,000 on."""

_PART_SIZE = 128_000_000
"""Characters of events from which on a part takes no more: memory holds a part that is landed and the next."""

_READ = 20_000
"""Records read from the log at a time."""

_MARKERS = 64
"""Records of topic changes that are looked at before a batch: those at their front may ask for other tables."""

_LATE_AT_MOST = timedelta(minutes=10)
"""How long the models may be put off by an engine that is far behind the log."""

_Stamp = tuple[int, int, int]
"""Time and size of the warehouse file, and the size of its journal."""


def _stamp(path: Path) -> _Stamp | None:
    if not path.exists():
        return None
    journal = path.with_name(path.name + ".wal")
    return path.stat().st_mtime_ns, path.stat().st_size, journal.stat().st_size if journal.exists() else 0


@dataclass(frozen=True)
class BatchResult:
    """What one step did. Nothing was committed when `committed` is false.

    `lag`: events and changes that wait in the log; `backlog`: keys that wait for their turn; `failed`: models left
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
    models, and by a step after which tables have other columns. Without it the models stay as they are. `reopened` is called
    at the end of such a step's opening, by when whatever `reload` has stopped may go on. `declared`: columns of tables that
    changes land in.

    `project`: the models that are live now, those left out whose SQL does not even say its columns.
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
        reopened: Callable[[], None] | None = None,
        declared: Declared | None = None,
    ) -> None:
        self.warehouse = warehouse
        self.log = log
        self.project = self._compiled = project
        self.clock = clock
        self.settings = settings or LiveSettings()
        self.identity = identity or IdentitySettings()
        self._reload = reload
        self._reopened = reopened
        self._read_again: datetime | None = None
        self._landing = Landing(warehouse, blocked=self.identity.blocked)
        self._changes = Changes(warehouse, declared)
        self._size = self.settings.batch_rows
        self._ahead = ThreadPoolExecutor(1, "log-ahead")
        self._behind_since: datetime | None = None
        self._open = False
        self._beside = ExitStack()
        self._left: _Stamp | None = None
        self._tables_asked_for = True
        self.notes: list[str] = []
        """What became of columns that a database changed; whoever shows them empties the list."""

    # ------------------------------------------------------------------ opening and parking

    def open(self) -> None:
        """Read the clock and the position, and find what was changed while no engine ran."""
        w = self.warehouse
        self._beside.close()
        untouched, self._left = self._untouched(), None
        persons.prepare(w)
        row = w.execute("select max(as_of), max(position) from headwater.clock").fetchone() or (None, None)
        self.as_of: datetime = row[0] or datetime(1970, 1, 1)  # noqa: DTZ001  (naive UTC, as the warehouse stores it)
        self._position = self._positions(row[1])
        for topic, offset in self._position.items():
            if self.log.end(topic) < offset:
                raise StageFailed(
                    f"the warehouse has followed the log up to {topic} {offset:,}, and the log ends at {self.log.end(topic):,}: it is not the "
                    "log that this warehouse followed, and following it would pass over what it holds. Put the right one back: a "
                    "backup of the warehouse needs the log of the same time or a later one"
                )
            self.log.follow(topic, offset, json.loads(row[1] or "{}").get("places", {}).get(topic, ""))
        self._changes.open()
        self._columns = {relation: list(contents.types(w, relation)) for relation in contents.LANDED}
        w.execute("set checkpoint_threshold = '128MB'")  # each checkpoint writes the last row groups of all tables anew
        w.execute(f"set memory_limit = '{self.settings.memory_limit}'")
        self._upkeep = Upkeep(w, self._compiled, self.clock, self.settings, untouched=untouched)
        self._beside.callback(self._upkeep.aside.end)
        self.project = self._upkeep.project
        self._forget_ids_at = self.as_of
        for topic, offset in self._position.items():
            self.log.acknowledge(READER, topic, offset)
        self._open = True

    def park(self) -> None:
        """Give the warehouse back at a batch boundary, so that a command or dbt may have it. The log goes on filling."""
        self._beside.close()
        self.warehouse.close()
        self._open = False
        self._left = _stamp(self.warehouse.path)

    def resume(self) -> None:
        """Take the warehouse again, with the models as they are now; what the command changed is followed."""
        untouched = self._untouched()
        before = self._compiled
        if self._reload is not None:
            self._compiled = self._reload()
        self._left = _stamp(self.warehouse.path) if untouched and self._compiled is before else None
        self.open()
        self._read_again = None

    def _untouched(self) -> bool:
        """Whether the file is as this engine left it, so that its tables need not be summed again."""
        return self._left is not None and self._left == _stamp(self.warehouse.path)

    def close(self) -> None:
        """Park for good."""
        self.park()
        self._ahead.shutdown()

    def verify(
        self, models: Sequence[str] | None = None, keys: int | None = None, *, mend: bool = False
    ) -> list[Verified]:
        """Compare live rows with the same SQL in full; see `headwater.live.verify`.

        `mend`: the next step recomputes the models in which rows are wrong.
        """
        self._opened()
        found = check(self.warehouse, self.project, models=models, keys=keys, clock=self.clock)
        wrong = [one.model for one in found if one.wrong]
        if mend and wrong:
            self.rebuild(wrong, "verify found wrong rows")
        return found

    def rebuild(self, models: Sequence[str], because: str) -> None:
        """Have the next step recompute these models whole; differing rows are written, and followed by the models below."""
        self._opened()
        with self.warehouse.transaction():
            for name in models:
                self._upkeep.rebuild(self.project.model(name).name, because)
        self._upkeep.read()

    def compact(self) -> int | None:
        """Write the warehouse file anew if that is worth it (storage.py); its new size, None when it was not, or when a model is
        built aside, which would have to begin again."""
        self._opened()
        if self.rebuilding is not None or not storage.size(self.warehouse).worth_rewriting:
            return None
        self._open = False
        return storage.compact(self.warehouse)

    def publish(self) -> Path:
        """Write a snapshot of all that is committed for readers; where it is."""
        self._opened()
        return storage.publish(self.warehouse)

    def deletions(self) -> list[tuple[str, str]]:
        """(kind, id) of people who asked to be deleted, oldest first. Park, then `headwater.live.forget` each: that ends it."""
        self._opened()
        rows = self.warehouse.execute(
            "select case when customer_id is null then 'anonymous' else 'user' end, coalesce(customer_id, anonymous_id)"
            " from headwater.deletion_requests where coalesce(customer_id, anonymous_id) is not null order by position"
        ).fetchall()
        return list(dict.fromkeys((str(kind), str(name)) for kind, name in rows))

    @property
    def backlog(self) -> int:
        """Keys that wait for their turn."""
        self._opened()
        return self._upkeep.backlog

    @property
    def rebuilding(self) -> str | None:
        """The model that is built aside, while the engine goes on with the others."""
        return self._upkeep.aside.model if self._open else None

    def _opened(self) -> None:
        """Open, with the models as they are. Those that could not be read anew are tried again in a while; until then the
        engine goes on with the ones before."""
        if self._read_again is not None and naive_utc(self.clock.now()) >= self._read_again and not self.rebuilding:
            self._read_models()
        elif not self._open:
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
            "changes": int(stored.get("changes", 0)),  # landing them again changes nothing
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
        while self._upkeep.build_aside(self.as_of, now, behind=self._behind_since is not None):
            self._read_models()
        size = min(limit or self._size, self.settings.max_batch_rows)
        waiting = {topic: self.log.end(topic) - offset for topic, offset in self._position.items()}
        if max(waiting.values()) <= 0 and not self._something_due(now):
            return BatchResult(as_of=self.as_of, backlog=self._upkeep.backlog, wait_seconds=self._wait(now))
        if self._tables_asked_for and waiting["changes"] > 0:
            self._follow_tables(now)
        failed: dict[str, str] = {}
        put_off = limit is None and self._far_behind(waiting["events"] + waiting["changes"] - size, now)
        while True:
            try:
                landed, models = self._batch(now, size, failed, put_off=put_off)
                break
            except ModelFailed as failure:
                self._upkeep.failure(failed, failure)
        for topic, offset in self._position.items():
            self.log.acknowledge(READER, topic, offset)
        failpoint("live.acknowledged")
        for name in failed:
            self._upkeep.isolate(name, self.as_of)
        self._upkeep.retry_stale(self.as_of)
        rest = sum(self.log.end(topic) - self._position[topic] for topic in ("events", "changes"))
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
            0.0 if rest else self._wait(self.as_of),
        )

    def _adapt(self, rest: int) -> None:
        """Batches grow with what waits, and shrink again when nothing does."""
        grown = rest if rest > self._size else max(self.settings.batch_rows, self._size // 2)
        self._size = min(grown, self.settings.max_batch_rows)

    def _far_behind(self, rest: int, now: datetime) -> bool:
        """Whether the models wait until the engine has caught up. It begins when so much is left after a batch that they would
        be recomputed whole more than once, and ends when hardly anything is."""
        if self._behind_since is None:
            held = self.settings.full_share * self._landed_rows() if rest > self.settings.max_batch_rows else 0
            self._behind_since = now if rest > max(self.settings.max_batch_rows, held) else None
        elif rest <= self.settings.batch_rows or now - self._behind_since > _LATE_AT_MOST:
            self._behind_since = None
        return self._behind_since is not None

    def _landed_rows(self) -> int:
        """Rows of the tables that the log lands in."""
        rows = self.warehouse.value(
            "select sum(row_count) from headwater.live_tables where relation = 'collected.events' or starts_with(relation, 'landed.')"
        )
        return int(rows or 0)

    def _batch(
        self, now: datetime, size: int, failed: dict[str, str], *, put_off: bool = False
    ) -> tuple[Landed, dict[str, ModelStep]]:
        w = self.warehouse
        position = dict(self._position)
        deltas = Deltas()
        with w.transaction():
            landed = self._land(position, size, now)
            now = max(now, naive_utc(self.clock.now()))  # what has just landed is not dated after the clock
            failpoint("live.landed")
            swept = suppression.sweep(w, self._position["events"]) if landed.read else suppression.Swept()
            landed = replace(
                landed,
                events=landed.events - swept.events,
                identifies=landed.identifies - swept.identifies,
                aliases=landed.aliases - swept.aliases,
                suppressed=landed.suppressed + swept.rows,
            )
            moved = self._put_landed(deltas, landed)
            failpoint("live.identified")
            steps = self._upkeep.refresh_all(deltas, self.as_of, now, failed, moved, put_off=put_off)
            failpoint("live.refreshed")
            if now >= self._forget_ids_at:
                self._landing.forget_old_ids(now)
                self._forget_ids_at = now + timedelta(hours=1)
            self._store(now, position)
            failpoint("live.stored")
        failpoint("live.committed")
        stored = w.value("select position from headwater.clock")
        if json.loads(stored or "{}") != self._with_places(position):
            raise StageFailed(
                f"the engine committed position {position} and read {stored} back: the warehouse did not keep the batch. "
                "Nothing was acknowledged to the log; look at the disk, then start again"
            )
        self.as_of, self._position = now, position
        self._upkeep.committed()
        if forgotten := set(self._changes.suppressed):
            self.log.remove("changes", lambda _: True, offsets=forgotten)
        if swept.offsets:
            gone = set(swept.offsets)
            self.log.remove("events", lambda _: True, offsets=gone)
        return landed, steps

    def _land(self, position: dict[Topic, int], size: int, now: datetime) -> Landed:
        """Land up to `size` records of each topic, part by part; `position` is moved."""
        total = Landed()
        self._changes.begin()
        for topic in TOPICS:
            if topic == "events":
                for texts in self._texts(position[topic], size):
                    total += self._landing.land(texts, now)
                    position[topic] = texts.last
                continue
            for records in self._parts(topic, position[topic], size):
                count = len(records)
                if topic == "rejected":
                    total += self._landing.land_rejected(records)
                else:
                    landed, count = self._changes.land(records, now)
                    total += landed
                if count:
                    position[topic] = records[count - 1].offset
                if count < len(records):  # tables must be changed first, between two batches
                    self._tables_asked_for = True
                    break
        return total

    def _parts(self, topic: Topic, after: int, size: int) -> Iterator[list[Record]]:
        """Up to `size` records, part by part; the next part is read while the one before is landed."""
        part = self.log.read(topic, after, min(_READ, size))
        while part:
            size -= len(part)
            full = len(part) == _READ and size > 0
            ahead = self._ahead.submit(self.log.read, topic, part[-1].offset, min(_READ, size)) if full else None
            try:
                yield part
            finally:
                part = ahead.result() if ahead else []

    def _texts(self, after: int, size: int) -> Iterator[Texts]:
        """The same of events, in larger parts, and as texts."""
        part = self._read_texts(after, min(_PART, size))
        while part.count:
            size -= part.count
            full = (part.count == _PART or part.size >= _PART_SIZE) and size > 0
            ahead = self._ahead.submit(self._read_texts, part.last, min(_PART, size)) if full else None
            try:
                yield part
            finally:
                part = ahead.result() if ahead else Texts()

    def _read_texts(self, after: int, size: int) -> Texts:
        texts = Texts()
        while texts.count < size and texts.size < _PART_SIZE:
            asked = min(_READ, size - texts.count)
            part = self.log.read("events", texts.last or after, asked)
            texts.add(part)
            if len(part) < asked:
                break
        return texts

    def _follow_tables(self, now: datetime) -> None:
        """Make or change the tables that the next changes land in. Models are read anew then, and so is what all tables hold."""
        waiting = self.log.read("changes", self._position["changes"], _MARKERS)
        self._upkeep.aside.end()  # a file is not put in order while it is read
        sentences = self._changes.prepare(waiting, now)
        self._tables_asked_for = False
        if sentences is None:
            return
        failpoint("live.reshaped")
        self.notes += sentences
        self._read_models()

    def _read_models(self) -> None:
        """Take the models anew, after tables have got other columns."""
        self._beside.close()
        self._open = False
        self._read_again = naive_utc(self.clock.now()) + timedelta(seconds=self.settings.retry_seconds)
        if self._reload is not None:
            self._compiled = self._reload()
        self.open()
        self._read_again = None
        if self._reopened is not None:
            self._reopened()

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
        for relation, one in self._changes.moved():
            self._columns[relation] = list(one.columns)
            self._put(deltas, moved, relation, one.delta)
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
            [as_of, json.dumps(self._with_places(position)), naive_utc(self.clock.now())],
        )

    def _with_places(self, position: dict[Topic, int]) -> dict[str, Any]:
        """The position as it is stored: with what the log itself says of it, where a number is not enough."""
        places = {topic: place for topic, offset in position.items() if (place := self.log.place(topic, offset))}
        stored: dict[str, Any] = {**position}
        return stored | {"places": places} if places else stored

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
        if self._upkeep.standing.owed:
            return self.settings.full_every
        horizon = self._upkeep.horizon
        if not horizon.known:
            return 0.1
        midnight = datetime.combine(now.date() + timedelta(days=1), datetime.min.time())
        return min(60.0, max(0.0, (min(midnight, horizon.next or midnight) - now).total_seconds()))
