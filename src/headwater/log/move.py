"""From the file to Kafka: what was not read yet goes along, numbers go on, and nothing is taken twice for new."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import UsageError
from headwater.log.base import TOPICS
from headwater.log.kafka import KafkaLog
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry, Topic

_AT_ONCE = 10_000


@dataclass(frozen=True)
class Moved:
    """`records`: by topic, how many went along; `aside`: where the file is now."""

    records: Mapping[Topic, int]
    aside: Path


def move(path: Path, log: KafkaLog, position: Mapping[str, int]) -> Moved:
    """Go on in Kafka after `position`, what the warehouse has had of the file at `path`. Nobody may append meanwhile.

    May be killed at any moment and run again: what went along twice is dropped where it lands. Raises UsageError when there
    is no file, ConfigError when the topics hold records of somebody else.
    """
    if not path.exists():
        raise UsageError(f"there is no log at {path.name}: nothing is to be moved, `headwater up` begins with Kafka")
    records: dict[Topic, int] = {}
    with SqliteLog(path) as before:
        for topic in TOPICS:
            at = int(position.get(topic, 0))
            log.begin_after(topic, at)
            records[topic] = 0
            while found := before.read(topic, at, _AT_ONCE):
                log.append(
                    [Entry(topic, one.source, one.key, one.message_id, one.received_at, one.payload) for one in found]
                )
                at = found[-1].offset
                records[topic] += len(found)
    aside = path.with_name(path.name + ".moved")
    path.replace(aside)
    for left in ("-wal", "-shm"):
        path.with_name(path.name + left).unlink(missing_ok=True)
    return Moved(records, aside)
