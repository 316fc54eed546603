"""What a log must do, as checks that anybody can run against theirs.

    from headwater.testing import log_checks

    class MyBench(log_checks.LogBench): ...     # how to open your log in a test, and which trials it can stage

    @pytest.mark.parametrize("check", log_checks.of(MyBench), ids=lambda check: check.__name__)
    def test_my_log(check, tmp_path):
        check(MyBench(tmp_path))

A check takes a fresh bench, asserts, and returns nothing. `of` leaves out the checks for trials that the bench cannot
stage; `missing` names them, so that they can be looked at by hand.
"""

import threading
from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import ClassVar, Literal

from headwater.clock import FixedClock
from headwater.errors import InvalidValue, LogFull
from headwater.log.base import TOPICS, Log
from headwater.records.logged import Entry, Record, Topic

Trial = Literal["restart", "full", "trim", "remove", "whole"]
"""restart: a closed log can be opened again · full: it can be brought to have no room, and to have room again ·
trim: it removes by itself what is older than `MAX_AGE` · remove: single records can be removed · whole: beside a writer a
reader never sees a part of a call."""

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAX_AGE = timedelta(days=7)


class LogBench:
    """One log in a test. Write `open`, and list the trials you can stage.

    `folder` is empty and belongs to this bench; `clock` is what the log must tell ages by.
    """

    trials: ClassVar[frozenset[Trial]] = frozenset()

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = FixedClock(NOW)

    @abstractmethod
    def open(self) -> Log:
        """The log; called again after a close for the trial `restart`. It keeps what was read for `MAX_AGE`."""
        raise NotImplementedError

    def fill(self, log: Log) -> None:
        """Leave no room for 100,000 bytes more, and room again only after `free`. Only for the trial `full`."""
        raise NotImplementedError

    def free(self, log: Log) -> None:
        """Make room again. Only for the trial `full`."""
        raise NotImplementedError

    def close(self) -> None:
        """Put everything away; called once at the end of a check."""


Check = Callable[[LogBench], None]


def of(kind: type[LogBench]) -> list[Check]:
    """The checks for benches of this class."""
    return [check for check in CHECKS if check.__name__ not in NEEDS or NEEDS[check.__name__] in kind.trials]


def missing(kind: type[LogBench]) -> list[str]:
    """Names of the checks that `of` leaves out, because the bench cannot stage what they need."""
    return [check.__name__ for check in CHECKS if check not in of(kind)]


def entry(number: int, topic: Topic = "events", *, at: datetime = NOW, key: str | None = None) -> Entry:
    """One entry of its own: message id `m<number>`, received `number` microseconds after `at`."""
    return Entry(
        topic,
        "shop",
        f"user{number % 7}" if key is None else key,
        f"m{number}",
        int(at.timestamp() * 1_000_000) + number,
        b'{"n": %d}' % number,
    )


# ---------------------------------------------------------------------- the checks


def a_new_log_is_empty(bench: LogBench) -> None:
    """No records, end 0, and reading waits for nobody."""
    with _open(bench) as log:
        for topic in TOPICS:
            assert log.read(topic, 0, 10) == [], f"a new log has records in {topic}"
            assert log.end(topic) == 0, f"the end of an empty topic must be 0, found {log.end(topic)}"
            assert log.facts().topics[topic].oldest_at is None
        log.append([])
        assert log.end("events") == 0, "appending nothing moved the end"


def entries_come_back_as_they_are(bench: LogBench) -> None:
    """Every field, every character, every byte."""
    payloads = [b"{}", b'{"a": "\\u0000"}', b'{"a": "\xff\xfe"}', '{"a": "Zoë · 東京 · 👋"}'.encode(), b'{"a": "\0"}']
    payloads += [b'{"a": "' + b"x" * size + b'"}' for size in (1, 4_000, 9_000, 40_000)]
    texts = ["", "plain", "Zoë · 東京 · 👋", "a\0b", " blank around ", "x" * 300, "'; drop table events; --"]
    entries = [
        Entry(TOPICS[number % len(TOPICS)], text, text[::-1], text + "!", moment, payload)
        for number, (payload, text, moment) in enumerate(
            (payload, text, moment)
            for payload in payloads
            for text in texts
            for moment in (0, 5, 1_790_000_000_000_000, 2**62)
        )
    ]
    entries.append(Entry("events", "large", "", "large", 7, b'{"a": "' + b"x" * 3_000_000 + b'"}'))
    with _open(bench) as log:
        log.append(entries)
        for topic in TOPICS:
            sent = [one for one in entries if one.topic == topic]
            _same(_all(log, topic), sent)


