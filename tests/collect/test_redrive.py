"""What a rejected event would become now: cured ones pass as they would have, in their order, and the same every time."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from collecting import Running, basic, collecting
from collector_cases import CASES, Case, batch, track

from headwater.collect.redrive import Redrive, Verdict
from headwater.collect.settings import CollectLimits, CollectSettings, SourceSettings

WEBSITE = SourceSettings(name="website", write_key="website")


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    with collecting() as running:
        yield running


@pytest.fixture
def rejected(tmp_path: Path) -> Callable[..., list[dict[str, Any]]]:
    """rejected(settings, path, body, **headers): the rows that this leaves, as a redrive gets them."""

    def send(settings: CollectSettings, path: str, body: Any, **headers: str) -> list[dict[str, Any]]:
        with collecting(settings, folder=tmp_path) as running:
            running.post(path, body, **headers)
            sources = [record.source for record in running.log.read("rejected", 0, 10_000)]
            rows = running.rejected()
        return [{"source": source, **row} for source, row in zip(sources, rows, strict=True)]

    return send


def check(settings: CollectSettings, row: dict[str, Any], folder: Path = Path()) -> Verdict:
    moment = datetime.fromisoformat(row["receivedAt"]).replace(tzinfo=None)
    return Redrive(settings, folder).check(row["source"], row.get("raw"), row["arrival"], moment)


def payloads(verdict: Verdict) -> list[dict[str, Any]]:
    return [msgspec.json.decode(entry.payload) for entry in verdict.entries]


@pytest.mark.parametrize("case", [case for case in CASES if case.reasons], ids=str)
def test_without_a_cure_everything_is_rejected_for_the_same_reasons(shared: Running, case: Case) -> None:
    settings = CollectSettings()
    before = shared.log.end("rejected")
    shared.post(case.path, case.body, **case.headers)
    records = shared.log.read("rejected", before, 10)
    assert records
    for record, payload in zip(records, shared.rejected(before), strict=True):
        row = {"source": record.source, **payload}
        verdict = check(settings, row)
        assert verdict.entries == []
        kept = row["arrival"].get("kept") is None
        assert [r.code for r in verdict.reasons] == ([r["code"] for r in row["reasons"]] if kept else ["not_kept"])
        assert not kept or [r.message for r in verdict.reasons] == [r["message"] for r in row["reasons"]]


def test_a_mended_plan_lets_pass_what_then_is_what_it_would_have_been(rejected: Any, tmp_path: Path) -> None:
    plan = tmp_path / "plan.yml"
    plan.write_text("events: {Demo Requested: {schema: {required: [seats], properties: {seats: {type: integer}}}}}")
    settings = CollectSettings(sources=[WEBSITE.model_copy(update={"tracking_plan": "plan.yml"})])
    body = batch(
        track(properties={"seats": "3"}, timestamp="2026-03-01T10:00:00Z"),
        context={"locale": "en"},
        sentAt="2026-03-01T11:00:00Z",
    )
    (row,) = rejected(settings, "/v1/b", body, **{"content-type": "text/plain"})
    assert check(settings, row, tmp_path).entries == []
    plan.write_text("events: {Demo Requested: {schema: {required: [seats]}}}")
    (cured,) = payloads(check(settings, row, tmp_path))
    assert cured["timestamp"] == "2026-03-01T11:00:00Z"
    assert cured["receivedAt"] == "2026-03-01T12:00:00Z"
    assert cured["messageId"] == "m1"
    assert cured["context"] == {"locale": "en", "ip": "127.0.0.1"}
    with collecting(settings, folder=tmp_path) as running:
        running.post("/v1/b", body, **{"content-type": "text/plain"})
        assert running.events() == [cured]


def test_a_message_id_that_was_missing_follows_from_bytes_and_moment(rejected: Any) -> None:
    settings = CollectSettings(limits=CollectLimits(event_bytes=10))
    one, two, _ = rejected(settings, "/v1/batch", batch(track(messageId=None), track(messageId=None, x=1), track()))
    ids = [payloads(check(CollectSettings(), row))[0]["messageId"] for row in (one, one, two)]
    assert ids[0] == ids[1] != ids[2]
    later = {**one, "receivedAt": datetime(2027, 1, 1, tzinfo=UTC).isoformat()}
    assert payloads(check(CollectSettings(), later))[0]["messageId"] != ids[0]


def test_a_source_that_was_not_there_gets_its_events_in_their_order(rejected: Any) -> None:
    body = batch(track(messageId="1"), track(messageId="2", event=None), track(messageId="3"))
    (row,) = rejected(CollectSettings(), "/v1/batch", body, **basic("app_key:"))
    assert check(CollectSettings(), row).reasons[0].code == "unknown_write_key"
    app = SourceSettings(name="app", write_key="app_key")
    verdict = check(CollectSettings(sources=[WEBSITE, app]), row)
    assert verdict.reasons == []
    assert [(entry.topic, entry.source, entry.message_id) for entry in verdict.entries] == [
        ("events", "app", "1"),
        ("rejected", "app", "2"),
        ("events", "app", "3"),
    ]
    still = {"source": "app", **msgspec.json.decode(verdict.entries[1].payload)}
    assert still["receivedAt"] == row["receivedAt"]
    assert [reason["code"] for reason in still["reasons"]] == ["no_event"]


def test_a_source_that_was_not_there_and_nothing_of_it_is_right(rejected: Any) -> None:
    (row,) = rejected(CollectSettings(), "/v1/batch", batch(track(event=None)), **basic("app_key:"))
    verdict = check(CollectSettings(sources=[WEBSITE, SourceSettings(name="app", write_key="app_key")]), row)
    assert (verdict.entries, [reason.code for reason in verdict.reasons]) == ([], ["no_event"])


def test_a_single_keeps_what_its_endpoint_said(rejected: Any) -> None:
    (row,) = rejected(CollectSettings(limits=CollectLimits(event_bytes=10)), "/v1/p", {"userId": "u", "name": "Home"})
    assert payloads(check(CollectSettings(), row))[0]["type"] == "page"


def test_masked_fields_are_not_masked_twice(rejected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_MASK_KEY", "k")
    source = WEBSITE.model_copy(update={"mask": {"traits.email": "hash"}})
    small = CollectSettings(sources=[source], limits=CollectLimits(event_bytes=10))
    large = CollectSettings(sources=[source])
    event = {"type": "identify", "userId": "u", "traits": {"email": "a@b.c"}}
    for path, body in (("/v1/batch", batch(event)), ("/v1/identify", event)):
        (row,) = rejected(small, path, body)
        (cured,) = payloads(check(large, row))
        with collecting(large) as running:
            running.post(path, body)
            assert running.events()[0]["traits"] == cured["traits"]


def test_a_webhook_whose_secret_was_wrong(rejected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import hashlib
    import hmac

    monkeypatch.setenv("SECRET", "wrong")
    settings = CollectSettings(sources=[WEBSITE.model_copy(update={"webhook_secret_env": "SECRET"})])
    body = msgspec.json.encode(track())
    signature = hmac.new(b"right", body, hashlib.sha1).hexdigest()
    (row,) = rejected(settings, "/v1/webhook/website", body, **{"X-Signature": signature})
    assert [reason.code for reason in check(settings, row).reasons] == ["bad_signature"]
    monkeypatch.setenv("SECRET", "right")
    assert payloads(check(settings, row))[0]["messageId"] == "m1"


def test_what_was_not_kept_cannot_be_cured(rejected: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_MASK_KEY", "k")
    settings = CollectSettings(sources=[WEBSITE.model_copy(update={"mask": {"traits.email": "hash"}})])
    (row,) = rejected(settings, "/v1/track", b"{")
    assert [reason.code for reason in check(settings, row).reasons] == ["digest_kept"]
    of_a_table = {**row, "arrival": {"endpoint": "database", "kept": "nothing", "masked": True}}
    assert [reason.code for reason in check(settings, of_a_table).reasons] == ["row_not_kept"]


def test_a_refused_call_of_a_tool_is_told_again_by_the_tool_and_not_from_here() -> None:
    moment = datetime(2026, 6, 30, tzinfo=UTC)
    verdict = Redrive(CollectSettings(sources=[WEBSITE])).check(
        "crm", b"[]", {"endpoint": "/v1/hubspot", "whole": True}, moment
    )
    assert [reason.code for reason in verdict.reasons] == ["told_again"]
    assert verdict.entries == []
