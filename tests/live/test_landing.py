"""Records become rows: every one of them in exactly one place, whatever its bytes are."""

import base64
import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.live.landing import Landed, Landing
from headwater.records.logged import Record, Topic
from headwater.warehouse import Warehouse

TEN = datetime.fromisoformat("2026-06-30T10:00:00")
AT = 1_782_813_600_000_000  # 2026-06-30 10:00:00 UTC in microseconds


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "shop.duckdb") as opened:
        yield opened


def record(
    offset: int,
    payload: Any,
    *,
    message_id: str | None = None,
    at: int = AT,
    source: str = "web",
    topic: Topic = "events",
) -> Record:
    raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    name = message_id if message_id is not None else f"m{offset}"
    return Record(offset, topic, source, "k", name, at, raw)


def track(name: str = "Demo Requested", **more: Any) -> dict[str, Any]:
    return {"type": "track", "userId": "C1", "event": name, "timestamp": "2026-06-30T10:00:00.5Z", **more}


def land(warehouse: Warehouse, *records: Record) -> Landed:
    landing = Landing(warehouse)
    with warehouse.transaction():
        return landing.land(records, TEN)


def test_a_track_call_is_taken_apart(warehouse: Warehouse) -> None:
    call = track(
        "productViewed",
        anonymousId="a-1",
        properties={"product_id": "P7", "price": 12.5},
        context={
            "page": {"url": "https://shop.example/p/7"},
            "campaign": {"source": "google", "name": "spring"},
            "sessionId": "s-1",
        },
    )
    assert land(warehouse, record(1, call)) == Landed(read=1, events=1)
    (row,) = warehouse.rows("from collected.events")
    assert row == {
        "event_id": "m1", "source": "web", "kind": "track", "event_name": "product_viewed", "raw_name": "productViewed",
        "customer_id": "C1", "anonymous_id": "a-1", "occurred_at": TEN + timedelta(milliseconds=500),
        "received_at": TEN, "session_id": "s-1", "product_id": "P7",
        "page_url": "https://shop.example/p/7", "channel": "google", "campaign_id": "spring", "is_future": False,
        "properties": '{"product_id":"P7","price":12.5}', "position": 1,
        "context": '{"page":{"url":"https://shop.example/p/7"},"campaign":{"source":"google","name":"spring"},"sessionId":"s-1"}',
    }  # fmt: skip


@pytest.mark.parametrize(
    ("said", "name"),
    [("Demo Requested", "demo_requested"), ("demoRequested", "demo_requested"), ("demo_requested", "demo_requested"),
     ("  Order  Completed! ", "order_completed"), ("Größe gewählt", "größe_gewählt"), ("!!!", "!!!")],
)  # fmt: skip
def test_an_event_has_one_name_however_it_is_written(warehouse: Warehouse, said: str, name: str) -> None:
    land(warehouse, record(1, track(said)))
    assert warehouse.value("select event_name from collected.events") == name


def test_pages_and_screens_are_events(warehouse: Warehouse) -> None:
    land(
        warehouse,
        record(1, {"type": "page", "anonymousId": "a", "name": "Home"}),
        record(2, {"type": "screen", "anonymousId": "a"}),
    )
    assert warehouse.execute(
        "select kind, event_name, raw_name from collected.events order by position"
    ).fetchall() == [
        ("page", "page_viewed", "Home"),
        ("screen", "screen_viewed", None),
    ]


def test_traits_are_read_under_their_usual_names_and_a_wrong_type_is_null(warehouse: Warehouse) -> None:
    traits = {
        "email": " a@b.example ", "firstName": "Ada", "address": {"city": "Paris", "postalCode": "075"}, "nps": "9",
        "email_opt_in": "maybe", "createdAt": "yesterday", "company": {"name": "Acme"},
    }  # fmt: skip
    call = {
        "type": "identify",
        "userId": "C1",
        "anonymousId": "a",
        "traits": traits,
        "context": {"timezone": "Europe/Paris"},
    }
    assert land(warehouse, record(1, call)).identifies == 1
    (row,) = warehouse.rows(
        "select email, first_name, city, postal_code, nps_score, email_opt_in, created_at, company, time_zone from collected.identifies"
    )
    assert list(row.values()) == ["a@b.example", "Ada", "Paris", "075", 9, None, None, "Acme", "Europe/Paris"]


def test_a_group_says_the_company_and_nothing_of_the_person(warehouse: Warehouse) -> None:
    call = {"type": "group", "userId": "C1", "groupId": "g", "traits": {"name": "Acme", "email": "office@acme.example"}}
    land(warehouse, record(1, call))
    assert warehouse.execute("select kind, company, email from collected.identifies").fetchall() == [
        ("group", "Acme", None)
    ]


def test_ids_that_mean_nobody_are_null(warehouse: Warehouse) -> None:
    land(warehouse, record(1, track(userId="null", anonymousId="0000-00")), record(2, track(userId=5, anonymousId="")))
    assert warehouse.execute("select customer_id, anonymous_id from collected.events order by position").fetchall() == [
        (None, None),
        ("5", None),
    ]


def test_aliases_and_deletes_are_kept_for_identity_and_deletion(warehouse: Warehouse) -> None:
    done = land(
        warehouse,
        record(1, {"type": "alias", "previousId": "a-1", "userId": "C1"}),
        record(2, {"type": "delete", "userId": "C2"}),
    )
    assert (done.aliases, done.deletes, done.conserved) == (1, 1, True)
    assert warehouse.execute("select previous_id, customer_id from collected.aliases").fetchall() == [("a-1", "C1")]
    assert warehouse.execute("select customer_id from headwater.deletion_requests").fetchall() == [("C2",)]


