"""What the log in Kafka remembers beside its records: a compacted topic of small notes, read whole when it is opened.

    reader:<name>:<topic>               how far that reader is: next offset by partition
    removed:<topic>:<partition>:<n>     this record is hidden from everybody, and when that was asked for
    base:<topic>                        the number before its first record: what a log before this one had given out

A note without a value takes the one before it back. Notes are written when they change and confirmed by `flush`; one that
is lost with the process leaves an older one, which only keeps more.
"""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any

from headwater.log.kafka_topic import Looker, TopicReader
from headwater.log.order import Place
from headwater.records.logged import Topic

Produce = Callable[[str, bytes | None], None]
"""Writes one note; of the same key the newest holds."""


class Notes:
    """The notes of one log. `refresh` before whatever must see those of other processes."""

    def __init__(self, looker: Looker, reader: TopicReader, produce: Produce, flush: Callable[[], None]) -> None:
        self._looker = looker
        self._reader = reader
        self._produce = produce
        self._flush = flush
        self._next = 0
        self._lock = threading.RLock()
        self.readers: dict[tuple[str, Topic], Place] = {}
        self.base: dict[Topic, int] = {}
        self.removed: dict[Topic, dict[tuple[int, int], int]] = {}
        """By topic: (partition, offset) of a hidden record, and when it was asked for, milliseconds since 1970."""

    def refresh(self) -> None:
        """Read what was noted since, by anybody."""
        with self._lock:
            self._flush()
            ((low, end),) = self._looker.bounds(self._reader.topic).values()
            while self._next < end:
                came = self._reader.take({0: max(low, self._next)}, 10_000, {0: end})
                for message in came:
                    self._put((message.key() or b"").decode(), message.value())
                self._next = came[-1].offset() + 1 if came else end

    def acknowledge(self, reader: str, topic: Topic, place: Place) -> None:
        """The reader has everything before this place."""
        with self._lock:
            if self.readers.get((reader, topic)) != place:
                self._note(f"reader:{reader}:{topic}", {"next": {str(number): at for number, at in place.items()}})

    def begin_after(self, topic: Topic, number: int) -> None:
        """The numbers of the topic's records begin after this one."""
        with self._lock:
            self._note(f"base:{topic}", {"number": number})

    def dismiss(self, reader: str) -> None:
        """Nobody of that name reads any more."""
        with self._lock:
            for name, topic in [key for key in self.readers if key[0] == reader]:
                self._note(f"reader:{name}:{topic}", None)

    def hide(self, topic: Topic, partition: int, offset: int, at_ms: int) -> None:
        """The record is no more."""
        with self._lock:
            self._note(f"removed:{topic}:{partition}:{offset}", {"at": at_ms})

    def drop_removed(self, topic: Topic, lows: Mapping[int, int]) -> None:
        """Forget about hidden records that the topic does not hold any more."""
        with self._lock:
            for partition, offset in [key for key in self.removed.get(topic, {}) if key[1] < lows.get(key[0], 0)]:
                self._note(f"removed:{topic}:{partition}:{offset}", None)

    def flush(self) -> None:
        """Return when the brokers have every note."""
        self._flush()

    def _note(self, key: str, value: dict[str, Any] | None) -> None:
        written = None if value is None else json.dumps(value, separators=(",", ":")).encode()
        self._produce(key, written)
        self._put(key, written)

    def _put(self, key: str, value: bytes | None) -> None:
        kind, rest = key.split(":", 1)
        said = None if value is None else json.loads(value)
        if kind == "reader":
            name, topic = rest.rsplit(":", 1)
            if said is None:
                self.readers.pop((name, topic), None)  # type: ignore[arg-type]
            else:
                self.readers[name, topic] = {int(number): at for number, at in said["next"].items()}  # type: ignore[index]
        elif kind == "base" and said is not None:
            self.base[rest] = said["number"]  # type: ignore[index]
        elif kind == "removed":
            topic, partition, offset = rest.split(":")
            hidden = self.removed.setdefault(topic, {})  # type: ignore[arg-type]
            if said is None:
                hidden.pop((int(partition), int(offset)), None)
            else:
                hidden[int(partition), int(offset)] = said["at"]
