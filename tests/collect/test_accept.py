"""Every rule of the wire: what is sent, what is answered, what is logged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from collecting import NOW, Running, collecting
from collector_cases import ABSENT, ANY, CASES, Case, batch, track
from msgspec.structs import replace

from headwater.clock import naive_utc
from headwater.collect.reasons import REASONS
from headwater.live.landing import Landing
from headwater.warehouse import Warehouse


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with collecting() as one:
        yield one


def same(found: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The fields that differ from what is expected."""
    return {
        name: found.get(name, ABSENT)
        for name, value in expected.items()
        if (found.get(name, ABSENT) in (ABSENT, None, "") if value is ANY else found.get(name, ABSENT) != value)
    }


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_request_is_answered_and_logged_as_documented(running: Running, case: Case) -> None:
    before = running.log.end("events"), running.log.end("rejected")
    answer = running.post(case.path, case.body, **case.headers)
    told = answer.json()
    assert answer.status_code == case.status, told
    assert told["success"] is (case.status == 200)
    events, rejected = running.events(before[0]), running.rejected(before[1])
    assert told["accepted"] == len(events) == len(case.events)
    assert [same(found, expected) for found, expected in zip(events, case.events, strict=True)] == [{}] * len(events)
    assert [[reason["code"] for reason in one["reasons"]] for one in rejected] == case.reasons
    assert [one["reason"] for one in told["rejected"]] == [codes[0] for codes in case.reasons]
    assert case.says in json.dumps([told["rejected"], told.get("message", "")])
    for one in rejected:
        assert one["receivedAt"] == "2026-03-01T12:00:00Z"
        assert all(reason["message"].startswith(REASONS[reason["code"]]) for reason in one["reasons"])


def test_everything_that_was_accepted_lands() -> None:
    with collecting() as fresh, Warehouse(":memory:") as warehouse, warehouse.transaction():
        for case in CASES:
            fresh.post(case.path, case.body, **case.headers)
        landing = Landing(warehouse)
        records = [replace(r, message_id=f"m{r.offset}") for r in fresh.log.read("events", 0, 100_000)]
        landed = landing.land(records, naive_utc(NOW))
        assert (landed.poison, landed.repeats) == (0, 0)
        landing.land_rejected(fresh.log.read("rejected", 0, 100_000))
        assert warehouse.value("select count(*) from headwater.rejected_events") == fresh.log.end("rejected")
        moments = warehouse.rows("select occurred_at, is_future from collected.events where occurred_at > '2100-01-01'")
        assert [row["is_future"] for row in moments] == [True]


def test_every_reason_is_met_in_a_test() -> None:
    here = Path(__file__).parent
    written = "".join(path.read_text() for path in here.glob("*.py"))
    assert [code for code in REASONS if f'"{code}"' not in written] == []


def test_every_reason_stands_on_the_page() -> None:
    page = (Path(__file__).parents[2] / "docs" / "send-events.md").read_text()
    assert [code for code in REASONS if f"`{code}`" not in page] == []


def test_the_answer_names_the_place_and_the_message_of_each_rejected_event(running: Running) -> None:
    events = batch(track(messageId="1"), track(messageId="2", event=None), track(messageId="3"), {"type": "page"})
    assert running.post("/v1/batch", events).json() == {
        "success": True,
        "accepted": 2,
        "rejected": [
            {
                "index": 1,
                "messageId": "2",
                "reason": "no_event",
                "message": "a track call needs the name of its `event`",
            },
            {
                "index": 3,
                "messageId": None,
                "reason": "no_user",
                "message": "an event needs a `userId` or an `anonymousId`; found neither",
            },
        ],
    }


def test_the_raw_bytes_of_a_rejected_event_are_kept_to_the_byte(running: Running) -> None:
    piece = b'{ "type" : "track",\t"userId":1e0 , "x":"\\u00e9" }'
    before = running.log.end("rejected")
    running.post("/v1/batch", b'{"batch": [' + piece + b"]}")
    assert running.rejected(before)[0]["raw"] == piece


def test_a_record_carries_its_person_and_its_moment(running: Running) -> None:
    before = running.log.end("events")
    running.post(
        "/v1/batch",
        batch(track(userId=7), track(userId=None, anonymousId="a"), {"type": "group", "groupId": "g", "userId": "u"}),
    )
    records = running.log.read("events", before, 10)
    assert [(r.source, r.key, r.message_id) for r in records[:2]] == [("website", "7", "m1"), ("website", "a", "m1")]
    assert {r.received_at for r in records} == {int(NOW.timestamp() * 1_000_000)}


def test_the_examples_of_the_specification_are_accepted(running: Running, shared_data: Path) -> None:
    lines = (shared_data / "segment_spec_examples" / "segment_spec_examples.jsonl").read_text().splitlines()
    refused = {}
    for line in lines:
        example = json.loads(line)
        payload = example["payload"]
        kind = payload.get("type") or payload.get("action")
        before = running.log.end("events")
        told = running.post(f"/v1/{kind}", payload).json()
        if told["rejected"]:
            refused[example["source_file"], example["block_number"]] = told["rejected"][0]["message"]
            continue
        (event,) = running.events(before)
        assert event["type"] == kind
        for name, value in payload.items():
            if name not in ("type", "timestamp", "originalTimestamp", "receivedAt", "userId", "anonymousId"):
                assert event[name] == value
    # what the specification itself does not accept: old examples with `user_id`, or with nobody at all
    assert set(refused.values()) <= {
        "an event needs a `userId` or an `anonymousId`; found `user_id`",
        "an event needs a `userId` or an `anonymousId`; found neither",
    }
    assert len(lines) == 76 and len(refused) < 20
