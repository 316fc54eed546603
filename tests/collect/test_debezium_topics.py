"""What somebody else's Debezium writes into topics, in all its forms: the same records, masked; and the process that reads them."""

import base64
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from headwater.clock import SystemClock
from headwater.collect.settings import CollectSettings
from headwater.collect.topics import columns
from headwater.collect.topics.follow import TopicFollower
from headwater.collect.topics.settings import TopicsSettings
from headwater.collect.topics.shapes import Unfit
from headwater.collect.topics.translate import Translator, prove
from headwater.errors import ConfigError, StageFailed
from headwater.log.memory import MemoryLog
from headwater.testing import kafka

PLANTED = "jo.planted@mask.example"
ROW = {"customerid": 7, "email": PLANTED, "name": "Zoë", "price": "59.99", "since": 1_772_366_400_123_456}
DECLARED = {"customerid": "integer", "email": "text", "name": "text", "price": "numeric(10,2)", "since": "timestamp"}
_FIELDS = [
    {"field": "customerid", "type": "int32"},
    {"field": "email", "type": "string"},
    {"field": "name", "type": "string"},
    {"field": "price", "type": "bytes", "name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "2"}},
    {"field": "since", "type": "int64", "name": "io.debezium.time.MicroTimestamp"},
]
_EXACT = {**ROW, "price": base64.b64encode((5_999).to_bytes(2, "big")).decode()}
_SOURCE = {"lsn": 900, "ts_us": 1_772_366_400_000_001, "ts_ms": 1_772_366_400_000, "table": "customers"}
MOMENT = 1_772_366_401_000_000


def settings(**more: Any) -> TopicsSettings:
    table = {"topic": "shop.public.customers", "mask": {"email": "hash"}, "columns": DECLARED, **more.pop("table", {})}
    return TopicsSettings.model_validate(
        {"name": "retail", "bootstrap_servers": "127.0.0.1:9", "tables": {"customers": table}, **more}
    )


def told(key: Any, value: Any, *, own: TopicsSettings | None = None, offset: int = 41) -> list[dict[str, Any]]:
    made = Translator(own or settings(), b"secret").entries(
        "customers", offset, _bytes(key), _bytes(value), MOMENT, MOMENT
    )
    return [{"topic": one.topic, "key": one.key, "id": one.message_id, **json.loads(one.payload)} for one in made]


def _bytes(said: Any) -> bytes | None:
    return None if said is None else json.dumps(said).encode()


ENVELOPE = {"before": None, "after": ROW, "source": _SOURCE, "op": "c", "ts_ms": 1}
FORMS = {
    "envelope": ENVELOPE,
    "envelope with its schema": {
        "schema": {"fields": [{"field": "after", "fields": _FIELDS}]},
        "payload": {**ENVELOPE, "after": _EXACT},
    },
    "unwrapped": {**ROW, "__deleted": "false", "__op": "c", "__source_ts_ms": 1_772_366_400_000, "__source_lsn": 900},
    "unwrapped with its schema": {
        "schema": {"fields": _FIELDS},
        "payload": {**_EXACT, "__op": "c", "__source_ts_us": 1_772_366_400_000_001},
    },
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("key", [{"customerid": 7}, {"schema": {"fields": _FIELDS[:1]}, "payload": {"customerid": 7}}])
def test_every_form_gives_the_same_change(form: str, key: Any) -> None:
    schema, change = told(key, FORMS[form])
    assert schema["kind"] == "schema"
    assert {one["name"]: (one["type"], one["key"]) for one in schema["columns"]} == {
        **{name: (kind, False) for name, kind in DECLARED.items()},
        "customerid": ("integer", True),
        "email": ("text", False),
    }
    assert change["key"] == {"customerid": 7}
    assert change["op"] == "c"
    assert change["lsn"] == 42
    assert change["at"].startswith("2026-03-01T12:00:00.00000")
    hashed = Translator(settings(), b"secret")._hash(PLANTED)
    assert change["row"] == {
        "customerid": 7, "email": hashed, "name": "Zoë", "price": "59.99", "since": "2026-03-01T12:00:00.123456Z",
    }  # fmt: skip
    assert change["id"] == 'customers:42:{"customerid":7}'


def test_a_row_that_is_gone_is_said_by_a_tombstone_a_flag_or_the_envelope() -> None:
    for value in (
        None,
        {**ROW, "email": "", "__deleted": "true"},
        {**ENVELOPE, "op": "d", "before": ROW, "after": None},
    ):
        (change,) = told({"customerid": 7}, value)
        assert (change["op"], change["key"], change["row"]) == ("d", {"customerid": 7}, None)


def test_a_tombstone_behind_its_deletion_says_nothing_where_the_journal_orders() -> None:
    own = settings(order="lsn")
    assert told({"customerid": 7}, None, own=own) == []
    assert told({"customerid": 7}, ENVELOPE, own=own)[1]["lsn"] == 900
    (rejected,) = told({"customerid": 7}, ROW, own=own)
    assert rejected["topic"] == "rejected"
    assert "add.fields" in rejected["reasons"][0]["found"]


def test_what_was_not_sent_and_what_was_not_asked_for_is_left_out() -> None:
    change = told({"customerid": 7}, {**ROW, "name": columns.UNAVAILABLE, "second_email": PLANTED})[1]
    assert change["unavailable"] == ["name"]
    assert set(change["row"]) == {"customerid", "email", "price", "since"}


def test_a_column_that_is_plain_on_purpose_comes_as_it_is() -> None:
    own = settings(table={"mask": {"email": "hash", "name": "plain", "customerid": "plain"}, "key": ["customerid"]})
    schema, change = told({"customerid": 7}, ROW, own=own)
    assert (change["row"]["name"], change["key"]) == ("Zoë", {"customerid": 7})
    assert change["row"]["email"] != PLANTED
    assert next(one["type"] for one in schema["columns"] if one["name"] == "customerid") == "integer"
    assert prove(own, b"secret") == 1


def test_heartbeats_and_logical_messages_are_passed_over_and_a_truncate_is_a_change() -> None:
    assert told(None, {**ENVELOPE, "op": "m", "after": None}) == []
    (change,) = told(None, {**ENVELOPE, "op": "t", "after": None})
    assert (change["op"], change["row"]) == ("t", None)


@pytest.mark.parametrize(
    ("key", "value", "found"),
    [
        ({"customerid": 7}, [1], "a list where an object belongs"),
        ({"customerid": 7}, {**ENVELOPE, "op": "z"}, "op 'z'"),
        (None, {"name": "nobody"}, "a key without names"),
        ({"customerid": 7}, {**ROW, "price": "cheap"}, "price: str that is no numeric(10,2)"),
        ({"customerid": 7}, {**ROW, "since": "soon"}, "since: str that is no timestamp"),
    ],
)
def test_what_cannot_be_held_is_rejected_without_a_masked_value(key: Any, value: Any, found: str) -> None:
    (rejected,) = told(key, value)
    assert rejected["topic"] == "rejected"
    assert found in rejected["reasons"][0]["found"]
    assert "raw" not in rejected
    assert PLANTED not in json.dumps(rejected)


def test_bytes_of_another_converter_are_rejected_with_the_way_out() -> None:
    (entry,) = Translator(settings(), b"secret").entries("customers", 1, None, b"\0\0\0\0\1xy", MOMENT, MOMENT)
    assert "JsonConverter" in entry.payload.decode()


def test_types_that_nobody_tells_are_not_guessed() -> None:
    (rejected,) = told({"customerid": 7}, ROW, own=settings(table={"columns": {}, "mask": {}}))
    assert "declare `columns`" in rejected["reasons"][0]["found"]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4, min_value=-(10**12), max_value=10**12))
