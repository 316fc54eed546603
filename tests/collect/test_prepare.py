"""What one event becomes, whatever it holds."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import msgspec
from hypothesis import assume, given
from hypothesis import strategies as st

from headwater.collect.accept import KINDS, Arrival, microseconds, moment_of, prepare
from headwater.collect.mask import Mask
from headwater.collect.sources import Source

SOURCE = Source("website", "website", Mask({}, None))
ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
MOMENTS = st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1), timezones=ZONES)  # noqa: DTZ001
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = st.sampled_from(
    [
        "type",
        "messageId",
        "userId",
        "anonymousId",
        "previousId",
        "groupId",
        "event",
        "properties",
        "traits",
        "context",
        "integrations",
        "timestamp",
        "originalTimestamp",
        "sentAt",
        "receivedAt",
        "future",
        "writeKey",
        "x",
    ]
)


@given(MOMENTS, MOMENTS, MOMENTS, st.booleans())
def test_the_clock_of_the_sender_is_corrected_exactly(
    received: datetime, sent: datetime, original: datetime, on_top: bool
) -> None:
    expected = received - (sent - original)
    event: dict[str, Any] = {"type": "track", "userId": "u", "event": "e", "timestamp": original.isoformat()}
    arrival = Arrival(received.astimezone(UTC), sent_at=sent.isoformat() if on_top else None)
    if not on_top:
        event["sentAt"] = sent.isoformat()
    assert prepare(event, None, SOURCE, arrival) == []
    payload = msgspec.json.decode(msgspec.json.encode(event))
    assert moment_of(payload["timestamp"]) == expected
    assert payload["timestamp"].endswith("Z")
    assert payload["originalTimestamp"] == original.isoformat()
    assert payload["sentAt"] == sent.isoformat()
    assert payload.get("future", False) is (expected - received > timedelta(hours=1))


@given(
    st.dictionaries(FIELDS, JSON), st.none() | st.sampled_from(sorted(KINDS)), JSON, st.dictionaries(st.text(), JSON)
)
def test_an_event_is_accepted_whole_or_rejected_with_reasons(
    event: dict[str, Any], kind: str | None, sent_at: Any, context: dict[str, Any]
) -> None:
    arrival = Arrival(
        datetime(2026, 3, 1, tzinfo=UTC),
        ip="1.2.3.4",
        sent_at=sent_at,
        context=msgspec.json.encode(context) if context else None,
    )
    before = dict(event)
    reasons = prepare(event, kind, SOURCE, arrival)
    if reasons:
        assert all(reason.message for reason in reasons)
        return
    payload = msgspec.json.decode(msgspec.json.encode(event))
    assert payload["type"] in KINDS
    assert isinstance(payload["messageId"], str) and 0 < len(payload["messageId"]) <= 100
    assert payload["userId"] or payload["anonymousId"]
    assert all(isinstance(payload.get(name), str | None) for name in ("userId", "anonymousId", "previousId", "groupId"))
    assert moment_of(payload["timestamp"]) is not None
    assert payload["receivedAt"] == "2026-03-01T00:00:00Z"
    assert payload["context"]["ip"]
    assert "writeKey" not in payload
    if "x" in before:
        assert payload["x"] == before["x"]


@given(st.datetimes(timezones=ZONES))
def test_microseconds_are_exact(moment: datetime) -> None:
    assume(moment.year > 1 and moment.year < 9999)
    assert datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=microseconds(moment.astimezone(UTC))) == moment
