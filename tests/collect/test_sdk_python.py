"""Segment's own SDK for Python, unchanged, pointed at the collector."""

from collections import Counter
from datetime import UTC, datetime

import pytest
from collecting import collecting
from sdk_world import MoodyLog, landed
from segment.analytics.client import Client

from headwater.clock import SystemClock
from headwater.collect.settings import CollectLimits, CollectSettings

QUICK = CollectSettings(limits=CollectLimits(retry_after_seconds=1))


def client(url: str, failures: list[object], **options: object) -> Client:
    return Client(
        "website",
        host=url,
        on_error=lambda error, items: failures.append((error, items)),
        timeout=20,
        upload_interval=0.2,
        **options,
    )


@pytest.mark.parametrize("gzip", [False, True])
def test_every_kind_of_call_arrives_as_it_was_made(gzip: bool) -> None:
    failures: list[object] = []
    with collecting(clock=SystemClock()) as running:
        sdk = client(running.url, failures, gzip=gzip)
        before = datetime.now(UTC)
        sdk.identify("u1", {"email": "ada@example.com"}, message_id="i1")
        sdk.track("u1", "Demo Requested", {"plan": "pro", "price": 12.5}, message_id="t1")
        sdk.page("u1", "Docs", "Home", {"url": "https://shop.example/"}, message_id="p1")
        sdk.screen("u1", "App", "Start", message_id="s1")
        sdk.group("u1", "g1", {"name": "Acme"}, message_id="g1")
        sdk.alias("anonymous-1", "u1", message_id="a1")
        sdk.track(anonymous_id="visitor", event="Cart Viewed", message_id="t2")
        sdk.track(42, "Numeric Id", message_id="t3")
        sdk.flush()
        sdk.join()
        events = {event["messageId"]: event for event in running.events()}
    assert failures == []
    assert {name: event["type"] for name, event in events.items()} == {
        "i1": "identify", "t1": "track", "p1": "page", "s1": "screen", "g1": "group", "a1": "alias", "t2": "track", "t3": "track",
    }  # fmt: skip
    assert events["t1"]["properties"] == {"plan": "pro", "price": 12.5}
    assert events["t1"]["context"]["library"]["name"] == "analytics-python"
    assert events["i1"]["traits"] == {"email": "ada@example.com"}
    assert (events["a1"]["previousId"], events["a1"]["userId"]) == ("anonymous-1", "u1")
    assert events["t2"]["anonymousId"] == "visitor"
    assert events["t3"]["userId"] == "42"
    for event in events.values():
        said = datetime.fromisoformat(event["timestamp"].replace("Z", "+00:00"))
        assert abs((said - before).total_seconds()) < 60, (
            "the clock of this machine was corrected by more than it is off"
        )


@pytest.mark.parametrize("moods", [["full"], ["busy"], ["lost", "busy", "full"]])
def test_a_collector_that_refuses_loses_and_doubles_nothing(moods: list[str]) -> None:
    failures: list[object] = []
    log = MoodyLog(moods)
    with collecting(QUICK, log=log, clock=SystemClock()) as running:
        sdk = client(running.url, failures, upload_size=20)
        for number in range(60):
            sdk.track("u1", "Product Viewed", {"n": number}, message_id=f"m{number}")
        sdk.flush()
        sdk.join()
        kept = Counter(event["messageId"] for event in running.events())
        arrived = landed(log)
    assert failures == []
    assert not log.moods, "not every refusal was met"
    assert sorted(arrived) == sorted(f"m{number}" for number in range(60))
    assert (max(kept.values()) > 1) == ("lost" in moods)
