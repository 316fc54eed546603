"""The engine at work: batch after batch, and what follows at the boundary between two of them."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from headwater.live import project as live_project
from headwater.live.engine import BatchResult, Engine
from headwater.log.sqlite import SqliteLog
from headwater.stack import LOG, Stack
from headwater.up.said import Said

_REMEMBERED = 1_000
_RETRY_SECONDS = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True)
class Batch:
    """What one batch did, for those who listen. `number` grows by one with each; `moved`: rows changed, by model."""

    number: int
    at: datetime
    landed: int
    seconds: float
    moved: dict[str, int]


class Life:
    """The engine of a project, opened. `turn` again and again; `park` and `resume` around whatever needs the file."""

    def __init__(self, project: Stack, say: Callable[[Said], None]) -> None:
        self._project = project
        self._say = say
        self.log = SqliteLog(project.folder / LOG, clock=project.clock)
        self.batches: deque[Batch] = deque(maxlen=_REMEMBERED)
        self.landed = 0
        self._number = 0
        self._failures = 0
        self._not_before = 0.0
        self._failed_models: dict[str, str] = {}
        started = time.monotonic()
        settings = project.config
        self.engine = Engine(
            project.warehouse,
            self.log,
            self._load(),
            project.clock,
            settings.live,
            identity=settings.identity,
            reload=self._load,
        )
        self.engine.open()
        self._announce(time.monotonic() - started)

    def _load(self) -> live_project.Project:
        return live_project.load(self._project.warehouse, self._project.dbt)

    def _announce(self, seconds: float) -> None:
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
        if not result.committed:
            return False
        self._tell(result)
        self._not_before = 0.0 if result.lag else time.monotonic() + self._project.config.live.linger_ms / 1000
        return result.lag > 0

    def _failed(self, error: Exception) -> None:
        pause = _RETRY_SECONDS[min(self._failures, len(_RETRY_SECONDS) - 1)]
        self._failures += 1
        self._not_before = time.monotonic() + pause
        text = " ".join(f"{type(error).__name__}: {error}".split())
        self._say(
            Said("engine", "failed", f"the batch was undone and is tried again in {pause:g} s: {text}", {"error": text})
        )
        self.engine.park()  # the next step opens it again, from the last batch that is in the file

    def _tell(self, result: BatchResult) -> None:
        self._number += 1
        count = result.landed.read
        self.landed += count
        moved = {name: result.models[name].removed + result.models[name].added for name in result.moved}
        self.batches.append(Batch(self._number, self._project.clock.now(), count, result.seconds, moved))
        waiting = f", {result.lag:,} wait in the log" if result.lag else ""
        late = f", {result.backlog:,} keys are due" if result.backlog else ""
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
        self._say(Said("engine", "running", text, details, passing=True))
        if result.failed != self._failed_models:
            self._failed_models = dict(result.failed)
            for name, sentence in result.failed.items():
                self._say(Said(f"model {name}", "warn", f"keeps its last good rows: {sentence}"))

    def since(self, number: int) -> list[Batch]:
        """The batches after that number; any thread may ask."""
        return [batch for batch in tuple(self.batches) if batch.number > number]

    def park(self) -> None:
        """Give the file away."""
        self.engine.park()

    def resume(self) -> None:
        """Take it again, with the models as they are now."""
        started = time.monotonic()
        self.engine.resume()
        self._announce(time.monotonic() - started)
        self._not_before = 0.0

    def close(self) -> None:
        """Give everything back."""
        self.engine.close()
        self.log.close()
