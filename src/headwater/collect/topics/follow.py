"""The process that reads the topics of one source: masks tested, then message after message, until it is told to stop.

The positions are the consumer group's, committed after the log has everything before them. Whatever fails ends the process
with a sentence; whoever started it starts it again. Only a log that is not there is waited for: the topics keep what they have.
"""

import os
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headwater import signals
from headwater.clock import Clock, SystemClock
from headwater.collect import column_masks, mask
from headwater.collect.databases.state import Note, Place, moment
from headwater.collect.settings import CollectSettings
from headwater.collect.topics.settings import TopicsSettings
from headwater.collect.topics.translate import Translator, prove
from headwater.errors import ConfigError, HeadwaterError, LogUnavailable, StageFailed
from headwater.failpoint import failpoint
from headwater.log.base import Log
from headwater.records.logged import Entry

if TYPE_CHECKING:
    from confluent_kafka import Consumer

_WAIT = 0.2
_NOTE_SECONDS = 1.0
_LOG_SECONDS = 1.0


def follow(
    folder: Path,
    collect: CollectSettings,
    settings: TopicsSettings,
    log: Log,
    clock: Clock | None = None,
    *,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Put every change of the topics into the log until SIGTERM or SIGINT; then this returns.

    Raises ConfigError for what must be mended first, StageFailed when the brokers failed and it is worth to start again.
    """
    reader = TopicFollower(folder, collect, settings, log, clock or SystemClock(), environment or os.environ)
    with signals.stopped_by(reader.stop):
        reader.run()


class TopicFollower:
    """Reads the topics of one source in this process. `run` once; `stop` from anywhere makes it return."""

    def __init__(
        self,
        folder: Path,
        collect: CollectSettings,
        settings: TopicsSettings,
        log: Log,
        clock: Clock,
        environment: Mapping[str, str],
    ) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self._place = Place(folder, settings.name)
        self._note = Note(settings.name)
        self._stopping = threading.Event()
        self._client = settings.client(environment)
        hashed = column_masks.hashed((table, own.mask) for table, own in settings.tables.items())
        self._key = mask.key_for(hashed, collect, settings.name, environment)
        self._version = collect.mask_key_version
        self._tables = {own.topic: table for table, own in settings.tables.items()}

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()

    def run(self, *, until_end: bool = False) -> None:
        """Read until stopped; with `until_end`, until nothing comes any more."""
        self._place.make()
        self._note.pid = os.getpid()
        self._say("starting", "tests the masks and looks for the topics")
        try:
            prove(self._settings, self._key, self._version)
            self._read(until_end)
        except BaseException as error:
            self._say("failed", str(error) if isinstance(error, HeadwaterError) else type(error).__name__)
            raise
        self._say("stopped", "stopped; the topics keep what they have")

    def _read(self, until_end: bool) -> None:
        try:
            from confluent_kafka import Consumer, KafkaException  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise ConfigError("the package confluent-kafka is not installed: pip install 'headwater[kafka]'") from error
        consumer = Consumer(
            {
                **self._client,
                "group.id": self._settings.group_name,
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "auto.offset.reset": "earliest",
                "enable.partition.eof": True,
                "isolation.level": "read_committed",
                "fetch.queue.backoff.ms": 10,
            }
        )
        try:
            parts = self._assign(consumer)
            self._take_all(consumer, len(parts), until_end)
        except KafkaException as error:
            raise StageFailed(f"{self._settings.name}: the brokers refused: {error.args[0].str()}") from error
        finally:
            consumer.close()

    def _assign(self, consumer: "Consumer") -> list[Any]:
        """All partitions, each from where the group has it."""
        from confluent_kafka import OFFSET_BEGINNING, TopicPartition  # noqa: PLC0415 (an extra)

        wait = self._settings.timeout_seconds
        known = consumer.list_topics(timeout=wait).topics
        if missing := sorted(set(self._tables) - set(known)):
            raise ConfigError(
                f"{self._settings.name}: there is no topic {', '.join(missing)} at {self._settings.bootstrap_servers}, or it may "
                "not be read. Mend collect.topics, or grant READ and DESCRIBE"
            )
        parts = [TopicPartition(topic, number) for topic in self._tables for number in known[topic].partitions]
        placed = self._committed(consumer, parts)
        for part in placed:
            part.offset = part.offset if part.offset >= 0 else OFFSET_BEGINNING
        consumer.assign(placed)
        return placed

    def _committed(self, consumer: "Consumer", parts: list[Any]) -> list[Any]:
        """Where the group stands. A coordinator that has just moved, or is being made, is asked again."""
        from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 (an extra)

        moving = (
            KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS
        )  # fmt: skip
        until = time.monotonic() + self._settings.timeout_seconds
        while True:
            try:
                return consumer.committed(parts, timeout=self._settings.timeout_seconds)
            except KafkaException as error:
                if error.args[0].code() not in moving or time.monotonic() > until or self._stopping.wait(_WAIT):
                    raise

    def _take_all(self, consumer: "Consumer", parts: int, until_end: bool) -> None:
        from confluent_kafka import KafkaError, TopicPartition  # noqa: PLC0415 (an extra)

        translator = Translator(self._settings, self._key, self._version)
        ended: set[tuple[str, int]] = set()
        noted = 0.0
        self._say("streaming", "follows the topics")
        while not self._stopping.is_set():
            entries: list[Entry] = []
            places: dict[tuple[str, int], int] = {}
            received = int(self._clock.now().timestamp() * 1_000_000)
            for message in consumer.consume(self._settings.batch_rows, timeout=_WAIT):
                error, topic, number = message.error(), str(message.topic()), int(message.partition() or 0)
                if error is not None:
                    if error.code() != KafkaError._PARTITION_EOF:
                        raise StageFailed(f"{self._settings.name}: {topic} cannot be read: {error.str()}")
                    ended.add((topic, number))
                    continue
                ended.discard((topic, number))
                offset = int(message.offset() or 0)
                key, value = message.key(), message.value()
                assert not isinstance(key, str) and not isinstance(value, str), "no deserializer is set"
                made = translator.entries(
                    self._tables[topic], offset, key, value, message.timestamp()[1] * 1_000, received
                )
                entries += made
                places[topic, number] = offset + 1
            failpoint("changes.taken")
            self._append(entries)
            failpoint("changes.logged")
            if places:
                consumer.commit(
                    offsets=[TopicPartition(topic, number, at) for (topic, number), at in places.items()],
                    asynchronous=False,
                )
                self._count(entries)
            if until_end and len(ended) == parts:
                return
            if time.monotonic() - noted > _NOTE_SECONDS:
                noted = time.monotonic()
                self._say("streaming", f"follows: {self._note.changes:,} changes since this process began")

    def _append(self, entries: list[Entry]) -> None:
        while entries:
            try:
                self._log.append(entries)
            except LogUnavailable as error:
                if self._stopping.is_set():
                    raise
                self._say("streaming", f"waits for the log, the topics keep what they have: {error}")
                self._stopping.wait(_LOG_SECONDS)
            else:
                return

    def _count(self, entries: list[Entry]) -> None:
        note = self._note
        rejected = sum(entry.topic == "rejected" for entry in entries)
        note.rejected += rejected
        note.changes += len(entries) - rejected
        note.newest_at = moment(self._clock.now())
        note.warnings = (
            [f"{note.rejected:,} changes could not be held, see headwater.rejected_events"] if note.rejected else []
        )

    def _say(self, phase: Any, sentence: str) -> None:
        note = self._note
        if note.phase != phase:
            note.since = moment(self._clock.now())
        note.phase, note.sentence = phase, sentence
        note.at = moment(datetime.now(UTC))
        self._place.say(replace(note))
