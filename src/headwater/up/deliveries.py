"""Live syncs: what a batch changed goes out while the engine goes on.

A thread per destination, with a connection of its own, so that neither the engine nor another destination ever waits for a
slow one. A sync begins with its whole model against what was last confirmed, so a change that was slept through is not
lost; from then on it looks at the rows that `headwater.model_changes` names, and at the whole again every ten minutes. A model
without such records (a view, or one that does not write them down) is compared whole whenever anything moved. Records that
nobody but syncs follows are removed when all of them have looked.
While the file is given away (`pause`), no thread holds it, and everything is compared afterwards.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

from headwater.activation.destinations import Later, Rejected, Unusable
from headwater.activation.settings import SyncSettings
from headwater.activation.since import Since, forget, newest
from headwater.errors import HeadwaterError
from headwater.live.project import CHANGES
from headwater.records.stage import StageResult
from headwater.stack import Stack
from headwater.up.said import Said
from headwater.warehouse import Warehouse

_FOLLOWED_BY_OTHERS = (*CHANGES, "int_segment_scores")
"""Models whose changes segments, decisions or people follow too: syncs do not say when these may go."""
WATCH_SECONDS = 60.0
"""How often alerts are judged and metrics are written while `headwater up` runs."""
_PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
_LEAST_PAUSE = 0.2
_WHOLE_SECONDS = 600.0
_SHARE, _WHOLE_SHARE = 1.0, 4.0
"""A sync rests so many times as long as its last round took, so that a large one does not keep the machine busy; the latter
after a comparison of its whole model."""


class Deliveries:
    """The live syncs of a project. `moved` is told what each batch changed; the rest happens in the threads."""

    def __init__(
        self, project: Stack, say: Callable[[Said], None], live: Callable[[], Mapping[str, str | None]] = dict
    ) -> None:
        """`live` gives the live models: name to the key by which its changes are recorded, null when they are not."""
        syncs = [sync for sync in project.config.syncs if sync.live]
        names = dict.fromkeys(sync.destination for sync in syncs)
        self._carriers: list[_Carrier | _Watch] = [
            _Carrier(project, name, [sync for sync in syncs if sync.destination == name], say, live) for name in names
        ]
        if project.config.syncs:
            self._carriers.append(_Watch(project, say, self.passed))

    def moved(self, models: Iterable[str]) -> None:
        """These models have changed."""
        changed = set(models)
        for carrier in self._carriers:
            carrier.wake(changed)

    def passed(self) -> dict[str, int]:
        """Models that nobody but live syncs follows: the version up to which all of them have looked."""
        looked: dict[str, list[int]] = {}
        for carrier in self._carriers:
            if isinstance(carrier, _Carrier):
                for model, version in carrier.looked():
                    looked.setdefault(model, []).append(version)
        return {model: min(versions) for model, versions in looked.items() if model not in _FOLLOWED_BY_OTHERS}

    def start(self) -> None:
        """Begin, or go on after `pause`; every live sync is looked at once."""
        for carrier in self._carriers:
            carrier.start()

    def pause(self) -> None:
        """Stop soon, wait for it, and let go of the file. What was claimed is sent; the rest stays ready."""
        for carrier in self._carriers:
            carrier.stop()
        for carrier in self._carriers:
            carrier.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Nobody holds the file inside."""
        self.pause()
        try:
            yield
        finally:
            self.start()


