"""Durability for coroutines: many requests, one thread that writes, one commit for all that have gathered."""

import asyncio
import queue
import threading
import time
from collections.abc import Sequence

from headwater.errors import InvalidValue, LogUnavailable, Overloaded
from headwater.log.base import Log
from headwater.records.logged import Entry


class GroupCommit:
    """Awaits the log for many callers at once.

    `max_waiting`: entries that may wait to be durable; what comes on top is refused with Overloaded, so that senders slow
    down instead of the queue growing. `linger_ms`: how long the first entry waits for others, milliseconds; 0 is best where
    a commit itself takes milliseconds, because others gather meanwhile. `max_group`: entries in one commit.
    Belongs to one process; the log is not closed with it.
    """

    def __init__(
        self, log: Log, *, max_waiting: int = 100_000, linger_ms: float = 0.0, max_group: int = 20_000
    ) -> None:
        self._log = log
        self._max_waiting = max_waiting
        self._linger = linger_ms / 1_000
        self._max_group = max_group
        self._queue: queue.SimpleQueue[_Call | None] = queue.SimpleQueue()
        self._count = threading.Lock()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting(self) -> int:
        """Entries that are handed in and not yet durable."""
        return self._waiting

    async def append(self, entries: Sequence[Entry]) -> None:
        """Return when all entries are durable; all or none of them are.

        Raises Overloaded (nothing was kept, send again in a moment), and whatever `Log.append` raises. Entries of one
        caller that awaits each call keep their order. When the caller is cancelled the entries may be kept all the same.
        """
        if not entries:
            return
        with self._count:
            if self._closed:
                raise LogUnavailable("the log takes no more entries: the process is stopping. Send again")
            if self._waiting + len(entries) > self._max_waiting and self._waiting:
                raise Overloaded(
                    f"{self._waiting:,} entries are waiting for the log, {self._max_waiting:,} may. Send again in a moment"
                )
            self._waiting += len(entries)
            if self._thread is None:
                self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
                self._thread.start()
        loop = asyncio.get_running_loop()
        call = _Call(loop, loop.create_future(), entries)
        self._queue.put(call)
        await call.future

    def close(self) -> None:
        """Write down what is waiting, then stop. Closing twice is fine."""
        with self._count:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join()

    def _write(self) -> None:
        while (call := self._queue.get()) is not None:
            if self._linger:
                time.sleep(self._linger)
            calls, entries, last = [call], list(call.entries), False
            while len(entries) < self._max_group:
                try:
                    more = self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    last = True
                    break
                calls.append(more)
                entries += more.entries
            self._keep(calls, entries)
            if last:
                return

    def _keep(self, calls: "list[_Call]", entries: Sequence[Entry]) -> None:
        """Append them together; when one of them is invalid, each by itself, so that only that one is refused."""
        error: Exception | None = None
        try:
            self._log.append(entries)
        except InvalidValue as refused:
            if len(calls) > 1:
                for call in calls:
                    self._keep([call], call.entries)
                return
            error = refused
        except Exception as failed:
            error = failed
        with self._count:
            self._waiting -= len(entries)
        for loop in {call.loop for call in calls}:
            own = [call.future for call in calls if call.loop is loop]
            try:
                loop.call_soon_threadsafe(_tell, own, error)
            except RuntimeError:  # the loop is closed: nobody awaits any more
                continue


class _Call:
    """One caller who waits."""

    __slots__ = ("entries", "future", "loop")

    def __init__(
        self, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[None]", entries: Sequence[Entry]
    ) -> None:
        self.loop = loop
        self.future = future
        self.entries = entries


def _tell(futures: "list[asyncio.Future[None]]", error: Exception | None) -> None:
    for future in futures:
        if future.done():  # cancelled
            continue
        if error is None:
            future.set_result(None)
        else:
            future.set_exception(type(error)(str(error)) if isinstance(error, LogUnavailable | InvalidValue) else error)