def test_an_exact_decimal_keeps_every_digit(number: Any) -> None:
    unscaled = int(number.scaleb(4))
    sent = base64.b64encode(unscaled.to_bytes(12, "big", signed=True)).decode()
    schema = {"name": "org.apache.kafka.connect.data.Decimal", "parameters": {"scale": "4"}}
    zone = settings().source_timezone
    from zoneinfo import ZoneInfo

    assert columns.value(sent, "numeric(20,4)", schema, "us", ZoneInfo(zone)) == str(number)


def test_a_clock_without_zone_is_read_in_the_zone_of_the_source() -> None:
    own = settings(source_timezone="Europe/Berlin")
    assert told({"customerid": 7}, FORMS["unwrapped"], own=own)[1]["row"]["since"] == "2026-03-01T11:00:00.123456Z"
    assert told({"customerid": 7}, {**ROW, "since": "2026-07-01T12:00:00"}, own=own)[1]["row"]["since"].startswith(
        "2026-07-01T10:00"
    )
    with pytest.raises(ValidationError, match="no such time zone; use an IANA name like Europe/Berlin"):
        settings(source_timezone="Berlin")


def test_every_mask_is_tried_before_anything_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    own = settings(table={"mask": {"email": "hash", "name": "constant", "price": "drop"}})
    assert prove(own, b"secret") == 3
    monkeypatch.setattr(Translator, "_masked", lambda _self, _own, row: row)
    with pytest.raises(StageFailed, match=r"the mask of customers\.email \(hash\) lets a planted value through"):
        prove(own, b"secret")


