"""At most so many calls a second to a destination, whoever makes them.

A sliding window, not a leaking bucket: no interval of the window's length ever holds more calls than allowed, not even
after a pause, because that is how vendors count. One limiter per destination name, shared by all syncs and threads of
this process.
"""

import threading
import time
from collections import deque
from collections.abc import Callable


class RateLimit:
    """`calls` per `seconds`. `now` and `sleep` are seconds of a monotone clock; tests bring their own."""

    def __init__(
        self,
        calls: int,
        seconds: float,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.calls = calls
        self.seconds = seconds
        self._now = now
        self._sleep = sleep
        self._made: deque[float] = deque(maxlen=calls)
        self._pause_until = 0.0
        self._turn = threading.Lock()

    @classmethod
    def per_second(cls, rate: float, **clock: Callable[..., float]) -> "RateLimit":
        """`rate` calls a second; below one, one call per 1 / rate seconds."""
        calls = max(int(rate), 1)
        return cls(calls, calls / rate, **clock)  # type: ignore[arg-type]

    def wait(self) -> None:
        """Return when the next call may be made, and count it. Callers are served in turn."""
        with self._turn:
            while True:
                now = self._now()
                free = self._made[0] + self.seconds if len(self._made) == self.calls else now
                until = max(free, self._pause_until)
                if until <= now:
                    self._made.append(now)
                    return
                self._sleep(until - now)

    def pause(self, seconds: float) -> None:
        """Let nobody through for so long: the destination asked for it."""
        self._pause_until = max(self._pause_until, self._now() + seconds)


_shared: dict[tuple[str, float], RateLimit] = {}
_sharing = threading.Lock()


def shared(destination: str, rate: float | None) -> RateLimit | None:
    """The limiter of that destination; None where it has no limit."""
    if rate is None:
        return None
    with _sharing:
        return _shared.setdefault((destination, rate), RateLimit.per_second(rate))
