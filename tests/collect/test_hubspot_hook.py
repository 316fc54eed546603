"""HubSpot's webhooks pointed at us: its signature, what its events become, and every call that must not be believed."""

import base64
import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from collecting import NOW, Running, collecting

from headwater.collect.hooks import Call
from headwater.collect.hooks.hubspot import HubSpot
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.errors import ConfigError

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
URL = "https://events.example.com/v1/hubspot/crm"
MOMENT = "2026-03-01T11:59:00+00:00"


def change(name: str, value: str, kind: str = "contact", **more: object) -> dict[str, object]:
    """An event of the shape that HubSpot publishes."""
    return {
        "objectId": 1246965,
        "propertyName": name,
        "propertyValue": value,
        "changeSource": "ACADEMY",
        "eventId": 3816279340,
        "subscriptionId": 25,
        "portalId": 33,
        "appId": 1160452,
        "occurredAt": int(datetime.fromisoformat(MOMENT).timestamp() * 1_000),
        "subscriptionType": f"{kind}.propertyChange",
        "attemptNumber": 0,
        **more,
    }


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    monkeypatch.setenv("HUBSPOT_CLIENT_SECRET", SECRET)
    source = SourceSettings(
        name="crm", write_key="crm", hubspot={"url": URL, "events": {"hs_lead_status": "lead_moved"}}
    )
    with collecting(CollectSettings(sources=[source])) as one:
        yield one


def call(
    running: Running, body: bytes, *, secret: str = SECRET, at: datetime = NOW, url: str = URL, path: str = ""
) -> tuple[int, dict]:
    stamp = str(int(at.timestamp() * 1_000))
    told = b"POST" + url.encode() + body + stamp.encode()
    signature = base64.b64encode(hmac.new(secret.encode(), told, hashlib.sha256).digest()).decode()
    headers = {"X-HubSpot-Signature-v3": signature, "X-HubSpot-Request-Timestamp": stamp}
    answer = running.client.post(path or "/v1/hubspot/crm", content=body, headers=headers)
    return answer.status_code, answer.json()


def test_the_signature_is_the_one_of_hubspots_own_library() -> None:
    """The values are those of HubSpot's published tests."""
    hook = HubSpot(SECRET.encode(), None, 300, {})
    headers = {
        "x-hubspot-signature-v3": "HPW73RUtKmcYoEDADG0s6MmGFWUzWJKAW07r8RDgcQw=",
        "x-hubspot-request-timestamp": "15000000",
    }
    body = b"{'example_field':'example_value'}"
    at = datetime.fromtimestamp(15_000, UTC)
    one = Call("POST", "https://www.example.com/webhook_uri", {}, headers, body, at)
    assert hook.check(one) is None
    assert (
        hook.check(Call("POST", "https://www.example.com/other", {}, headers, body, at)).code == "bad_hubspot_signature"
    )


@pytest.mark.parametrize(
    ("told", "event", "properties"),
    [
        (change("hs_email_optout", "true"), "email_unsubscribed", {}),
        (change("hs_email_optout", "false"), "email_resubscribed", {}),
        (
            change("hs_email_hard_bounce_reason_enum", "UNKNOWN_USER"),
            "email_bounced",
            {"hard": True, "reason": "UNKNOWN_USER"},
        ),
        (change("hs_email_bounce", "2"), "email_bounced", {}),
        (change("hs_email_last_send_date", "1772366400000"), "email_sent", {}),
        (change("hs_email_last_open_date", "1772366400000"), "email_opened", {}),
        (change("hs_email_last_click_date", "1772366400000"), "email_clicked", {}),
        (change("hs_email_last_click_date", ""), "contact_changed", {}),
        (change("hs_lead_status", "OPEN"), "lead_moved", {}),
        (change("firstname", "Ada"), "contact_changed", {}),
        (change("dealstage", "closedwon", "deal"), "deal_won", {}),
        (change("dealstage", "closedlost", "deal"), "deal_lost", {}),
        (change("dealstage", "appointmentscheduled", "deal"), "deal_changed", {}),
        (change("hs_email_optout", "true", "object", objectTypeId="0-1"), "email_unsubscribed", {}),
        (change("dealstage", "closedwon", "object", objectTypeId="0-3"), "deal_won", {}),
    ],
)
def test_what_a_change_becomes(running: Running, told: dict, event: str, properties: dict) -> None:
    assert call(running, json.dumps([told]).encode()) == (200, {"success": True, "accepted": 1, "rejected": []})
    (found,) = running.events()
    kind = "deal" if "deal" in event else "contact"
    assert (found["type"], found["event"], found["anonymousId"]) == ("track", event, f"tool:hubspot:{kind}:1246965")
    assert found["timestamp"] == "2026-03-01T11:59:00Z"
    assert found["properties"]["tool"] == "hubspot"
    assert properties.items() <= found["properties"].items()


