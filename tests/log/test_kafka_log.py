"""The log in Kafka against a real broker: the kit that every log passes, several partitions, what is lost, what is left."""

import subprocess
import sys
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headwater.clock import FixedClock
from headwater.errors import ConfigError, LogUnavailable, UsageError
from headwater.log.base import Log
from headwater.log.kafka import KafkaLog
from headwater.log.move import move
from headwater.log.settings import KafkaLogSettings
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Record
from headwater.testing import kafka, log_checks

confluent = pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")
pytestmark = pytest.mark.kafka
_numbers = count(1)


class KafkaBench(log_checks.LogBench):
    trials = frozenset({"restart", "trim", "remove"})
    address = ""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.prefix = f"log{next(_numbers)}."

    def open(self) -> Log:
        return KafkaLog(
            KafkaLogSettings(bootstrap_servers=self.address, topic_prefix=self.prefix),
            {},
            max_age=log_checks.MAX_AGE,
            clock=self.clock,
        )


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """One broker for the module; each log has topics of its own."""
    jars = Path(__file__).resolve().parents[2] / ".kafka"
    if missing := kafka.found(jars):
        pytest.skip(missing)
    with kafka.broker(tmp_path_factory.mktemp("kafka"), jars) as address:
        KafkaBench.address = address
        yield address


@pytest.mark.parametrize("check", log_checks.of(KafkaBench), ids=lambda check: check.__name__)
def test_the_log_in_kafka_keeps_the_contract(check: log_checks.Check, tmp_path: Path, broker: str) -> None:
    check(KafkaBench(tmp_path))


def test_what_it_lacks_is_said() -> None:
    """A reader may see the beginning of a call before its end; the brokers' disks are theirs to fill."""
    assert log_checks.missing(KafkaBench) == ["readers_see_whole_calls", "a_full_log_says_so"]


# ---------------------------------------------------------------------- several partitions, and what Kafka does differently


def _settings(address: str, **more: Any) -> KafkaLogSettings:
    return KafkaLogSettings(bootstrap_servers=address, topic_prefix=f"log{next(_numbers)}.", **more)


def _read(log: KafkaLog, after: int = 0, step: int = 7) -> list[Record]:
    found: list[Record] = []
    while more := log.read("events", found[-1].offset if found else after, step):
        found += more
    return found


def test_partitions_keep_each_keys_order_and_a_kept_place_goes_on_exactly_there(broker: str) -> None:
    own = _settings(broker, partitions=4)
    sent = [log_checks.entry(number, key=f"user{number % 23}" if number % 5 else "") for number in range(600)]
    with KafkaLog(own, {}) as log:
        log.append(sent[:400])
        log.follow("events", 0, "")
        first = _read(log)[:150]
        offset, place = first[-1].offset, log.place("events", first[-1].offset)
        assert first[-1].offset == 150, "a number says how many records there were"
        again = log.read("events", first[99].offset, 50)
        assert [one.message_id for one in again] == [one.message_id for one in first[100:150]]
        log.acknowledge("engine", "events", offset)
    with KafkaLog(own, {}) as log:
        log.append(sent[400:])
        assert log.facts().unread == {"engine": {"events": 450}}
        log.follow("events", offset, place)
        rest = _read(log, offset)
        ids = [one.message_id for one in (*first, *rest)]
        assert sorted(ids) == sorted(one.message_id for one in sent), "a record is missing, or there twice"
        for key in {one.key for one in sent if one.key}:
            of_key = [int(one.message_id[1:]) for one in (*first, *rest) if one.key == key]
            assert of_key == sorted(of_key)
        assert rest[-1].offset == log.end("events")


def test_a_place_of_another_log_is_refused(broker: str) -> None:
    with KafkaLog(_settings(broker, partitions=3), {}) as log:
        log.append([log_checks.entry(number) for number in range(30)])
        with pytest.raises(LogUnavailable, match=r"does not say where that is\. It followed another log"):
            log.follow("events", 12, "")
        with pytest.raises(LogUnavailable, match="ends at"):
            log.follow("events", 1_000, "0:1000")


def test_records_that_the_cluster_deleted_unread_stop_the_reader(broker: str) -> None:
    from confluent_kafka import TopicPartition
    from confluent_kafka.admin import AdminClient

    own = _settings(broker)
    with KafkaLog(own, {}) as log:
        log.append([log_checks.entry(number) for number in range(30)])
        log.follow("events", 10, "0:10")
        assert len(_read(log, 10)) == 20
        admin = AdminClient({"bootstrap.servers": broker})
        for gone in admin.delete_records([TopicPartition(f"{own.topic_prefix}events", 0, 25)]).values():
            gone.result(30)
        with pytest.raises(
            LogUnavailable, match=r"15 records of .*events, partition 0, were deleted before they were read"
        ):
            log.follow("events", 10, "0:10")


def test_a_group_that_is_named_holds_what_it_has_not_committed(broker: str) -> None:
    own = _settings(broker, hold_for_groups=["flink"])
    with KafkaLog(own, {}, max_age=timedelta(days=1)) as log:
        log.append([log_checks.entry(number, "changes") for number in range(10)])
        log.follow("changes", 0, "")
        log.acknowledge("engine", "changes", log.end("changes"))
        assert log.trim() == 0, "the group has had nothing"
        consumer = confluent.Consumer({"bootstrap.servers": broker, "group.id": "flink", "enable.auto.commit": False})
        consumer.commit(offsets=[confluent.TopicPartition(f"{own.topic_prefix}changes", 0, 4)], asynchronous=False)
        consumer.close()
        assert log.trim() == 4
        assert log.deleted("changes") == 4


