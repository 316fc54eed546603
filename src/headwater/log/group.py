"""Durability for coroutines: many requests, one thread that writes, one commit for all that have gathered.

The event loop gathers; the thread has one group at a time. When a group is durable the loop answers its callers and hands
over what has gathered meanwhile: one wake-up of each side a group, however many calls it holds.
"""

import asyncio
import queue
import threading
import time
from collections.abc import Sequence

from headwater.errors import InvalidValue, LogUnavailable, Overloaded
from headwater.log.base import Log
from headwater.records.logged import Entry


class GroupCommit:
    """Awaits the log for many callers of one event loop.

    `max_waiting`: entries that may wait to be durable; what comes on top is refused with Overloaded, so that senders slow
    down instead of the queue growing. `linger_ms`: how long the first entry waits for others, milliseconds; 0 is best where
    a commit itself takes milliseconds, because others gather meanwhile. `max_group`: entries in one commit.
    The log is not closed with it.
    """

    def __init__(
        self, log: Log, *, max_waiting: int = 100_000, linger_ms: float = 0.0, max_group: int = 20_000
    ) -> None:
        self._log = log
        self._max_waiting = max_waiting
        self._linger = linger_ms / 1_000
        self._max_group = max_group
        self._calls: list[_Call] = []  # gathered, not handed over; only the loop touches them
        self._waiting = 0
        self._busy = False  # the thread has a group, or will have one at the end of this turn of the loop
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._groups: queue.SimpleQueue[list[_Call] | None] = queue.SimpleQueue()
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
        count = len(entries)
        if not count:
            return
        if self._closed:
            raise LogUnavailable("the log takes no more entries: the process is stopping. Send again")
        if self._waiting + count > self._max_waiting and self._waiting:
            raise Overloaded(
                f"{self._waiting:,} entries are waiting for the log, {self._max_waiting:,} may. Send again in a moment"
            )
        if self._loop is None:
            self._begin()
        assert self._loop is not None
        call = _Call(self._loop.create_future(), entries)
        self._calls.append(call)
        self._waiting += count
        if not self._busy:
            self._busy = True
            self._loop.call_soon(self._hand_over)
        await call.future

    def close(self) -> None:
        """Write down what is waiting, then stop. Closing twice is fine. Call it in the loop's thread, or after its end."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is None:
            return
        self._groups.put(None)
        thread.join()
        while self._calls:
            self._keep(self._next_group())

    # ------------------------------------------------------------------ in the loop

    def _begin(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._write, name="log-writer", daemon=True)
        self._thread.start()

    def _hand_over(self) -> None:
        self._busy = bool(self._calls) and not self._closed
        if self._busy:
            self._groups.put(self._next_group())

    def _next_group(self) -> "list[_Call]":
        """The calls of the next commit; what is too much for it waits for the one after."""
        size = 0
        for number, call in enumerate(self._calls):
            size += len(call.entries)
            if size >= self._max_group:
                group, self._calls = self._calls[: number + 1], self._calls[number + 1 :]
                return group
        group, self._calls = self._calls, []
        return group

    def _answer(self, told: "list[tuple[_Call, Exception | None]]") -> None:
        self._hand_over()
        for call, error in told:
            self._waiting -= len(call.entries)
            future = call.future
            if future.done():  # cancelled
                continue
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

    # ------------------------------------------------------------------ in the thread

    def _write(self) -> None:
        while (group := self._groups.get()) is not None:
            if self._linger:
                time.sleep(self._linger)
            self._keep(group)

    def _keep(self, group: "list[_Call]") -> None:
        told = self._kept(group)
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._answer, told)
        except RuntimeError:  # the loop is closed: nobody awaits any more
            self._waiting -= sum(len(call.entries) for call in group)

    def _kept(self, group: "list[_Call]") -> "list[tuple[_Call, Exception | None]]":
        """Append them together; when one of them is invalid, each by itself, so that only that one is refused."""
        try:
            self._log.append(group[0].entries if len(group) == 1 else [one for call in group for one in call.entries])
        except InvalidValue as refused:
            if len(group) == 1:
                return [(group[0], refused)]
            return [one for call in group for one in self._kept([call])]
        except LogUnavailable as error:  # each caller raises an error of its own, so that tracebacks do not mix
            return [(call, type(error)(str(error))) for call in group]
        except Exception as error:  # whoever awaits is told, whatever it is
            return [(call, error) for call in group]
        return [(call, None) for call in group]


class _Call:
    """One caller who waits."""

    __slots__ = ("entries", "future")

    def __init__(self, future: "asyncio.Future[None]", entries: Sequence[Entry]) -> None:
        self.future = future
        self.entries = entries
