"""The log in topics of a Kafka cluster: the same contract as the file, and room beyond one machine.

    <prefix>events, <prefix>changes    one message per entry: key and payload as they came; source, message id and moment in headers
    <prefix>rejected                   the same, one partition
    <prefix>log                        compacted notes: how far each reader is, which records are hidden (kafka_notes)

Durable: `append` returns when all in-sync replicas have every entry (`acks=all`, idempotent producer). Beside it a reader may
see the beginning of a call before its end, and of a call that fails a part may stay: its sender, who was not told that it was
kept, sends again, and what is there twice is dropped where it lands.

Order: entries of one key go to one partition and keep their order. Records of all partitions get one sequence of numbers
from the reader itself (`order`), so a number alone does not say where several partitions stand: `place` gives that to
whoever keeps the number, and `follow` takes it back.

Old records are deleted by `trim`, when every reader has them; the topics themselves are made to keep everything. A record
that is removed is hidden from every reader at once. Its bytes cannot be overwritten: they go when Kafka deletes the segment
that holds them, which `remains` says in a sentence.

Needs `pip install 'headwater[kafka]'`. Rights: DESCRIBE, READ and WRITE on the topics with the prefix, DELETE for `trim`,
CREATE on the cluster or the prefix where the topics are not made beforehand; READ on the group `headwater`, which nobody joins.
"""

import threading
import time
import zlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from headwater.clock import Clock, SystemClock
from headwater.errors import ConfigError, InvalidValue, LogUnavailable
from headwater.log import kafka_groups
from headwater.log.base import TOPICS, LogFacts, TopicFacts
from headwater.log.kafka_notes import Notes
from headwater.log.kafka_record import record
from headwater.log.kafka_topic import Looker, TopicReader
from headwater.log.order import Order, Place, kept, number_of, somewhere
from headwater.log.packed import checked, holds
from headwater.log.settings import KafkaLogSettings
from headwater.records.logged import Entry, Record, Topic

if TYPE_CHECKING:
    from confluent_kafka import Producer

TRIM_EVERY = 60.0
"""Seconds between two looks at what is too old, while entries arrive."""
SEGMENT_MS = 3_600_000
"""A file of Kafka that is older is closed with the next message, so that it can be deleted when it is due."""


