"""What SIGTERM and SIGINT do to a process that has work in hand: it ends what it is at, and then itself."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def stopped_by(stop: Callable[[], object]) -> Iterator[None]:
    """Have SIGTERM and SIGINT call `stop` while inside; what they did before is put back after.

    `stop` runs between two steps of the main thread and must return at once. In any other thread, where Python lets nobody
    handle a signal, nothing changes: whoever started it stops it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {one: signal.signal(one, lambda *_: stop()) for one in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