def test_a_privacy_deletion_asks_to_forget_the_person(running: Running) -> None:
    told = {**change("", ""), "subscriptionType": "contact.privacyDeletion"}
    assert call(running, json.dumps([told]).encode())[0] == 200
    (found,) = running.events()
    assert (found["type"], found["anonymousId"]) == ("delete", "tool:hubspot:contact:1246965")


def test_a_repetition_is_the_same_message_and_another_change_is_not(running: Running) -> None:
    first = change("hs_email_optout", "true")
    for one in (first, {**first, "attemptNumber": 1, "eventId": 99}, {**first, "occurredAt": 1}):
        call(running, json.dumps([one]).encode())
    ids = [event["messageId"] for event in running.events()]
    assert ids[0] == ids[1] != ids[2]


def test_a_wrong_signature_is_refused_and_kept_with_the_reason(running: Running) -> None:
    body = json.dumps([change("hs_email_optout", "true")]).encode()
    for status, told in (
        call(running, body, secret="another"),
        call(running, body, url="https://events.example.com/v1/hubspot/other"),
    ):
        assert (status, told["code"]) == (401, "bad_hubspot_signature")
    answer = running.client.post("/v1/hubspot/crm", content=body)
    assert (answer.status_code, answer.json()["code"]) == (401, "bad_hubspot_signature")
    assert running.events() == []
    assert [one["raw"] for one in running.rejected()] == [body] * 3


@pytest.mark.parametrize(("minutes", "status"), [(-4.9, 200), (-5.1, 401), (5.1, 401)])
def test_a_call_that_was_signed_long_ago_is_a_replay(running: Running, minutes: float, status: int) -> None:
    body = json.dumps([change("hs_email_optout", "true")]).encode()
    found, told = call(running, body, at=NOW + timedelta(minutes=minutes))
    assert found == status
    assert told.get("code") == (None if status == 200 else "stale_signature")


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "bad_json"),
        (b"{", "bad_json"),
        (b"\xff", "bad_json"),
        (b"[1]", "bad_notification"),
        (b'[{"objectId": 1}]', "bad_notification"),
        (b'{"subscriptionType": "contact.creation"}', "bad_notification"),
    ],
)
def test_a_signed_body_that_is_not_what_hubspot_publishes_is_answered(running: Running, body: bytes, code: str) -> None:
    status, told = call(running, body)
    assert status == 400
    assert told["code"] in (code, "invalid_utf8")
    assert running.events() == []
    assert running.client.get("/health").status_code in (200, 503)


def test_an_address_of_no_such_source_is_refused(running: Running) -> None:
    status, told = call(running, b"[]", path="/v1/hubspot/nobody")
    assert (status, told["code"]) == (401, "unknown_write_key")
    assert running.client.get("/v1/hubspot/crm").status_code == 405


def test_a_secret_that_is_not_set_stops_the_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HUBSPOT_CLIENT_SECRET", raising=False)
    source = SourceSettings(name="crm", write_key="crm", hubspot={})
    with (
        pytest.raises(ConfigError, match="source crm: HUBSPOT_CLIENT_SECRET is not set in the environment"),
        collecting(CollectSettings(sources=[source])),
    ):
        pass