def offsets_grow_within_a_topic(bench: LogBench) -> None:
    """From 1, in the order of the calls, each topic by itself; `end` is the newest."""
    with _open(bench) as log:
        for start in range(0, 60, 3):
            log.append([entry(start), entry(start + 1, "rejected"), entry(start + 2)])
        log.append([entry(60, "changes")])
        for topic in TOPICS:
            offsets = [record.offset for record in _all(log, topic)]
            assert offsets[0] >= 1, f"offsets begin at 1, found {offsets[0]}"
            assert offsets == sorted(set(offsets)), f"offsets must grow, found {offsets}"
            assert log.end(topic) == offsets[-1], f"end says {log.end(topic)}, the newest record is {offsets[-1]}"
        numbers = [number for number in range(60) if number % 3 != 1]
        assert [record.message_id for record in _all(log, "events")] == [f"m{number}" for number in numbers]


def reading_in_any_steps_gives_the_same(bench: LogBench) -> None:
    """Records do not depend on where a reader stops and goes on."""
    with _open(bench) as log:
        number = 0
        for size in (1, 1, 2_500, 3, 40, 999, 1, 1_000, 1_001):
            log.append([entry(number + n) for n in range(size)])
            number += size
        whole = log.read("events", 0, number + 10)
        assert len(whole) == number, f"{number} entries were appended, {len(whole)} read"
        for step in (7, 100, 1_000, 4_096):
            assert _all(log, "events", step) == whole, f"read in steps of {step} it is something else"
        for start in (0, 1, 2_501, number - 1, number):
            assert log.read("events", whole[start - 1].offset if start else 0, 1) == whole[start : start + 1]
        assert log.read("events", whole[-1].offset, 10) == [], "there is something after the end"


def a_call_is_kept_whole_or_not_at_all(bench: LogBench) -> None:
    """One entry that cannot be logged refuses the call, and only that call."""
    with _open(bench) as log:
        log.append([entry(0)])
        for wrong in (b"", b"[1]", b"\0\0", b"not json"):
            entries = [entry(1), Entry("rejected", "shop", "u", "wrong", 1, wrong), entry(2)]
            try:
                log.append(entries)
            except InvalidValue as refused:
                assert "JSON object" in str(refused), f"the refusal does not say what was expected: {refused}"
            else:
                raise AssertionError(f"a payload {wrong!r} was taken; expected InvalidValue")
        log.append([entry(3)])
        assert [record.message_id for record in _all(log, "events")] == ["m0", "m3"]
        assert _all(log, "rejected") == []


def many_may_append_at_once(bench: LogBench) -> None:
    """Every entry is there once, and what one thread appended is in its order."""
    threads, calls = 8, 25
    with _open(bench) as log:

        def work(thread: int) -> None:
            for call in range(calls):
                base = (thread * calls + call) * 3
                log.append(
                    [entry(base, key=f"t{thread}"), entry(base + 1, "rejected"), entry(base + 2, key=f"t{thread}")]
                )

        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads)))
        events = _all(log, "events")
        assert len(events) == threads * calls * 2, f"expected {threads * calls * 2} events, found {len(events)}"
        assert len({record.message_id for record in events}) == len(events), "an entry is there twice"
        assert len(_all(log, "rejected")) == threads * calls
        for thread in range(threads):
            own = [int(record.message_id[1:]) for record in events if record.key == f"t{thread}"]
            assert own == sorted(own), f"what thread {thread} appended one after the other is not in that order"


def readers_see_whole_calls(bench: LogBench) -> None:
    """Beside a writer a reader sees a growing beginning of the log, never a gap, never half a call."""
    size, calls = 5, 60
    with _open(bench) as log:
        seen: list[list[str]] = []
        done = threading.Event()

        def watch() -> None:
            while not done.is_set():
                seen.append([record.message_id for record in log.read("events", 0, size * calls)])

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            for call in range(calls):
                log.append([entry(call * size + n) for n in range(size)])
        finally:
            done.set()
            watcher.join()
        expected = [f"m{number}" for number in range(size * calls)]
        for one in seen:
            assert one == expected[: len(one)], "a reader saw something else than the beginning of the log"
            assert len(one) % size == 0, f"a reader saw {len(one)} records: half a call of {size}"


