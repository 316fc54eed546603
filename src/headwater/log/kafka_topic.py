"""Reading topics of Kafka: from where one wants, as far as they go now, waiting for nobody.

Two clients, because a connection answers in turn: a question about a topic would wait behind a request for messages that
the brokers hold back until some arrive.
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, cast

from headwater.errors import LogUnavailable
from headwater.log.order import Place

if TYPE_CHECKING:
    from confluent_kafka import Consumer


class Message(Protocol):
    """What is used of confluent_kafka.Message once it is known to be no error."""

    def topic(self) -> str: ...
    def partition(self) -> int: ...
    def offset(self) -> int: ...
    def key(self) -> bytes | None: ...
    def value(self) -> bytes | None: ...
    def headers(self) -> list[tuple[str, bytes]] | None: ...
    def error(self) -> Any: ...


SLICE_SECONDS = 0.2
"""How long one wait for messages takes, so that the end of a partition is noticed."""


class Looker:
    """Asks the brokers about topics. Every method raises LogUnavailable, with their reason, when they do not answer."""

    def __init__(self, client: Mapping[str, Any], timeout: float) -> None:
        self._client = client
        self._timeout = timeout
        self._consumer: Consumer | None = None
        self._partitions: dict[str, list[int]] = {}
        self._lock = threading.Lock()

    def partitions(self, topic: str) -> list[int]:
        """Numbers of the partitions, asked once."""
        if topic not in self._partitions:
            listed = self._asked(topic, lambda consumer: consumer.list_topics(topic, timeout=self._timeout))
            found = listed.topics.get(topic)
            if found is None or found.error is not None or not found.partitions:
                reason = found.error.str() if found is not None and found.error is not None else "it is not there"
                raise LogUnavailable(f"the topic {topic} cannot be read: {reason}. See whether it was deleted")
            self._partitions[topic] = sorted(found.partitions)
        return self._partitions[topic]

    def bounds(self, topic: str) -> dict[int, tuple[int, int]]:
        """First offset that is there and the offset after the newest, by partition, as the brokers say now."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415 (an extra)

        parts = [TopicPartition(topic, number) for number in self.partitions(topic)]
        return {
            part.partition: self._asked(
                topic, lambda consumer, of=part: consumer.get_watermark_offsets(of, timeout=self._timeout)
            )
            for part in parts
        }

    def first_after(self, topic: str, moment_ms: int) -> dict[int, int]:
        """The first offset of each partition whose time is at least this; the end where there is none."""
        from confluent_kafka import TopicPartition  # noqa: PLC0415 (an extra)

        bounds = self.bounds(topic)
        asked = [TopicPartition(topic, number, max(0, moment_ms)) for number in bounds]
        found = self._asked(topic, lambda consumer: consumer.offsets_for_times(asked, timeout=self._timeout))
        return {one.partition: bounds[one.partition][1] if one.offset < 0 else one.offset for one in found}

    def close(self) -> None:
        """Leave the brokers. Closing twice is fine."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None

    def _asked(self, topic: str, question: Callable[["Consumer"], Any]) -> Any:
        from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 (an extra)

        passing = {
            KafkaError.NOT_LEADER_FOR_PARTITION,
            KafkaError.LEADER_NOT_AVAILABLE,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError._UNKNOWN_PARTITION,
        }
        until = time.monotonic() + self._timeout
        with self._lock, _guarded("look at", topic):
            if self._consumer is None:
                self._consumer = _consumer(self._client)
            while True:
                try:
                    return question(self._consumer)
                except KafkaException as error:  # a topic that was just made, or a leader that just changed
                    if error.args[0].code() not in passing or time.monotonic() > until:
                        raise
                    time.sleep(0.05)


class TopicReader:
    """One consumer over all partitions of a topic; a member of no group. Every call takes the lock of this reader.

    `client`: settings of librdkafka. `timeout`: seconds that an answer of the brokers may take. Every method raises
    LogUnavailable, with the reason of the brokers, when they do not answer.
    """

    def __init__(self, client: Mapping[str, Any], topic: str, timeout: float) -> None:
        self.topic = topic
        self._client = client
        self._timeout = timeout
        self._consumer: Consumer | None = None
        self._at: dict[int, int] | None = None
        self._lock = threading.RLock()

    def take(self, place: Place, limit: int, ends: Place) -> list[Message]:
        """Up to `limit` messages from `place` to `ends`, in the order in which the brokers gave them."""
        with self._lock:
            place = {number: place.get(number, 0) for number in ends}
            left = {number: end - place[number] for number, end in ends.items() if end > place[number]}
            if not left:
                return []
            if self._at != place:
                self._assign(place)
            found: list[Message] = []
            until = time.monotonic() + self._timeout
            at = dict(place)
            while left and len(found) < limit:
                asked = min(limit - len(found), sum(left.values()))
                came = self._consumed(asked)
                if not came and time.monotonic() > until:
                    self._at = None
                    raise LogUnavailable(
                        f"the brokers gave nothing of {self.topic} for {self._timeout:g} s though there is more. Try again"
                    )
                good = [message for message in came if message.error() is None]
                for message in came if len(good) < len(came) else ():
                    if (error := message.error()) is not None:
                        self._failed(error)
                        if message.offset() >= ends.get(message.partition(), 0):  # not an end that was seen earlier
                            left.pop(message.partition(), None)
                if not good:
                    continue
                until = time.monotonic() + self._timeout
                found += good
                for number, offset in {message.partition(): message.offset() for message in good}.items():
                    at[number] = offset + 1
                    if at[number] >= ends.get(number, 0):
                        left.pop(number, None)
                    elif number in left:
                        left[number] = ends[number] - at[number]
            self._at = at
            return found

    def span(self, number: int, first: int, end: int, at_once: int = 10_000) -> Iterator[Message]:
        """The messages of one partition from `first` to before `end`, a few thousand at a time."""
        while first < end:
            with self._lock:
                found = self.take({number: first}, min(at_once, end - first), {number: end})
            if not found:
                return
            yield from (one for one in found if one.offset() < end)
            first = found[-1].offset() + 1

    def close(self) -> None:
        """Leave the brokers. Closing twice is fine."""
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
            self._at = None

    def _assign(self, place: Place) -> None:
        from confluent_kafka import TopicPartition  # noqa: PLC0415 (an extra)

        self._at = None
        with _guarded("read", self.topic):
            if self._consumer is None:
                self._consumer = _consumer(self._client)
            self._consumer.assign([TopicPartition(self.topic, number, offset) for number, offset in place.items()])
        self._at = dict(place)

    def _consumed(self, most: int) -> list[Message]:
        assert self._consumer is not None, "assigned before"
        with _guarded("read", self.topic):
            return cast(list[Message], self._consumer.consume(most, timeout=SLICE_SECONDS))

    def _failed(self, error: Any) -> None:
        from confluent_kafka import KafkaError  # noqa: PLC0415 (an extra)

        if error.code() == KafkaError._PARTITION_EOF:
            return
        self._at = None
        raise LogUnavailable(
            f"the topic {self.topic} cannot be read: {error.str()}. Try again, or see what the brokers say"
        )


def _consumer(client: Mapping[str, Any]) -> "Consumer":
    from confluent_kafka import Consumer  # noqa: PLC0415 (an extra)

    return Consumer(
        {
            **client,
            "group.id": "headwater",  # asked for by the client; nobody joins it
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 10,
            "fetch.wait.max.ms": 50,
            "queued.max.messages.kbytes": 65_536,
        }
    )


@contextmanager
def _guarded(doing: str, topic: str) -> Iterator[None]:
    from confluent_kafka import KafkaException  # noqa: PLC0415 (an extra)

    try:
        yield
    except KafkaException as error:
        reason = error.args[0].str() if error.args and hasattr(error.args[0], "str") else str(error)
        raise LogUnavailable(f"cannot {doing} the topic {topic}: {reason}. See whether the brokers run") from error
