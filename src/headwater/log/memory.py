"""A log in memory, for tests: the whole contract but durability."""

import threading
from collections.abc import Callable, Collection, Sequence
from datetime import timedelta

from headwater.clock import Clock, SystemClock
from headwater.errors import LogFull, LogUnavailable
from headwater.log.base import TOPICS, LogFacts, TopicFacts
from headwater.log.packed import checked, holds
from headwater.records.logged import Entry, Record, Topic


class MemoryLog:
    """`max_bytes`: payload bytes it may hold; `max_age`: how long what was read is kept. None = no limit."""

    def __init__(
        self, *, max_bytes: int | None = None, max_age: timedelta | None = None, clock: Clock | None = None
    ) -> None:
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock or SystemClock()
        self._records: dict[Topic, list[Record]] = {topic: [] for topic in TOPICS}
        self._ends: dict[Topic, int] = dict.fromkeys(TOPICS, 0)
        self._positions: dict[tuple[str, Topic], int] = {}
        self._lock = threading.RLock()
        self._closed = False
        self._error: str | None = None

    def append(self, entries: Sequence[Entry]) -> None:
        checked(entries)
        with self._lock:
            self._open()
            more = sum(len(entry.payload) for entry in entries)
            if self._max_bytes is not None and self._size() + more > self._max_bytes:
                self.trim()
            if self._max_bytes is not None and self._size() + more > self._max_bytes:
                self._error = (
                    f"there is no room in the log in memory: it holds {self._size():,} of {self._max_bytes:,} bytes, {more:,} more do not fit. "
                    "Let the readers catch up, or allow more"
                )
                raise LogFull(self._error)
            for entry in entries:
                offset = self._ends[entry.topic] = self._ends[entry.topic] + 1
                self._records[entry.topic].append(
                    Record(
                        offset,
                        entry.topic,
                        entry.source,
                        entry.key,
                        entry.message_id,
                        entry.received_at,
                        entry.payload,
                    )
                )
            self._error = None

    def read(self, topic: Topic, after: int, limit: int) -> list[Record]:
        with self._lock:
            self._open()
            return [record for record in self._records[topic] if record.offset > after][:limit]

    def end(self, topic: Topic) -> int:
        with self._lock:
            self._open()
            return self._ends[topic]

    def place(self, topic: Topic, offset: int) -> str:
        return ""

    def follow(self, topic: Topic, offset: int, place: str) -> None:
        pass

    def acknowledge(self, reader: str, topic: Topic, offset: int) -> None:
        with self._lock:
            self._open()
            self._positions[reader, topic] = offset

    def dismiss(self, reader: str) -> None:
        with self._lock:
            self._positions = {key: at for key, at in self._positions.items() if key[0] != reader}

    def trim(self) -> int:
        with self._lock:
            self._open()
            before = sum(map(len, self._records.values()))
            if self._max_age is not None:
                oldest = int((self._clock.now() - self._max_age).timestamp() * 1_000_000)
                for topic in TOPICS:
                    while (first := self._read_by_all(topic)) and first.received_at < oldest:
                        self._records[topic].pop(0)
            for topic in TOPICS:
                while self._max_bytes is not None and self._size() > 0.9 * self._max_bytes and self._read_by_all(topic):
                    self._records[topic].pop(0)
            return before - sum(map(len, self._records.values()))

    def remove(
        self,
        topic: Topic,
        gone: Callable[[Record], bool],
        *,
        holding: Sequence[bytes] = (),
        offsets: Collection[int] | None = None,
    ) -> int:
        def goes(record: Record) -> bool:
            return (offsets is None or record.offset in offsets) and _held(record, holding) and gone(record)

        with self._lock:
            self._open()
            kept = [record for record in self._records[topic] if not goes(record)]
            removed = len(self._records[topic]) - len(kept)
            self._records[topic] = kept
            return removed

    def remains(self) -> str:
        return ""

    def facts(self) -> LogFacts:
        with self._lock:
            self._open()
            topics = {
                topic: TopicFacts(
                    self._ends[topic],
                    records[0].received_at if records else None,
                    records[-1].received_at if records else None,
                )
                for topic, records in self._records.items()
            }
            unread: dict[str, dict[Topic, int]] = {}
            for (reader, topic), at in self._positions.items():
                unread.setdefault(reader, {})[topic] = max(0, self._ends[topic] - at)
            return LogFacts("memory", self._size(), self._max_bytes, None, topics, unread, None, self._error)

    def close(self) -> None:
        self._closed = True

    def _open(self) -> None:
        if self._closed:
            raise LogUnavailable("the log in memory is closed, an open one was expected. Make a new one")

    def _size(self) -> int:
        return sum(len(record.payload) for records in self._records.values() for record in records)

    def _read_by_all(self, topic: Topic) -> Record | None:
        """The oldest record, if every reader of the topic has it."""
        positions = [at for (_, of), at in self._positions.items() if of == topic]
        first = next(iter(self._records[topic]), None)
        return first if first and positions and first.offset <= min(positions) else None


def _held(record: Record, needles: Sequence[bytes]) -> bool:
    return not needles or holds(record.payload, record.key, record.message_id, needles)
