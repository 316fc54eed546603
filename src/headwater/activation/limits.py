"""At most so many calls to a destination in any window of time as the destination itself sees it, whoever makes them.

A sliding window over arrivals. Nobody here knows when a call arrives, only that it is after it was sent and before it is
answered; so a call counts from the moment it is sent until a window's length after its answer. Two calls that arrive within one
window then always count at the same moment, and no window at the destination ever holds more calls than allowed: not after a
pause, not when some are held up on the way and others are not. The price is the time of one answer per window.

One limiter per destination of a project, shared by its syncs and the threads of this process, and by processes that follow each
other (one at a time has the warehouse): until when each call counts stands in a small file of the project's folder.
"""

import math
import re
import threading
import time
from array import array
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
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
        self._open: dict[Hashable, int] = {}
        self._pause_until = -math.inf
        self._books = threading.Lock()
        self._turn = threading.Lock()
        self._news = threading.Event()

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
            ends = self._read(now)
            for number in self._open.values():
                ends[number] = math.inf
            first = min(ends)
            free = max(first, self._pause_until)
            if free > now:
                return free - now
            self._open[caller] = ends.index(first)
            self._write(self._open[caller], now + LOST_SECONDS + self.seconds)
            return 0.0

    def answered(self, caller: Hashable | None = None) -> None:
        """The caller's call (this thread's) is over, if it made one: it counts for `seconds` more."""
        with self._books:
            number = self._open.pop(threading.get_ident() if caller is None else caller, None)
            if number is None:
                return
            self._write(number, self._now() + self.seconds)
        self._news.set()

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long: the destination asked for it."""
        self._pause_until = max(self._pause_until, self._now() + seconds)

    # until when each call counts

    def _read(self, now: float) -> array:
        """One moment per call; a moment that cannot be (the machine was started anew since) is over."""
        ends = self._ends
        if self._place is not None:
            ends = array("d")
            kept = self._place.read_bytes() if self._place.exists() else b""
            ends.frombytes(kept[: len(kept) // 8 * 8])
            if len(ends) != self.calls:  # the first call of all, or the limit was another
                latest = sorted(ends, reverse=True)[: self.calls]
                ends = array("d", latest + [0.0] * (self.calls - len(latest)))
                self._place.parent.mkdir(parents=True, exist_ok=True)
                self._place.write_bytes(ends.tobytes())
        last = now + LOST_SECONDS + self.seconds
        return array("d", [end if end <= last else 0.0 for end in ends])

    def _write(self, number: int, end: float) -> None:
        self._ends[number] = end
        if self._place is not None:
            with self._place.open("r+b") as file:
                file.seek(8 * number)
                file.write(array("d", [end]).tobytes())


def calls_in(rate: float, window_seconds: float) -> int:
    """How many calls of so many a second a window holds; at least one."""
    return max(int(rate * window_seconds + 1e-9), 1)


_shared: dict[tuple[Path, float, float], RateLimit] = {}
_sharing = threading.Lock()


def shared(folder: Path, destination: str, rate: float | None, window_seconds: float = 1.0) -> RateLimit | None:
    """The limiter of that destination of the project in `folder`; None where it has no limit."""
    if rate is None:
        return None
    name = re.sub(r"[^\w-]", lambda found: f"%{ord(found[0]):x}", destination)
    place = folder.resolve() / ".limits" / name
    with _sharing:
        return _shared.setdefault(
            (place, rate, window_seconds), RateLimit.per_second(rate, window_seconds, place=place)
        )
