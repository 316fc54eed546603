"""The engine at work: batch after batch, and what follows at the boundary between two of them."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from headwater.decisions import table as tables
from headwater.decisions.realtime.serve import DecisionServer
from headwater.errors import HeadwaterError, LogUnavailable
from headwater.live import edited
from headwater.live import project as live_project
from headwater.live.engine import BatchResult, Engine
from headwater.records.counted import counted
from headwater.segments import publish
from headwater.stack import Stack
from headwater.up.deliveries import Deliveries
from headwater.up.followers import Followers, Moved
from headwater.up.said import Said

_REMEMBERED = 1_000
_SIZE_SECONDS = 600.0
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
_LEAP = timedelta(days=1)
"""How far the clock may move at a start without a word."""


@dataclass(frozen=True)
class Batch:
    """What one batch did, for those who listen. `number` grows by one with each; `moved`: rows changed, by model."""

    number: int
    at: datetime
    landed: int
    seconds: float
    moved: dict[str, int]


class Life:
    """The engine of a project, opened. `turn` again and again; `park` and `resume` around whatever needs the file.

    Raises LogUnavailable when the log does not answer; it may be tried again then.
    """

    def __init__(self, project: Stack, say: Callable[[Said], None]) -> None:
        self._project = project
        self._say = say
        self.log = project.open_log()
        self.deletions: list[tuple[str, str]] = []
        """(kind, id) of people who asked to be forgotten; whoever parks the engine forgets them."""
        self.batches: deque[Batch] = deque(maxlen=_REMEMBERED)
        self.landed = 0
        self._number = 0
        self._built_at: datetime | None = None
        self._failures = 0
        self._not_before = 0.0
        self._failed_models: dict[str, str] = {}
        self._rebuilding: str | None = None
        self._parked = self._is_alone = False
        started = time.monotonic()
        settings = project.config
        self.engine = Engine(
            project.warehouse,
            self.log,
            self._load(),
            project.clock,
            settings.live,
            identity=settings.identity,
            reload=self._load_anew,
            reopened=self._reopened,
            declared=project.declared,
        )
        try:
            self.engine.open()
        except LogUnavailable:
            self.engine.close()
            self.log.close()
            raise
        self._deliveries = Deliveries(project, say, self._followed)
        self._on_demand = self._decisions_on_demand()
        self._followers = Followers(project, say, self._memberships_moved)
        self._announce(time.monotonic() - started)
        self._followers.settle()
        self._checked_at = self._published_at = self._sized_at = time.monotonic()
        self._published = 0
        self._turns = itertools.count()
        self.deletions = self.engine.deletions()
        self._start_others()

    def _decisions_on_demand(self) -> DecisionServer | None:
        settings = self._project.config.decisions
        if settings.realtime.port is None:
            return None
        table = tables.load(self._project.folder)

        def say(status: Literal["ok", "warn"], text: str) -> None:
            self._say(Said("decisions", status, text))

        return DecisionServer(settings, self._project.clock, table, say)

    def _start_others(self) -> None:
        """Let those go on who have connections of their own beside the engine's."""
        self._deliveries.start()
        self._start_on_demand()

    def _start_on_demand(self) -> None:
        if self._on_demand is not None:
            try:
                self._on_demand.start(self._project.warehouse)
            except Exception as error:
                text = str(error) if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {error}"
                self._say(Said("decisions", "warn", f"none is made on demand: {text}"))

    def _pause_others(self) -> None:
        """Have them let go of the file."""
        self._deliveries.pause()
        if self._on_demand is not None:
            self._on_demand.pause()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Nobody but the engine holds the file inside."""
        self._pause_others()
        self._is_alone = True
        try:
            yield
        finally:
            self._is_alone = False
            self._start_others()

    def _load(self) -> live_project.Project:
        taken = edited.files(self._project.folder)
        models = live_project.load(self._project.warehouse, self._project.dbt)
        edited.note(self._project.folder, taken)
        return models

    def _load_anew(self) -> live_project.Project:
        """The same while others may have the file: dbt closes what is open of it in this process. They go on when the engine
        has opened it again, with the models that it keeps then (`_reopened`), or has failed to (`_failed`)."""
        if not (self._parked or self._is_alone):
            self._pause_others()
        return self._load()

    def _reopened(self) -> None:
        if not (self._parked or self._is_alone):
            self._start_others()

    def _followed(self) -> dict[str, str | None]:
        """Live models by name: the key of those whose changed rows are written down, null for the others."""
        return {model.name: model.key if model.changes else None for model in self.engine.project.models}

    def _announce(self, seconds: float) -> None:
        self._built_at = self._project.warehouse.value("select max(as_of) from headwater.clock")
        models = self.engine.project.models
        full = sorted(model.name for model in models if model.analysis.mode == "full")
        whole = f", {len(full)} of them recomputed whole ({', '.join(full)})" if full else ""
        self._say(Said("models", "ok", f"{len(models)} are live{whole}; read in {seconds:.1f} s", {"full": full}))

    def turn(self) -> bool:
        """One batch if there is anything to do; whether there may be more at once.

        A batch that fails is undone; it is tried again, later each time, and said.
        """
        if time.monotonic() < self._not_before:
            return False
        try:
            result = self.engine.step()
        except Exception as error:
            self._failed(error)
            return False
        if self._failures:
            self._failures = 0
            self._say(Said("engine", "ok", "works again"))
        for sentence in self.engine.notes:
            self._say(Said("landed tables", "warn", sentence))
        self.engine.notes.clear()
        self._tell_rebuilding()
        if not result.committed:
            self._followers.work()
            self._beside_the_batch(self._upkeep)
            return False
        self._tell(result)
        if result.landed.deletes:
            self.deletions = self.engine.deletions()
        self._followers.work(result.moved)
        self._not_before = 0.0 if result.lag else time.monotonic() + self._project.config.live.linger_ms / 1000
        return result.lag > 0

    def _beside_the_batch(self, work: Callable[[], None]) -> None:
        """What follows a batch may fail without undoing it: it is said, and its turn comes again."""
        try:
            work()
        except Exception as error:
            self._checked_at = self._published_at = self._sized_at = time.monotonic()
            text = " ".join(f"{type(error).__name__}: {error}".split())
            self._say(Said("upkeep", "failed", f"it is tried again in its time: {text}", {"error": text}))

    def _failed(self, error: Exception) -> None:
        pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
        self._failures += 1
        self._not_before = time.monotonic() + pause
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._say(
            Said("engine", "failed", f"the batch was undone and is tried again in {pause:g} s: {text}", {"error": text})
        )
        with self._alone():
            self.engine.park()  # the next step opens it again, from the last batch that is in the file

    def _tell_rebuilding(self) -> None:
        """Say of which model the old rows serve while it is built aside, and what has become of the one before."""
        name = self.engine.rebuilding
        if name == self._rebuilding:
            return
        before, self._rebuilding = self._rebuilding, name
        for one in (before, name):
            said = "select state, message from headwater.live_models where model = ?"
            state, message = self._project.warehouse.execute(said, [one]).fetchone() or ("", "")
            if state == "live":
                self._say(Said(f"model {one}", "ok", "is built and live"))
            elif state == "rebuilding":
                self._say(Said(f"model {one}", "running", message))
            elif state == "stopped":
                self._say(Said(f"model {one}", "warn", f"keeps its last good rows: {message}"))

    def _tell(self, result: BatchResult) -> None:
        if not self._number and result.as_of and self._built_at and result.as_of - self._built_at > _LEAP:
            leap = f"it moved from {self._built_at:%Y-%m-%d}, where the models were built, to {result.as_of:%Y-%m-%d}"
            self._say(Said("clock", "warn", f"{leap}: windows, scores and segments are of that day now"))
        self._number += 1
        count = result.landed.read
        self.landed += count
        moved = {name: result.models[name].removed + result.models[name].added for name in result.moved}
        self._deliveries.moved(moved)
        if self._on_demand is not None:
            self._on_demand.moved()
        self.batches.append(Batch(self._number, self._project.clock.now(), count, result.seconds, moved))
        waiting = f", {result.lag:,} wait in the log" if result.lag else ""
        late = f", {counted(result.backlog, 'key is due', 'keys are due')}" if result.backlog else ""
        text = (
            f"as of {result.as_of:%Y-%m-%d %H:%M:%S} UTC: {self.landed:,} records landed, the last {count:,} in"
            f" {result.seconds * 1000:.0f} ms{waiting}{late}"
        )
        details = {
            "landed": count,
            "moved": moved,
            "lag": result.lag,
            "backlog": result.backlog,
            "seconds": result.seconds,
        }
        self._say(Said("engine", "ok", text, details, passing=True))
        if result.failed != self._failed_models:
            self._failed_models = dict(result.failed)
            for name, sentence in result.failed.items():
                self._say(Said(f"model {name}", "warn", f"keeps its last good rows: {sentence}"))

    def _memberships_moved(self, moved: Moved) -> None:
        """Syncs and decisions on demand look again: who is where stands in no live model."""
        self._deliveries.moved([publish.TABLE])
        if self._on_demand is None:
            return
        if moved.whole:
            self._on_demand.pause()
            self._start_on_demand()
        else:
            self._on_demand.moved()

    def _upkeep(self) -> None:
        """What is done now and then, when nothing else is to be done."""
        settings, now = self._project.config.live, time.monotonic()
        if settings.verify_seconds and now >= self._checked_at + settings.verify_seconds:
            self._check(settings.verify_keys)
            self._checked_at = time.monotonic()
        if (
            settings.publish_seconds
            and self._number > self._published
            and now >= self._published_at + settings.publish_seconds
        ):
            path = self.engine.publish()
            self._published, self._published_at = self._number, time.monotonic()
            self._say(Said("published", "ok", f"for readers: {path}", {"path": str(path)}, passing=True))
        if now >= self._sized_at + _SIZE_SECONDS:
            with self._alone():
                size = self.engine.compact()
            self._sized_at = time.monotonic()
            if size is not None:
                self._say(Said("warehouse", "ok", f"written anew, {size / 1e6:,.0f} MB now", {"bytes": size}))

    def _check(self, keys: int) -> None:
        """Random keys of every model and one model whole, against the SQL; what is wrong is computed anew."""
        models = self.engine.project.models
        if not models:
            return
        whole = models[next(self._turns) % len(models)].name
        found = [*self.engine.verify(None, keys, mend=True), *self.engine.verify([whole], mend=True)]
        wrong = {one.model: one.wrong for one in found if one.wrong}
        rows = sum(one.rows for one in found)
        if wrong:
            names = ", ".join(f"{name} ({count:,})" for name, count in wrong.items())
            text = f"rows differed from the batch build in {names}; these models are computed anew"
            self._say(Said("check", "failed", text, {"wrong": wrong}))
        else:
            self._say(Said("check", "ok", f"{rows:,} rows are what a batch build gives; all of {whole} among them"))
        self._followers.check()

    def _keep_published(self) -> None:
        publish.keep_file(self._project.warehouse, self._project.folder / publish.SEED_FILE)

    def since(self, number: int) -> list[Batch]:
        """The batches after that number; any thread may ask."""
        return [batch for batch in tuple(self.batches) if batch.number > number]

    def park(self) -> None:
        """Give the file away."""
        self._parked = True
        self._pause_others()
        self.engine.park()

    def resume(self) -> None:
        """Take it again, with the models as they are now."""
        started = time.monotonic()
        self.engine.resume()
        self._parked = False
        self._announce(time.monotonic() - started)
        self._followers.settle()
        self.deletions = self.engine.deletions()
        self._not_before = 0.0
        self._start_others()

    def close(self) -> None:
        """Give everything back."""
        self._deliveries.pause()
        if self._on_demand is not None:
            self._on_demand.close()
        self._beside_the_batch(self._keep_published)
        self.engine.close()
        self.log.close()