def test_a_mask_of_no_column_is_refused_before_anything_is_stored() -> None:
    with pytest.raises(
        ValidationError, match="emial is to be masked and stands not under `columns`; there are customerid"
    ):
        settings(table={"mask": {"emial": "hash"}})
    for mask, found in (
        (
            {"emial": "hash", "name": "drop"},
            r"shop.public.customers has no column emial, which is to be masked; it has customerid",
        ),
        ({"customerid": "constant"}, r"customerid is part of the key of shop.public.customers; mask it with `hash`"),
    ):
        own = settings(table={"mask": mask, "columns": {}})
        assert prove(own, b"secret") == len(mask), "the names alone do not show it"
        with pytest.raises(ConfigError, match=found):
            told({"customerid": 7}, FORMS["envelope with its schema"], own=own)
    with pytest.raises(ValidationError, match="customerid is part of the key; mask it with `hash`"):
        settings(table={"key": ["customerid"], "mask": {"customerid": "drop"}})


def test_a_hash_without_a_key_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="HEADWATER_MASK_KEY is not set"):
        TopicFollower(tmp_path, CollectSettings(), settings(), MemoryLog(), SystemClock(), {})


def test_a_value_of_no_form_is_unfit() -> None:
    with pytest.raises(Unfit):
        columns.value(True, "numeric", {}, "us", None)  # type: ignore[arg-type]


# ---------------------------------------------------------------------- the process, against a real broker

_numbers = count(1)


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    jars = Path(__file__).resolve().parents[2] / ".kafka"
    if missing := kafka.found(jars):
        pytest.skip(missing)
    with kafka.broker(tmp_path_factory.mktemp("kafka"), jars) as address:
        yield address


@pytest.mark.kafka
def test_topics_are_read_once_and_go_on_where_they_were(broker: str, tmp_path: Path) -> None:
    confluent = pytest.importorskip("confluent_kafka")
    from confluent_kafka.admin import AdminClient, NewTopic

    topic = f"shop{next(_numbers)}.public.customers"
    admin = AdminClient({"bootstrap.servers": broker})
    for made in admin.create_topics([NewTopic(topic, 3, 1)]).values():
        made.result(30)
    producer = confluent.Producer({"bootstrap.servers": broker})

    def say(number: int, value: Any) -> None:
        producer.produce(topic, _bytes(value), _bytes({"customerid": number}))

    for number in range(50):
        say(number, {**ROW, "customerid": number, "__deleted": "false"})
    producer.flush(30)
    own = settings(bootstrap_servers=broker, table={"topic": topic})
    log = MemoryLog()

    def follow() -> None:
        environment = {"HEADWATER_MASK_KEY": "secret"}
        TopicFollower(tmp_path, CollectSettings(), own, log, SystemClock(), environment).run(until_end=True)

    follow()
    rows = [json.loads(one.payload) for one in log.read("changes", 0, 1_000)]
    assert {one["key"]["customerid"] for one in rows if one["kind"] == "change"} == set(range(50))
    before = log.end("changes")
    follow()
    assert log.end("changes") == before, "what the log has came a second time"
    say(3, None)
    say(4, [PLANTED])
    producer.flush(30)
    follow()
    (gone,) = [json.loads(one.payload) for one in log.read("changes", before, 10)]
    assert (gone["op"], gone["key"]) == ("d", {"customerid": 3})
    assert len(log.read("rejected", 0, 10)) == 1
    everything = b"".join(one.payload for topic_ in ("changes", "rejected") for one in log.read(topic_, 0, 1_000))
    assert PLANTED.encode() not in everything
    files = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PLANTED.encode() not in files
