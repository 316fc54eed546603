"""The log in Kafka against a real broker: the kit that every log passes, several partitions, what is lost, what is left."""

from itertools import count
from pathlib import Path

import pytest

from headwater.log.base import Log
from headwater.log.kafka import KafkaLog
from headwater.log.settings import KafkaLogSettings
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
