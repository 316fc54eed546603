"""At most so many calls to a destination in any window of time as the destination itself sees it, whoever makes them.

A sliding window over arrivals. Nobody here knows when a call arrives, only that it is after it was sent and before it is
answered; so a call counts from the moment it is sent until a window's length after its answer. Two calls that arrive within one
window then always count at the same moment, and no window at the destination ever holds more calls than allowed: not after a
pause, not when some are held up on the way and others are not. The price is the time of one answer per window.

One limiter per destination of a project, shared by its syncs and the threads of this process, and by processes that follow each
other (one at a time has the warehouse): until when each call counts stands in a small file beside the warehouse, which is read when
a run begins and written with each call. The file is a help: where it cannot be read or written, this process counts by itself.
"""

import heapq
import math
import os
import re
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

APART = 1.001
"""Two machines' clocks run apart by less than a thousandth."""
LOST_SECONDS = 5.0
"""A call whose sender was killed arrives within so many seconds of being sent, or never."""
_LONGEST_SLEEP = 3_600.0


class RateLimit:
    """`calls` per `seconds`; `place` is the file that other processes find them in (None: nobody else counts).

    `now` and `sleep` are seconds of a monotone clock; tests bring their own.
    """

    def __init__(
        self,
        calls: int,
        seconds: float,
        *,
        place: Path | None = None,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] | None = None,
    ) -> None:
        self.calls = calls
        self.seconds = seconds * APART
        self._now = now
        self._sleep = sleep
        self._place = place
        self._ends = array("d", bytes(8 * calls))
        self._free = [(0.0, number) for number in range(calls)]
        self._open: dict[Hashable, int] = {}
        self._fits = False
        self._pause_until = -math.inf
        self._books = threading.Lock()
        self._turn = threading.Lock()
        self._news = threading.Event()
        self.read()

    @classmethod
    def per_second(cls, rate: float, window_seconds: float = 1.0, *, place: Path | None = None) -> "RateLimit":
        """`rate` calls a second, counted over `window_seconds`; where that is less than one call, one per 1 / rate seconds."""
        calls = calls_in(rate, window_seconds)
        return cls(calls, calls / rate, place=place)

    @contextmanager
    def call(self) -> Iterator[None]:
        """Make one call inside: it begins when it may, and counts."""
        self.wait()
        try:
            yield
        finally:
            self.answered()

    def wait(self) -> None:
        """Return when this thread's next call may be made, and count it; the one before it has been answered. In turn."""
        self.answered()
        with self._turn:
            while True:
                self._news.clear()
                rest = self.ask(threading.get_ident())
                if rest <= 0:
                    return
                (self._sleep or self._news.wait)(min(rest, _LONGEST_SLEEP))

    def ask(self, caller: Hashable) -> float:
        """0.0: the caller may call, and its call counts. Else the seconds after which to ask again; infinite: after an answer."""
        with self._books:
            now = self._now()
            free = max(self._free[0][0] if self._free else math.inf, self._pause_until)
            if free > now:
                return free - now
            _, number = heapq.heappop(self._free)
            self._give_back(caller)
            self._open[caller] = number
            self._write(number, now + LOST_SECONDS + self.seconds)
            return 0.0

    def answered(self, caller: Hashable | None = None) -> None:
        """The caller's call (this thread's) is over, if it made one: it counts for `seconds` more."""
        with self._books:
            caller = threading.get_ident() if caller is None else caller
            if caller not in self._open:
                return
            self._write(self._open[caller], self._now() + self.seconds)
            self._give_back(caller)
        self._news.set()

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long: the destination asked for it."""
        self._pause_until = max(self._pause_until, self._now() + seconds)

    # until when each call counts

    def read(self) -> None:
        """Take over what another process called since; of what is known here and there the later counts."""
        with self._books:
            last = self._now() + LOST_SECONDS + self.seconds
            ends = self._kept()
            self._fits = len(ends) == self.calls
            if not self._fits:  # there is none, or the limit was another: the latest are enough
                ends = sorted(ends, reverse=True)[: self.calls]
            for number, end in enumerate(ends):
                if self._ends[number] < end <= last:  # what cannot be (the machine was started anew since) is over
                    self._ends[number] = end
            taken = set(self._open.values())
            self._free = [(end, number) for number, end in enumerate(self._ends) if number not in taken]
            heapq.heapify(self._free)

    def _give_back(self, caller: Hashable) -> None:
        number = self._open.pop(caller, None)
        if number is not None:
            heapq.heappush(self._free, (self._ends[number], number))

    def _kept(self) -> array:
        ends = array("d")
        if self._place is not None:
            with suppress(OSError):
                kept = self._place.read_bytes()
                ends.frombytes(kept[: len(kept) // 8 * 8])
        return ends

    def _write(self, number: int, end: float) -> None:
        self._ends[number] = end
        if self._place is not None:
            with suppress(OSError):
                self._put(self._place, number)

    def _put(self, place: Path, number: int) -> None:
        """One moment in its place of the file; all of them where there is none that fits."""
        with suppress(FileNotFoundError):
            if self._fits:
                file = os.open(place, os.O_WRONLY)
                try:
                    os.pwrite(file, self._ends[number : number + 1].tobytes(), 8 * number)
                finally:
                    os.close(file)
                return
        self._fits = False
        place.parent.mkdir(parents=True, exist_ok=True)
        aside = place.with_name(f"{place.name}.new")
        aside.write_bytes(self._ends.tobytes())
        aside.replace(place)
        self._fits = True


def calls_in(rate: float, window_seconds: float) -> int:
    """How many calls of so many a second a window holds; at least one."""
    return max(int(rate * window_seconds + 1e-9), 1)


_shared: dict[tuple[Path, float, float], RateLimit] = {}
_sharing = threading.Lock()


def shared(folder: Path, destination: str, rate: float | None, window_seconds: float = 1.0) -> RateLimit | None:
    """The limiter of that destination of the project in `folder`, for a run that begins now; None where it has no limit."""
    if rate is None:
        return None
    name = re.sub(r"[^\w-]", lambda found: f"%{ord(found[0]):x}", destination)
    place = folder.resolve() / "warehouse" / "limits" / name
    with _sharing:
        known = _shared.get((place, rate, window_seconds))
        if known is not None:
            known.read()
            return known
        made = _shared[place, rate, window_seconds] = RateLimit.per_second(rate, window_seconds, place=place)
        return made
