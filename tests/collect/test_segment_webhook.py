"""Segment's webhook destination pointed at us: signatures, arrays, replays, deletions."""

import hashlib
import hmac
import json
from collections.abc import Iterator

import msgspec
import pytest
from collecting import Running, collecting
from collector_cases import track
from hypothesis import given
from hypothesis import strategies as st

from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.collect.webhook import signed
from headwater.errors import ConfigError

SECRET = "shared secret"
PATH = "/v1/webhook/segment"


def sign(body: bytes) -> str:
    return hmac.new(SECRET.encode(), body, hashlib.sha1).hexdigest()


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("SEGMENT_SECRET", SECRET)
    sources = [
        SourceSettings(name="website", write_key="website"),
        SourceSettings(name="segment", write_key="hook", webhook_secret_env="SEGMENT_SECRET"),
    ]
    with collecting(CollectSettings(sources=sources)) as one:
        yield one


def hook(running: Running, body: bytes, signature: str | None = None, path: str = PATH) -> tuple[int, dict]:
    headers = {} if signature is None else {"X-Signature": signature}
    answer = running.client.post(path, content=body, headers=headers)
    return answer.status_code, answer.json()


def test_a_signed_event_is_taken_as_the_other_collector_dated_it(running: Running) -> None:
    event = track(
        timestamp="2026-03-01T09:00:00.000Z",
        originalTimestamp="2026-03-01T08:59:00.000Z",
        sentAt="2026-03-01T08:59:10.000Z",
        receivedAt="2026-03-01T09:00:10.000Z",
    )
    body = msgspec.json.encode(event)
    assert hook(running, body, sign(body))[1] == {"success": True, "accepted": 1, "rejected": []}
    (found,) = running.events()
    assert found["timestamp"] == "2026-03-01T09:00:00Z"
    assert found["originalTimestamp"] == "2026-03-01T08:59:00.000Z"
    assert found["receivedAt"] == "2026-03-01T12:00:00Z"
    assert running.log.read("events", 0, 1)[0].source == "segment"


def test_of_an_array_the_first_element_is_signed(running: Running) -> None:
    first, second = msgspec.json.encode(track(messageId="1")), msgspec.json.encode(track(messageId="2"))
    body = b"[ " + first + b" , " + second + b"]"
    assert hook(running, body, sign(first)) == (200, {"success": True, "accepted": 2, "rejected": []})
    assert hook(running, body, sign(second))[0] == 401
    assert hook(running, body, sign(body))[0] == 401
    assert hook(running, b"[]", sign(b""))[0] == 401


def test_the_compact_form_may_be_signed(running: Running) -> None:
    spaced = json.dumps(track(event="Käse"), indent=2, ensure_ascii=True).encode()
    compact = json.dumps(track(event="Käse"), separators=(",", ":"), ensure_ascii=False).encode()
    assert hook(running, spaced, sign(compact))[0] == 200
    assert hook(running, b"[" + spaced + b"]", sign(compact))[0] == 200
    assert hook(running, spaced + b"\n", sign(spaced))[0] == 200


@pytest.mark.parametrize(
    "signature", [None, "", "0" * 40, "é", sign(b"other"), sign(msgspec.json.encode(track()))[:-1]]
)
def test_a_wrong_signature_is_refused_and_kept_aside(running: Running, signature: str | None) -> None:
    body = msgspec.json.encode(track())
    headers = {} if signature is None else {"X-Signature": signature.encode()}
    answer = running.client.post(PATH, content=body, headers=headers)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_signature")
    assert running.events() == []
    (one,) = running.rejected()
    assert one["raw"] == body


def test_the_write_key_does_not_stand_in_for_a_signature(running: Running) -> None:
    assert running.post(PATH, track(writeKey="hook")).status_code == 401


def test_sources_without_a_secret_take_no_webhooks(running: Running) -> None:
    body = msgspec.json.encode(track())
    assert hook(running, body, sign(body), "/v1/webhook/website")[1]["code"] == "no_webhook_secret"
    assert hook(running, body, sign(body), "/v1/webhook/nowhere")[1]["code"] == "unknown_write_key"


def test_a_replayed_webhook_gives_the_same_ids_so_that_landing_keeps_one(running: Running) -> None:
    body = msgspec.json.encode(track(messageId=None))
    for _ in range(2):
        assert hook(running, body, sign(body))[0] == 200
    first, second = running.log.read("events", 0, 10)
    assert first.message_id == second.message_id


def test_a_deletion_becomes_a_record(running: Running) -> None:
    body = b'{"type":"delete","userId":"u1","messageId":"d1"}'
    assert hook(running, body, sign(body))[1]["accepted"] == 1
    (event,) = running.events()
    assert (event["type"], event["userId"]) == ("delete", "u1")


def test_deletions_with_the_write_key_where_the_settings_say_so() -> None:
    settings = CollectSettings(sources=[SourceSettings(name="website", write_key="website", deletes=True)])
    with collecting(settings) as one:
        assert one.post("/v1/batch", {"batch": [{"type": "delete", "userId": "u1"}]}).json()["accepted"] == 1


def test_what_is_wrong_with_a_signed_event_is_said_as_elsewhere(running: Running) -> None:
    first = msgspec.json.encode(track(event=None))
    body = b"[" + first + b"," + msgspec.json.encode(track()) + b"]"
    status, told = hook(running, body, sign(first))
    assert (status, told["accepted"], told["rejected"][0]["reason"]) == (200, 1, "no_event")
    assert hook(running, b"{", sign(b"{"))[1]["code"] == "bad_json"


def test_a_secret_that_is_not_set_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SEGMENT_SECRET", raising=False)
    settings = CollectSettings(sources=[SourceSettings(name="s", write_key="k", webhook_secret_env="SEGMENT_SECRET")])
    with (
        pytest.raises(ConfigError, match="source s: SEGMENT_SECRET is not set in the environment"),
        collecting(settings),
    ):
        pass


@given(st.binary(max_size=60), st.text(max_size=50))
def test_no_bytes_and_no_signature_break_the_check(body: bytes, signature: str) -> None:
    assert signed(body, signature, b"k") is False