def a_restart_keeps_everything(bench: LogBench) -> None:
    """Records, offsets and the positions of readers are there when the log is opened again."""
    try:
        log = bench.open()
        log.append([entry(number) for number in range(1_500)])
        log.acknowledge("engine", "events", 700)
        whole = _all(log, "events")
        log.close()
        log = bench.open()
        assert _all(log, "events") == whole, "after a restart the records are others"
        assert log.facts().unread == {"engine": {"events": log.end("events") - 700}}
        log.append([entry(1_500)])
        assert log.end("events") > whole[-1].offset, "after a restart an offset was given again"
        log.close()
    finally:
        bench.close()


def the_facts_are_true(bench: LogBench) -> None:
    """Ends, oldest and newest, and what each reader has not read."""
    with _open(bench) as log:
        log.append([entry(number) for number in range(10)])
        log.append([entry(20, "rejected")])
        log.acknowledge("engine", "events", 0)
        log.acknowledge("other", "events", log.read("events", 0, 4)[-1].offset)
        log.acknowledge("other", "rejected", log.end("rejected"))
        facts = log.facts()
        assert facts.topics["events"].end == log.end("events")
        assert facts.topics["events"].oldest_at == entry(0).received_at
        assert facts.topics["events"].newest_at == entry(9).received_at
        assert facts.unread == {"engine": {"events": 10}, "other": {"events": 6, "rejected": 0}}, facts.unread
        log.acknowledge("other", "events", log.read("events", 0, 2)[-1].offset)
        assert log.facts().unread["other"]["events"] == 8, "a reader that was restored must be allowed to go back"
        log.dismiss("other")
        log.dismiss("nobody")
        assert set(log.facts().unread) == {"engine"}


def nothing_unread_is_trimmed(bench: LogBench) -> None:
    """Age removes what every reader has, and not one record more; a topic without readers keeps all."""
    with _open(bench) as log:
        for start in range(0, 100, 10):
            log.append([entry(start + n) for n in range(10)])
        log.append([entry(200, "rejected"), entry(201, "changes")])
        bench.clock.push(MAX_AGE * 2)
        assert log.trim() == 0, "records were removed though nobody had read them"
        log.acknowledge("quick", "events", log.end("events"))
        log.acknowledge("slow", "events", log.read("events", 0, 35)[-1].offset)
        log.trim()
        left = [int(record.message_id[1:]) for record in _all(log, "events")]
        assert left[-65:] == list(range(35, 100)), "records were removed that a reader has not acknowledged"
        assert len(left) < 100, "nothing was removed though every reader has the first records"
        log.acknowledge("slow", "events", log.end("events"))
        log.acknowledge("slow", "changes", log.end("changes"))
        log.trim()
        assert _all(log, "events") == [], "old records that every reader has are still there"
        assert _all(log, "changes") == [], "an old record of a topic that its only reader has is still there"
        assert len(_all(log, "rejected")) == 1, "a topic that has no reader lost a record"


def what_is_young_is_not_trimmed(bench: LogBench) -> None:
    """A record stays for `MAX_AGE` though everybody has read it."""
    with _open(bench) as log:
        log.append([entry(number, at=NOW) for number in range(10)])
        log.append([entry(number, at=NOW + timedelta(days=1)) for number in range(10, 20)])
        log.acknowledge("engine", "events", log.end("events"))
        bench.clock.push(MAX_AGE + timedelta(hours=1))
        log.trim()
        assert [int(record.message_id[1:]) for record in _all(log, "events")] == list(range(10, 20))


def offsets_are_never_given_again(bench: LogBench) -> None:
    """Also when everything was trimmed: a reader's position would else hide new records."""
    with _open(bench) as log:
        log.append([entry(number) for number in range(10)])
        end = log.end("events")
        log.acknowledge("engine", "events", end)
        bench.clock.push(MAX_AGE * 2)
        assert log.trim() == 10
        assert log.end("events") == end, f"the end went from {end} to {log.end('events')}"
        log.append([entry(10, at=bench.clock.now())])
        assert [record.message_id for record in log.read("events", end, 10)] == ["m10"]