def test_removed_records_are_hidden_at_once_and_their_bytes_go_in_time(broker: str, tmp_path: Path) -> None:
    clock = FixedClock(log_checks.NOW)
    own = _settings(broker, erase_hours=24)
    with KafkaLog(own, {}, clock=clock) as log, KafkaLog(own, {}, clock=clock) as engine:
        log.append([log_checks.entry(number, key="jo" if number == 5 else "other") for number in range(10)])
        engine.follow("events", 0, "")
        assert log.remains() == ""
        assert log.remove("events", lambda record: record.key == "jo", holding=[b"jo"]) == 1
        assert "2026-03-02 12:00 UTC" in log.remains()
        engine.follow("events", 0, "")
        assert [one.message_id for one in _read(engine)] == [f"m{number}" for number in range(10) if number != 5]
        engine.acknowledge("engine", "events", engine.end("events"))
        assert log.trim() == 0, "it is not due yet"
        clock.push(timedelta(hours=25))
        engine.acknowledge("engine", "events", engine.end("events"))
        engine.facts()
        assert log.trim() == 6, "it goes with all older ones, and no later one"
        assert log.remains() == ""
        assert [one.message_id for one in _read(log)] == ["m6", "m7", "m8", "m9"]


def test_a_compacted_topic_is_refused(broker: str) -> None:
    from confluent_kafka.admin import AdminClient, NewTopic

    own = _settings(broker)
    admin = AdminClient({"bootstrap.servers": broker})
    wrong = NewTopic(f"{own.topic_prefix}events", 1, 1, config={"cleanup.policy": "compact"})
    for made in admin.create_topics([wrong]).values():
        made.result(30)
    with pytest.raises(ConfigError, match="expected delete: compaction would remove all but the newest event"):
        KafkaLog(own, {}).end("events")


def test_nobody_at_the_address_is_a_sentence(tmp_path: Path) -> None:
    own = KafkaLogSettings(bootstrap_servers="127.0.0.1:1", timeout_seconds=0.5)
    with pytest.raises(LogUnavailable, match=r"cannot look at the topics of Kafka at 127\.0\.0\.1:1"):
        KafkaLog(own, {}).append([log_checks.entry(1)])


def test_messages_of_somebody_else_are_not_taken_for_events(broker: str) -> None:
    own = _settings(broker)
    with KafkaLog(own, {}) as log:
        log.append([log_checks.entry(1)])
        producer = confluent.Producer({"bootstrap.servers": broker})
        producer.produce(f"{own.topic_prefix}events", b"{}", b"k")
        producer.flush(30)
        with pytest.raises(LogUnavailable, match="was not written by Headwater"):
            log.read("events", 0, 10)


def test_a_moved_log_goes_on_with_what_was_not_read_and_with_its_numbers(broker: str, tmp_path: Path) -> None:
    path = tmp_path / "log.sqlite"
    with SqliteLog(path) as before:
        before.append([log_checks.entry(number) for number in range(50)])
        before.append([log_checks.entry(100, "rejected")])
    own = _settings(broker, partitions=2)
    with KafkaLog(own, {}) as log:
        moved = move(path, log, {"events": 30})
        assert moved.records == {"events": 20, "changes": 0, "rejected": 1}
        assert moved.aside.exists()
        assert not path.exists()
        log.append([log_checks.entry(50, key="new")])
    with KafkaLog(own, {}) as log:
        assert log.end("events") == 51
        log.follow("events", 30, "")
        found = _read(log, 30)
        assert sorted(int(one.message_id[1:]) for one in found) == list(range(30, 51))
        assert [one.offset for one in found] == list(range(31, 52))
        log.acknowledge("engine", "events", 40)
        place = log.place("events", 40)
        assert log.facts().unread == {"engine": {"events": 11}}
        log.follow("events", 40, place)
        assert _read(log, 40) == found[10:]
        with pytest.raises(ConfigError, match="has records already"):
            log.begin_after("events", 7)
    with KafkaLog(own, {}) as log, pytest.raises(UsageError, match="nothing is to be moved"):
        move(path, log, {})


def test_a_killed_sender_has_lost_nothing_that_was_acknowledged(broker: str, tmp_path: Path) -> None:
    own = _settings(broker, partitions=2)
    acknowledged: dict[int, int] = {}
    for round_ in range(3):
        command = [sys.executable, "-c", _SENDER, broker, own.topic_prefix, str(round_)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            while (last := int(child.stdout.readline())) < (round_ + 1) * 90:
                pass
            child.kill()
            said = child.stdout.read().rpartition("\n")[0]
        acknowledged[round_] = int(said.splitlines()[-1]) if said else last
    with KafkaLog(own, {}) as log:
        found = {one.message_id for one in _read(log, step=1_000)}
    for round_, count_ in acknowledged.items():
        missing = {f"m{round_ * 1_000_000 + number}" for number in range(count_)} - found
        assert not missing, f"{len(missing)} acknowledged records are lost"


_SENDER = """
import sys
from headwater.log.kafka import KafkaLog
from headwater.log.move import move
from headwater.log.settings import KafkaLogSettings
from headwater.log.sqlite import SqliteLog
from headwater.testing.log_checks import entry
log = KafkaLog(KafkaLogSettings(bootstrap_servers=sys.argv[1], topic_prefix=sys.argv[2], partitions=2), {})
first = int(sys.argv[3]) * 1_000_000
number = 0
while True:
    log.append([entry(first + number + n) for n in range(3)])
    number += 3
    print(number, flush=True)
"""