class KafkaLog:
    """The log of one project in one cluster; any number of processes may have it open.

    `max_age`: how long what every reader has is kept, None = for ever. The brokers are asked with the first call, which
    makes the topics that are missing.
    """

    def __init__(
        self,
        settings: KafkaLogSettings,
        environment: Mapping[str, str],
        *,
        max_age: timedelta | None = None,
        clock: Clock | None = None,
    ) -> None:
        self._settings = settings
        self._client = settings.client(environment)
        self._max_age = max_age
        self._clock = clock or SystemClock()
        self._pen = threading.Lock()  # held by whoever uses the producer
        self._desk = threading.RLock()  # held by whoever changes the orders
        self._producer: Producer | None = None
        self._refused: str | None = None
        self._looker = Looker(self._client, settings.timeout_seconds)
        self._readers: dict[Topic, TopicReader] = {}
        self._scanners: dict[Topic, TopicReader] = {}
        self._partitions: dict[Topic, int] = {}
        self._orders: dict[Topic, list[Order]] = {}
        self._followed: dict[Topic, int] = {}
        self._notes: Notes | None = None
        self._closed = False
        self._commit_seconds: float | None = None
        self._error: str | None = None
        self._trimmed_at = time.monotonic()

    # ------------------------------------------------------------------ appending

    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        checked(entries)
        self._open()
        started = time.perf_counter()
        now = int(time.time() * 1_000)
        try:
            with self._pen:
                producer = self._writer()
                for entry in entries:
                    self._produce(producer, entry, now)
                self._confirm(producer, len(entries))
        except LogUnavailable as error:
            self._error = str(error)
            raise
        self._error, self._commit_seconds = None, time.perf_counter() - started
        if self._max_age is not None and time.monotonic() - self._trimmed_at > TRIM_EVERY:
            with suppress(LogUnavailable):  # what is too old goes later, then
                self.trim()

    def _produce(self, producer: "Producer", entry: Entry, now: int) -> None:
        try:
            key, message_id = entry.key.encode(), entry.message_id.encode()
            source = entry.source.encode()
        except UnicodeEncodeError as error:
            self._drop_producer()
            raise InvalidValue(f"an entry cannot be logged: {error}; expected texts that are UTF-8") from error
        parts = self._partitions[entry.topic]
        if parts == 1:
            number = 0
        elif key:
            number = -1  # as Kafka's own clients choose it
        else:
            number = zlib.crc32(message_id) % parts
        headers: list[tuple[str, str | bytes | None]] = [
            ("source", source),
            ("message_id", message_id),
            ("received_at", b"%d" % entry.received_at),
        ]
        moment = min(max(1, entry.received_at // 1_000), now)
        while True:
            try:
                producer.produce(self._name(entry.topic), entry.payload, key, number, timestamp=moment, headers=headers)
            except BufferError:
                producer.poll(0.05)
            except Exception as error:
                self._drop_producer()
                raise LogUnavailable(
                    f"cannot append to {self.place_name}: {_reason(error)}. Nothing was kept"
                ) from error
            else:
                return

    def _confirm(self, producer: "Producer", count: int) -> None:
        """Until the brokers have all that was produced. The pen is held."""
        left = producer.flush(self._settings.timeout_seconds + 1)
        refused, self._refused = self._refused, None
        if left or refused:
            self._drop_producer()
            found = (
                refused or f"{left:,} of {count:,} messages were not confirmed in {self._settings.timeout_seconds:g} s"
            )
            raise LogUnavailable(
                f"cannot append to {self.place_name}: {found}. Some of them may be there: send all again, what is there "
                "twice is dropped where it lands"
            )

    def _writer(self) -> "Producer":
        if self._producer is None:
            from confluent_kafka import Producer  # noqa: PLC0415 (an extra)

            def answered(error: Any, _message: Any) -> None:
                if error is not None:
                    self._refused = error.str()

            self._producer = Producer(
                {
                    **self._client,
                    "enable.idempotence": True,
                    "acks": "all",
                    "linger.ms": int(
                        self._settings.timeout_seconds * 500
                    ),  # each call ends with a flush, so that what it holds goes out together
                    "batch.num.messages": 100_000,
                    "message.max.bytes": self._settings.max_message_bytes,
                    "queue.buffering.max.messages": 1_000_000,
                    "compression.type": "lz4",
                    "partitioner": "murmur2_random",
                    "delivery.timeout.ms": int(self._settings.timeout_seconds * 1_000),
                    "topic.metadata.propagation.max.ms": int(self._settings.timeout_seconds * 500),
                    "delivery.report.only.error": True,
                    "on_delivery": answered,
                }
            )
        return self._producer

    def _drop_producer(self) -> None:
        """Give up what is not confirmed; the next call begins with a new producer. The pen is held."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(0.1)
            self._producer = None
        self._refused = None

    # ------------------------------------------------------------------ reading

    def read(self, topic: Topic, after: int, limit: int) -> list[Record]:
        self._open()
        base = self._base(topic)
        after = max(0, after - base)
        reader, bounds = self._readers[topic], self._bounds(topic)
        ends = {number: high for number, (_, high) in bounds.items()}
        hidden = self._kept_notes.removed.get(topic, {})
        found: list[Record] = []
        with self._desk:
            order = self._order(topic, after, bounds)
            at = after
            for number, first, end in list(order.after(after)):  # had before: the same again
                begin = max(first, bounds[number][0])
                for message in reader.span(number, begin, min(end, begin + limit - len(found))):
                    at = order.number(number, message.offset()) or at
                    if (number, message.offset()) not in hidden:
                        found.append(record(topic, base + at, message))
                if len(found) >= limit:
                    return found[:limit]
            self._nothing_lost(topic, order.newest, bounds)
            while len(found) < limit:
                came = reader.take(kept(order.newest, bounds), limit - len(found), ends)
                if not came:
                    return found
                part, following = -1, -1
                for message in came:
                    number, offset = message.partition(), message.offset()
                    if number == part and offset == following:
                        at += 1
                    else:
                        if part >= 0:
                            order.extend(part, following)
                        at, part = order.add(number, offset), number
                    following = offset + 1
                    if not hidden or (number, offset) not in hidden:
                        found.append(record(topic, base + at, message))
                order.extend(part, following)
        return found

    def _order(self, topic: Topic, after: int, bounds: Mapping[int, tuple[int, int]]) -> Order:
        """The order that knows the place of `after`; a new one that begins there, when none does."""
        known = self._orders.setdefault(topic, [])
        for order in known:
            if order.place(after) is not None:
                return order
        noted = [
            place for (_, of), place in self._kept_notes.readers.items() if of == topic and number_of(place) == after
        ]
        new = Order(noted[0] if noted else somewhere(after, bounds))
        keep = 1 if topic in self._followed else 0  # the followed one stands first and stays
        known[keep:] = [new]
        return new

    def _nothing_lost(self, topic: Topic, place: Place, bounds: Mapping[int, tuple[int, int]]) -> None:
        """Raises LogUnavailable when a reader that follows this log is not where the log is."""
        if topic not in self._followed or number_of(place) < self._followed[topic]:
            return
        for number, (low, high) in bounds.items():
            at = place.get(number, 0)
            if at < low and at > 0:
                raise LogUnavailable(
                    f"{low - at:,} records of {self._name(topic)}, partition {number}, were deleted before they were read: the "
                    f"reader is at {at:,} and the topic begins at {low:,}. Set the topic's retention.ms and retention.bytes "
                    "to -1; Headwater deletes what every reader has"
                )
            if at > high:
                raise LogUnavailable(
                    f"{self._name(topic)}, partition {number}, ends at {high:,}, and {at:,} was read already: the cluster lost "
                    "records, or it is another topic of that name. Put the right one back"
                )

    def end(self, topic: Topic) -> int:
        self._open()
        return self._base(topic) + sum(high for _, high in self._bounds(topic).values())

    def begin_after(self, topic: Topic, number: int) -> None:
        """Number the records of an empty topic from here on: those below stand in the log that was followed before.

        Raises ConfigError when the topic has records already.
        """
        self._open()
        if self._base(topic) != number and any(high for _, high in self._bounds(topic).values()):
            raise ConfigError(
                f"{self._name(topic)} has records already, so it cannot go on after another log. Give the log a topic_prefix of its own"
            )
        self._kept_notes.begin_after(topic, number)
        self._kept_notes.flush()

    def _base(self, topic: Topic) -> int:
        return self._kept_notes.base.get(topic, 0)

    # ------------------------------------------------------------------ places

    def place(self, topic: Topic, offset: int) -> str:
        self._open()
        with self._desk:
            for order in self._orders.get(topic, ()):
                found = order.place(offset - self._base(topic))
                if found is not None:
                    return ",".join(f"{number}:{at}" for number, at in sorted(found.items()))
        return ""

    def follow(self, topic: Topic, offset: int, place: str) -> None:
        self._open()
        self._kept_notes.refresh()
        bounds, given = self._bounds(topic), offset
        offset -= self._base(topic)
        told = {int(number): int(at) for number, at in (pair.split(":") for pair in place.split(",") if pair)}
        if not told and (len(bounds) == 1 or offset == 0):
            told = dict.fromkeys(bounds, 0) if offset == 0 else {0: offset}
        if number_of(told) != offset:
            raise LogUnavailable(
                f"the reader is at {given:,} of {self._name(topic)}, and what is known of its partitions ({place or 'nothing'}) "
                "does not say where that is. It followed another log: move to this one as docs/kafka.md says"
            )
        with self._desk:
            self._orders[topic] = [Order(told)]
            self._followed[topic] = offset
        self._nothing_lost(topic, told, bounds)

    # ------------------------------------------------------------------ readers and what may go

    def acknowledge(self, reader: str, topic: Topic, offset: int) -> None:
        self._open()
        offset = max(0, offset - self._base(topic))
        with self._desk:
            places = [found for order in self._orders.get(topic, ()) if (found := order.place(offset)) is not None]
        bounds = None if places else self._bounds(topic)
        self._kept_notes.acknowledge(reader, topic, places[0] if bounds is None else somewhere(offset, bounds))

    def dismiss(self, reader: str) -> None:
        self._open()
        self._kept_notes.refresh()
        self._kept_notes.dismiss(reader)
        self._kept_notes.flush()

    def trim(self) -> int:
        self._open()
        self._trimmed_at = time.monotonic()
        self._kept_notes.refresh()
        return sum(self._trim_topic(topic) for topic in TOPICS)

    def _trim_topic(self, topic: Topic) -> int:
        from confluent_kafka import TopicPartition  # noqa: PLC0415 (an extra)
        from confluent_kafka.admin import AdminClient  # noqa: PLC0415 (an extra)

        places = [place for (_, of), place in self._kept_notes.readers.items() if of == topic]
        if not places:
            return 0
        if topic != "rejected":
            places += kafka_groups.places(self._client, self._settings, self._name(topic), self._partitions[topic])
        bounds = self._bounds(topic)
        now = self._clock.now()
        young = (
            self._looker.first_after(self._name(topic), _ms(now - self._max_age)) if self._max_age is not None else {}
        )
        due = _ms(now - timedelta(hours=self._settings.erase_hours))
        cuts: dict[int, int] = {}
        for number, (low, high) in bounds.items():
            read = min([high, *(place.get(number, 0) for place in places)])
            erase = [at + 1 for (of, at), asked in self._hidden(topic) if of == number and asked <= due and at < read]
            cut = max([min(read, young.get(number, 0)), *erase])
            if cut > low:
                cuts[number] = cut
        if not cuts:
            return 0
        asked = [TopicPartition(self._name(topic), number, cut) for number, cut in cuts.items()]
        admin = AdminClient(self._client)
        try:
            for answer in admin.delete_records(asked, request_timeout=self._settings.timeout_seconds).values():
                answer.result(self._settings.timeout_seconds)
        except Exception as error:
            raise LogUnavailable(
                f"old records of {self._name(topic)} could not be deleted: {_reason(error)}. Grant DELETE on the topic"
            ) from error
        self._kept_notes.drop_removed(topic, {**{number: low for number, (low, _) in bounds.items()}, **cuts})
        return sum(cut - bounds[number][0] for number, cut in cuts.items())

    def deleted(self, topic: Topic) -> int:
        """How many of the oldest records are gone from the topic."""
        self._open()
        return sum(low for low, _ in self._bounds(topic).values())

    # ------------------------------------------------------------------ removing

    def remove(
        self,
        topic: Topic,
        gone: Callable[[Record], bool],
        *,
        holding: Sequence[bytes] = (),
        offsets: Collection[int] | None = None,
    ) -> int:
        """Hides them at once and for every reader; when their bytes go is what `remains` says."""
        self._open()
        self._kept_notes.refresh()
        hidden = {key for key, _ in self._hidden(topic)}
        removed = 0
        for number, offset, found in self._candidates(topic, offsets):
            if (number, offset) in hidden:
                continue
            if holding and not holds(found.payload, found.key, found.message_id, holding):
                continue
            if gone(found):
                self._kept_notes.hide(topic, number, offset, _ms(self._clock.now()))
                removed += 1
        self._kept_notes.flush()
        return removed

    def _candidates(self, topic: Topic, offsets: Collection[int] | None) -> Iterator[tuple[int, int, Record]]:
        reader, bounds = self._scanner(topic), self._bounds(topic)
        if offsets is None:
            for number, (low, high) in bounds.items():
                for message in reader.span(number, low, high):
                    offset = message.offset()
                    yield number, offset, record(topic, offset + 1, message)
            return
        for asked in sorted(offsets):
            number, offset = self._where(topic, asked - self._base(topic), bounds)
            if bounds[number][0] <= offset < bounds[number][1]:
                for message in reader.span(number, offset, offset + 1):
                    yield number, offset, record(topic, asked, message)

    def _where(self, topic: Topic, number: int, bounds: Mapping[int, tuple[int, int]]) -> tuple[int, int]:
        """Partition and offset of the record with this number."""
        if len(bounds) == 1:
            return 0, number - 1
        with self._desk:
            for order in self._orders.get(topic, ()):
                for partition, first, _ in order.after(number - 1):
                    return partition, first
        raise LogUnavailable(
            f"record {number:,} of {self._name(topic)} was not read by this process, so its partition is not known. "
            "Remove by what it holds instead"
        )

    def remains(self) -> str:
        self._open()
        self._kept_notes.refresh()
        hidden = [asked for topic in TOPICS for _, asked in self._hidden(topic)]
        if not hidden:
            return ""
        until = datetime.fromtimestamp(max(hidden) / 1_000, UTC) + timedelta(hours=self._settings.erase_hours)
        return (
            f"hidden from every reader now; the bytes are deleted from {self.place_name} at the latest after "
            f"{until:%Y-%m-%d %H:%M} UTC, with all older records, when the engine has read those and Kafka closes the file that holds them "
            f"(within {SEGMENT_MS // 3_600_000} hour of the next message). Copies that the cluster made elsewhere (backups, "
            "tiered storage, other consumers) are not Headwater's to delete"
        )

    def _hidden(self, topic: Topic) -> list[tuple[tuple[int, int], int]]:
        return list(self._kept_notes.removed.get(topic, {}).items())

    # ------------------------------------------------------------------ facts

    def facts(self) -> LogFacts:
        self._open()
        self._kept_notes.refresh()
        topics: dict[Topic, TopicFacts] = {}
        for topic in TOPICS:
            reader, all_bounds = self._scanner(topic), self._bounds(topic)
            bounds = {number: pair for number, pair in all_bounds.items() if pair[1] > pair[0]}
            first = [one for number, (low, _) in bounds.items() for one in reader.span(number, low, low + 1)]
            last = [one for number, (_, high) in bounds.items() for one in reader.span(number, high - 1, high)]
            topics[topic] = TopicFacts(
                self._base(topic) + sum(high for _, high in all_bounds.values()),
                min((record(topic, 0, one).received_at for one in first), default=None),
                max((record(topic, 0, one).received_at for one in last), default=None),
            )
        unread: dict[str, dict[Topic, int]] = {}
        for (name, topic), place in self._kept_notes.readers.items():
            unread.setdefault(name, {})[topic] = max(0, topics[topic].end - self._base(topic) - number_of(place))
        return LogFacts(
            place=self.place_name,
            size_bytes=None,
            limit_bytes=None,
            free_bytes=None,
            topics=topics,
            unread=unread,
            last_commit_seconds=self._commit_seconds,
            last_error=self._error,
        )

    @property
    def place_name(self) -> str:
        """Where the log is, in words."""
        return f"Kafka at {self._settings.bootstrap_servers} ({self._settings.topic_prefix}*)"

    # ------------------------------------------------------------------ opening and closing

    def close(self) -> None:
        if self._closed:
            return
        if self._notes is not None:
            with suppress(LogUnavailable):
                self._notes.flush()
        with self._pen:
            self._drop_producer()
        self._closed = True
        for reader in (self._looker, *self._readers.values(), *self._scanners.values()):
            reader.close()

    def __enter__(self) -> "KafkaLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> None:
        """Make the topics that are missing, once; raises LogUnavailable and ConfigError."""
        if self._closed:
            raise LogUnavailable(f"the log in {self.place_name} is closed, an open one was expected. Make a new one")
        with self._desk:
            if self._notes is None:
                self._make_topics()
                for topic in TOPICS:
                    self._readers[topic] = self._reader(self._name(topic))
                    self._partitions[topic] = len(self._looker.partitions(self._name(topic)))
                notes = Notes(
                    self._looker, self._reader(self._settings.topic_prefix + "log"), self._put_note, self._flush_notes
                )
                notes.refresh()
                self._notes = notes

    @property
    def _kept_notes(self) -> Notes:
        assert self._notes is not None, "opened before"
        return self._notes

    def _reader(self, name: str) -> TopicReader:
        return TopicReader(self._client, name, self._settings.timeout_seconds)

    def _bounds(self, topic: Topic) -> dict[int, tuple[int, int]]:
        return self._looker.bounds(self._name(topic))

    def _scanner(self, topic: Topic) -> TopicReader:
        """A second reader of the topic, so that looking here and there does not cost the first its prefetched records."""
        with self._desk:
            if topic not in self._scanners:
                self._scanners[topic] = self._reader(self._name(topic))
            return self._scanners[topic]

    def _put_note(self, key: str, value: bytes | None) -> None:
        with self._pen:
            self._writer().produce(self._settings.topic_prefix + "log", value, key.encode(), 0)
            self._writer().poll(0)

    def _flush_notes(self) -> None:
        with self._pen:
            if self._producer is not None and len(self._producer):
                self._confirm(self._producer, len(self._producer))

    def _name(self, topic: Topic) -> str:
        if topic not in TOPICS:
            raise ValueError(f"there is no topic {topic!r}; the topics are {', '.join(TOPICS)}")
        return self._settings.topic_prefix + topic

    def _make_topics(self) -> None:
        from headwater.log.kafka_making import make  # noqa: PLC0415 (an extra)

        own = self._settings
        names = {self._name(topic): own.partitions if topic != "rejected" else 1 for topic in TOPICS}
        make(self._client, own, names, own.topic_prefix + "log", SEGMENT_MS)


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000)


def _reason(error: Exception) -> str:
    first = error.args[0] if error.args else error
    return str(first.str()) if hasattr(first, "str") else str(first)