def a_removed_record_is_gone(bench: LogBench) -> None:
    """Only those that were meant, for every reader, and no offset moves."""
    with _open(bench) as log:
        for start in range(0, 3_000, 600):
            log.append([entry(start + n) for n in range(600)])
        log.append([entry(5_000, "rejected", key="user3")])
        before = _all(log, "events")
        count = log.remove("events", lambda record: record.key == "user3", holding=[b"user3"])
        left = [record for record in before if record.key != "user3"]
        assert count == len(before) - len(left), f"{len(before) - len(left)} were to be removed, it says {count}"
        assert _all(log, "events") == left, "others were removed, or moved"
        assert _all(log, "events", 7) == left
        assert len(_all(log, "rejected")) == 1, "a record of another topic was removed"
        assert log.remove("events", lambda record: record.key == "user3") == 0, "they were there a second time"
        assert log.remove("events", lambda record: True, holding=[b"user3"]) == 0
        assert log.remove("events", lambda record: record.message_id == "m2998") == 1
        offsets = {left[0].offset, left[700].offset, left[701].offset, before[-1].offset + 7}
        assert log.remove("events", lambda record: True, offsets=offsets) == 3
        assert log.remove("events", lambda record: False, offsets={left[1].offset}) == 0
        assert log.remove("events", lambda record: True, offsets=set()) == 0
        now = [record for record in left if record.offset not in offsets and record.message_id != "m2998"]
        assert _all(log, "events") == now
        log.append([entry(6_000)])
        assert log.read("events", before[-1].offset, 10)[0].message_id == "m6000"


def a_full_log_says_so(bench: LogBench) -> None:
    """LogFull, nothing of the call is kept, what was kept stays readable, and it works again when there is room."""
    with _open(bench) as log:
        log.append([entry(0)])
        before = log.end("events")
        bench.fill(log)
        filled = log.end("events")
        large = [Entry("events", "shop", "u", f"large{n}", 1, b'{"a": "' + b"x" * 60_000 + b'"}') for n in range(2)]
        for _ in range(3):
            try:
                log.append(large)
            except LogFull as error:
                assert "room" in str(error), f"the error does not say what is missing: {error}"
                assert log.facts().last_error == str(error), "the facts do not say that the last append failed"
            else:
                raise AssertionError("a log without room took entries; expected LogFull")
            assert log.end("events") == filled, "something of a refused call was kept"
        assert log.read("events", 0, 1)[0].message_id == "m0", "what was kept cannot be read while the log is full"
        bench.free(log)
        log.append(large)
        kept = [record.message_id for record in _all(log, "events")]
        assert kept.count("large0") == kept.count("large1") == 1, (
            "after there was room again not everything is there once"
        )
        assert log.end("events") > before
        assert log.facts().last_error is None


def it_can_be_closed_at_any_time(bench: LogBench) -> None:
    """Closing twice, or unused, is no error."""
    try:
        log = bench.open()
        log.close()
        log.close()
    finally:
        bench.close()


CHECKS: tuple[Check, ...] = (
    a_new_log_is_empty,
    entries_come_back_as_they_are,
    offsets_grow_within_a_topic,
    reading_in_any_steps_gives_the_same,
    a_call_is_kept_whole_or_not_at_all,
    many_may_append_at_once,
    readers_see_whole_calls,
    a_restart_keeps_everything,
    the_facts_are_true,
    nothing_unread_is_trimmed,
    what_is_young_is_not_trimmed,
    offsets_are_never_given_again,
    a_removed_record_is_gone,
    a_full_log_says_so,
    it_can_be_closed_at_any_time,
)
NEEDS: dict[str, Trial] = {
    "readers_see_whole_calls": "whole",
    "a_restart_keeps_everything": "restart",
    "nothing_unread_is_trimmed": "trim",
    "what_is_young_is_not_trimmed": "trim",
    "offsets_are_never_given_again": "trim",
    "a_removed_record_is_gone": "remove",
    "a_full_log_says_so": "full",
}


# ---------------------------------------------------------------------- what they stand on


@contextmanager
def _open(bench: LogBench) -> Iterator[Log]:
    try:
        log = bench.open()
        try:
            yield log
        finally:
            log.close()
    finally:
        bench.close()


def _all(log: Log, topic: Topic, step: int = 1_000_000) -> list[Record]:
    found: list[Record] = []
    while more := log.read(topic, found[-1].offset if found else 0, step):
        assert len(more) <= step, f"asked for {step} records, {len(more)} came"
        found += more
    return found


def _same(records: Iterable[Record], entries: Iterable[Entry]) -> None:
    for record, sent in zip(records, entries, strict=True):
        assert (record.topic, record.source, record.key, record.message_id, record.received_at) == (
            sent.topic,
            sent.source,
            sent.key,
            sent.message_id,
            sent.received_at,
        ), f"sent {sent.source!r}, {sent.key!r}, {sent.message_id!r}, {sent.received_at}, found {record!r:.200}"
        assert record.payload == sent.payload, f"sent {sent.payload[:80]!r}, found {record.payload[:80]!r}"
