"""Many coroutines, few commits: order, refusals, overload and the end of the process."""

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from headwater.errors import InvalidValue, LogFull, LogUnavailable, Overloaded
from headwater.log.group import GroupCommit
from headwater.log.memory import MemoryLog
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.testing.log_checks import entry


class Held(MemoryLog):
    """A log whose appends wait until they are let through; counts them."""

    def __init__(self, **options: int) -> None:
        super().__init__(**options)
        self.gate = threading.Event()
        self.commits: list[int] = []

    def append(self, entries: Sequence[Entry]) -> None:
        self.gate.wait()
        super().append(entries)
        self.commits.append(len(entries))


def test_what_gathers_during_a_commit_is_the_next_commit() -> None:
    log = Held()
    group = GroupCommit(log, max_waiting=1_000)

    async def main() -> None:
        first = asyncio.create_task(group.append([entry(0)]))
        await asyncio.sleep(0)
        others = [asyncio.create_task(group.append([entry(n)])) for n in range(1, 50)]
        await asyncio.sleep(0)
        assert group.waiting == 50
        assert not first.done()
        log.gate.set()
        await asyncio.gather(first, *others)
        assert group.waiting == 0

    asyncio.run(main())
    group.close()
    assert sum(log.commits) == 50
    assert len(log.commits) <= 2
    assert [record.message_id for record in log.read("events", 0, 100)] == [f"m{n}" for n in range(50)]


def test_nobody_is_answered_before_the_log_has_it(tmp_path: Path) -> None:
    async def main() -> None:
        async def one(number: int) -> None:
            for call in range(10):
                await group.append([entry(number * 10 + call)])
                kept = {record.message_id for record in log.read("events", 0, 10_000)}
                assert f"m{number * 10 + call}" in kept

        await asyncio.gather(*(one(number) for number in range(20)))

    with SqliteLog(tmp_path / "log.sqlite") as log:
        group = GroupCommit(log, max_waiting=1_000)
        asyncio.run(main())
        group.close()
        assert log.end("events") == 200


def test_too_much_that_waits_is_refused_and_nothing_of_it_is_kept() -> None:
    log = Held()
    group = GroupCommit(log, max_waiting=10)

    async def main() -> None:
        taken = [asyncio.create_task(group.append([entry(n), entry(n + 100)])) for n in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(Overloaded, match=r"10 entries are waiting for the log, 10 may\. Send again in a moment"):
            await group.append([entry(50)])
        log.gate.set()
        await asyncio.gather(*taken)
        await group.append([entry(60)])

    asyncio.run(main())
    group.close()
    kept = [record.message_id for record in log.read("events", 0, 100)]
    assert len(kept) == 11
    assert "m50" not in kept


def test_a_call_larger_than_the_queue_is_taken_when_nothing_waits() -> None:
    log = MemoryLog()
    group = GroupCommit(log, max_waiting=10)
    asyncio.run(group.append([entry(n) for n in range(25)]))
    group.close()
    assert log.end("events") == 25


def test_one_invalid_entry_refuses_its_own_call_alone() -> None:
    log = Held()
    group = GroupCommit(log, max_waiting=1_000)

    async def main() -> list[BaseException | None]:
        first = asyncio.create_task(group.append([entry(0)]))
        await asyncio.sleep(0)
        wrong = Entry("events", "shop", "u", "wrong", 1, b"[]")
        tasks = [asyncio.create_task(group.append([one])) for one in (entry(1), wrong, entry(2))]
        await asyncio.sleep(0)
        log.gate.set()
        return await asyncio.gather(first, *tasks, return_exceptions=True)

    told = asyncio.run(main())
    group.close()
    assert [type(one) for one in told] == [type(None), type(None), InvalidValue, type(None)]
    assert [record.message_id for record in log.read("events", 0, 100)] == ["m0", "m1", "m2"]


def test_everybody_of_a_refused_commit_is_told() -> None:
    log = Held(max_bytes=60)
    group = GroupCommit(log, max_waiting=1_000)

    async def main() -> list[BaseException | None]:
        tasks = [asyncio.create_task(group.append([entry(n)])) for n in range(30)]
        await asyncio.sleep(0)
        log.gate.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    told = asyncio.run(main())
    group.close()
    kept = {record.message_id for record in log.read("events", 0, 100)}
    assert {f"m{n}" for n, one in enumerate(told) if one is None} == kept
    assert {type(one) for one in told} <= {type(None), LogFull}
    assert any(isinstance(one, LogFull) for one in told)


def test_closing_writes_down_what_waits_and_takes_no_more() -> None:
    log = Held()
    group = GroupCommit(log, max_waiting=1_000)

    async def main() -> None:
        tasks = [asyncio.create_task(group.append([entry(n)])) for n in range(5)]
        await asyncio.sleep(0)
        log.gate.set()
        await asyncio.to_thread(group.close)
        await asyncio.gather(*tasks)
        with pytest.raises(LogUnavailable, match="the process is stopping"):
            await group.append([entry(9)])

    asyncio.run(main())
    group.close()
    assert log.end("events") == 5


def test_a_caller_that_has_gone_does_not_hurt_the_others() -> None:
    log = Held()
    group = GroupCommit(log, max_waiting=1_000)

    async def main() -> None:
        tasks = [asyncio.create_task(group.append([entry(n)])) for n in range(5)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        log.gate.set()
        told = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(one) for one in told].count(asyncio.CancelledError) == 1
        assert told.count(None) == 4

    asyncio.run(main())
    group.close()
    assert group.waiting == 0