class _Watch:
    """The thread that looks after alerts and metrics of all syncs, also while nothing is delivered."""

    def __init__(self, project: Stack, say: Callable[[Said], None], passed: Callable[[], Mapping[str, int]]) -> None:
        self._project = project
        self._say = say
        self._passed = passed
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._wrong: str | None = None

    def start(self) -> None:
        if self._thread is not None:
            return
        self._stop.clear()
        warehouse = self._project.warehouse.sibling()
        self._thread = threading.Thread(target=self._work, args=(warehouse,), name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def wake(self, models: set[str]) -> None:
        """A change is no reason to look."""

    def _work(self, warehouse: Warehouse) -> None:
        try:
            while True:
                wrong = Stack(self._project.folder, clock=self._project.clock, held=warehouse).watch()
                try:
                    forget(warehouse, self._passed())
                except Exception as error:
                    text = " ".join(f"{type(error).__name__}: {error}".split())
                    wrong = wrong or f"changes that all syncs have looked at could not be removed: {text}"
                if wrong != self._wrong and wrong is not None:
                    self._say(Said("alerts", "failed", wrong, {}, passing=False))
                self._wrong = wrong
                if self._stop.wait(WATCH_SECONDS):
                    return
        finally:
            warehouse.close()


class _Carrier:
    """The thread of one destination."""

    def __init__(
        self,
        project: Stack,
        name: str,
        syncs: list[SyncSettings],
        say: Callable[[Said], None],
        live: Callable[[], Mapping[str, str | None]],
    ) -> None:
        self._project = project
        self._name = name
        self._syncs = syncs
        self._say = say
        self._live = live
        self._models: Mapping[str, str | None] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._changed = threading.Condition()
        self._due: dict[str, float] = {}
        self._failures = 0
        self._stopping = False
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, with a connection made here, in the thread that owns the engine's."""
        if self._thread is not None:
            return
        self._stopping = False
        with self._changed:
            self._due = {sync.name: 0.0 for sync in self._syncs}
            self._seen, self._models = {}, self._live()
        warehouse = self._project.warehouse.sibling()
        self._thread = threading.Thread(target=self._work, args=(warehouse,), name=f"deliver {self._name}", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        with self._changed:
            self._stopping = True
            self._changed.notify()

    def join(self) -> None:
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def looked(self) -> Iterator[tuple[str, int]]:
        """Each sync whose model's changes are recorded: the model, and the version up to which it has looked."""
        for sync in self._syncs:
            if self._models.get(sync.model) is not None:
                yield sync.model, self._seen.get(sync.name, (0, 0.0))[0]

    def wake(self, models: set[str]) -> None:
        """Syncs of these models are due, at the earliest when they have rested."""
        concerned = [sync for sync in self._syncs if sync.model in models or sync.model not in self._models]
        with self._changed:
            for sync in concerned:
                self._due.setdefault(sync.name, 0.0)
            if concerned:
                self._changed.notify()

    def _work(self, warehouse: Warehouse) -> None:
        rest: dict[str, float] = {}
        try:
            stack = Stack(self._project.folder, clock=self._project.clock, held=warehouse)
            while (sync := self._next(rest)) is not None:
                started, share = time.monotonic(), _WHOLE_SHARE if self._whole(sync) else _SHARE
                again = self._deliver(stack, sync)
                now = time.monotonic()
                rest[sync.name] = now + max(_LEAST_PAUSE, share * (now - started)) if again is None else now + again
                children = [child.name for child in self._syncs if sync.name in child.parents]
                with self._changed:
                    for due in children if again is None else [sync.name]:
                        self._due.setdefault(due, 0.0)
        finally:
            warehouse.close()

    def _next(self, rest: dict[str, float]) -> SyncSettings | None:
        """The next sync that is due and rested; None when it is time to stop."""
        with self._changed:
            while not self._stopping:
                now = time.monotonic()
                ready = [(rest.get(sync.name, 0.0), sync) for sync in self._syncs if sync.name in self._due]
                soonest = min(ready, key=lambda one: one[0], default=None)
                if soonest is not None and soonest[0] <= now:
                    del self._due[soonest[1].name]
                    return soonest[1]
                self._changed.wait(None if soonest is None else soonest[0] - now)
        return None

    def _whole(self, sync: SyncSettings) -> bool:
        """Whether the whole model has to be compared."""
        seen = self._seen.get(sync.name)
        return seen is None or self._models.get(sync.model) is None or time.monotonic() - seen[1] > _WHOLE_SECONDS

    def _since(self, sync: SyncSettings, upto: int) -> Since | None:
        key = self._models.get(sync.model)
        if key is None or self._whole(sync):
            return None
        return Since(sync.model, key, self._seen[sync.name][0], upto)

    def _deliver(self, stack: Stack, sync: SyncSettings) -> float | None:
        """One round of a sync; seconds until it must be tried again, None when a change may wake it."""
        upto = 0
        try:
            upto = newest(stack.warehouse)
            result = stack.deliver_live(sync, lambda: self._stopping, self._since(sync, upto))
        except HeadwaterError as error:
            result = StageResult(f"activate {sync.name}", "failed", 0, str(error))
        except Exception as error:
            kind = "" if isinstance(error, Later | Rejected | Unusable) else f"{type(error).__name__}: "
            result = StageResult(f"activate {sync.name}", "failed", 0, " ".join(f"{kind}{error}".split()))
        failed = result.status in ("failed", "skipped")
        if result.row_count or failed or self._failures:
            said = {"sync": sync.name, "confirmed": result.row_count}
            self._say(Said(f"sync {sync.name}", "failed" if failed else "ok", result.message, said, passing=not failed))
        if not failed:
            self._failures = 0
            compared = (
                self._seen[sync.name][1] if sync.name in self._seen and not self._whole(sync) else time.monotonic()
            )
            self._seen[sync.name] = (upto, compared)
            return None
        pause = _PAUSES[min(self._failures, len(_PAUSES) - 1)]
        self._failures += 1
        return pause