def test_a_repeat_is_dropped_within_a_day_in_and_across_batches_the_first_wins(warehouse: Warehouse) -> None:
    hour = 3_600_000_000
    first = land(warehouse, record(1, track("One"), message_id="x"), record(2, track("Two"), message_id="x"))
    other_source = land(warehouse, record(3, track("Three"), message_id="x", source="app"))
    later = land(warehouse, record(4, track("Four"), message_id="x", at=AT + 23 * hour))
    long_after = land(warehouse, record(5, track("Five"), message_id="x", at=AT + 48 * hour))
    assert [one.repeats for one in (first, other_source, later, long_after)] == [1, 0, 1, 0]
    names = warehouse.execute("select raw_name from collected.events order by position").fetchall()
    assert names == [("One",), ("Three",), ("Five",)]


def test_old_ids_go_only_when_no_repeat_can_meet_them(warehouse: Warehouse) -> None:
    land(warehouse, record(1, track()))
    landing = Landing(warehouse)
    landing.forget_old_ids(TEN + timedelta(hours=24))
    assert warehouse.value("select count(*) from collected.message_ids") == 1
    landing.forget_old_ids(TEN + timedelta(hours=49))
    assert warehouse.value("select count(*) from collected.message_ids") == 0


POISON = [
    (b'{"type": "track"', "bad_json"),
    (b"\xff\xfe\x00", "not_utf8"),
    (b"", "not_utf8"),
    (b'{"type":"track"}\x1e{"type":"track"}', "not_utf8"),
    (b"[1, 2]", "unknown_type"),
    (b'{"type": "shout", "userId": "C1"}', "unknown_type"),
    (b'{"type": "track", "timestamp": "tomorrow"}', "bad_time"),
    (b'{"type": "track", "timestamp": "infinity"}', "bad_time"),
]


@pytest.mark.parametrize(("payload", "reason"), POISON)
def test_a_record_that_cannot_be_read_is_set_aside_and_the_rest_goes_on(
    warehouse: Warehouse, payload: bytes, reason: str
) -> None:
    done = land(warehouse, record(1, track()), record(2, payload), record(3, track()))
    assert (done.events, done.poison, done.conserved) == (2, 1, True)
    (row,) = warehouse.rows("select rejected_id, message_id, reason, raw, position from headwater.rejected_events")
    assert row == {"rejected_id": "events-2", "message_id": "m2", "reason": reason, "raw": payload, "position": 2}


def test_landing_the_same_records_again_adds_nothing(warehouse: Warehouse) -> None:
    records = [record(1, track()), record(2, b"{"), record(3, b"\xff"), record(4, {"type": "identify", "userId": "C1"})]
    land(warehouse, *records)
    again = land(warehouse, *records)
    assert again.conserved
    counts = "select (select count(*) from collected.events), (select count(*) from collected.identifies), (select count(*) from headwater.rejected_events)"
    assert warehouse.execute(counts).fetchall() == [(1, 1, 2)]


def test_rejected_records_keep_their_reasons_and_their_bytes(warehouse: Warehouse) -> None:
    raw = b'{"event": \x00 nonsense'
    body = {
        "raw": base64.b64encode(raw).decode(),
        "messageId": "m-9",
        "reasons": [{"code": "bad_json", "message": "…", "path": "$"}],
    }
    landing = Landing(warehouse)
    records = [
        record(1, body, topic="rejected"),
        record(2, b"{}", topic="rejected"),
        record(3, {"raw": "%%%"}, topic="rejected"),
    ]
    with warehouse.transaction():
        done = landing.land_rejected(records)
    assert (done.rejected, done.conserved) == (3, True)
    rows = warehouse.execute(
        "select rejected_id, message_id, reason, raw from headwater.rejected_events order by position"
    ).fetchall()
    assert rows == [
        ("rejected-1", "m-9", "bad_json", raw),
        ("rejected-2", "m2", "unreadable_rejection", b"{}"),
        ("rejected-3", "m3", "unreadable_rejection", b'{"raw": "%%%"}'),
    ]
    with warehouse.transaction():
        assert landing.land_rejected(records) == Landed(read=3, repeats=3)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
keys = st.sampled_from(
    ["type", "userId", "anonymousId", "event", "properties", "traits", "context", "timestamp", "previousId", "future"]
)
kinds = st.sampled_from(["track", "identify", "page", "screen", "group", "alias", "delete"])
calls = st.tuples(st.dictionaries(keys, json_values, max_size=6), kinds, st.booleans()).map(
    lambda t: json.dumps({**t[0], "type": t[1]}, ensure_ascii=t[2]).encode(errors="surrogatepass")
)
payloads = st.lists(calls | st.binary(max_size=60), max_size=12)


@pytest.fixture(scope="module")
def one_warehouse(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    with Warehouse(tmp_path_factory.mktemp("landing") / "shop.duckdb") as opened:
        yield opened


@settings(max_examples=20, deadline=None)
@given(payloads)
def test_whatever_the_bytes_every_record_is_accounted_for(one_warehouse: Warehouse, sent: list[bytes]) -> None:
    """One bad record can neither stop a batch nor vanish, nor can it take another one with it."""
    with one_warehouse.rehearsal():
        landing = Landing(one_warehouse)
        done = landing.land([record(n, payload) for n, payload in enumerate(sent, 1)], TEN)
        assert done.conserved
        stored = one_warehouse.value(
            "select (select count(*) from collected.events) + (select count(*) from collected.identifies)"
            " + (select count(*) from collected.aliases) + (select count(*) from headwater.deletion_requests)"
            " + (select count(*) from headwater.rejected_events)"
        )
        assert stored == len(sent) == done.read
