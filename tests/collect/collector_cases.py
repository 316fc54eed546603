"""What is sent, what is answered, what is logged: one case per rule of the wire. `test_accept.py` runs them all.

Of a logged payload only the fields shown are compared; `ABSENT` means that the field is not there. Moments are relative to a
collector whose clock stands at 2026-03-01T12:00:00Z.
"""

from dataclasses import dataclass, field
from typing import Any

import msgspec

ABSENT = "<absent>"
ANY = "<any>"
NOW_TEXT = "2026-03-01T12:00:00Z"


@dataclass(frozen=True)
class Case:
    """One request. `body`: JSON, or bytes as they are. `reasons`: of each rejected item, all its codes."""

    name: str
    path: str
    body: Any
    status: int = 200
    events: list[dict[str, Any]] = field(default_factory=list)
    reasons: list[list[str]] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    says: str = ""

    def __str__(self) -> str:
        return self.name


def track(**fields: Any) -> dict[str, Any]:
    """A track call that is fine; None takes a field away."""
    whole = {"type": "track", "userId": "u1", "event": "Demo Requested", "messageId": "m1", **fields}
    return {name: value for name, value in whole.items() if value is not None}


def nested(levels: int) -> Any:
    """Objects within objects."""
    value: Any = 1
    for _ in range(levels):
        value = {"a": value}
    return value


def batch(*events: Any, **top: Any) -> dict[str, Any]:
    return {"batch": list(events), **top}


def spliced(*pieces: bytes) -> bytes:
    """A batch of raw pieces, JSON or not."""
    return b'{"sentAt":"2026-03-01T12:00:00Z","batch":[' + b",".join(pieces) + b"]}"


FINE = msgspec.json.encode(track(messageId="fine"))

CASES = [
    # endpoints
    Case("track", "/v1/track", track(), events=[track(receivedAt=NOW_TEXT, timestamp=NOW_TEXT, anonymousId=None)]),
    Case("the endpoint says the type", "/v1/track", track(type=None), events=[{"type": "track"}]),
    Case(
        "identify",
        "/v1/identify",
        {"userId": "u1", "traits": {"email": "a@b.c"}},
        events=[{"type": "identify", "traits": {"email": "a@b.c"}}],
    ),
    Case(
        "page",
        "/v1/page",
        {"anonymousId": "a1", "name": "Home"},
        events=[{"type": "page", "name": "Home", "userId": None}],
    ),
    Case("screen", "/v1/screen", {"anonymousId": "a1", "name": "Home"}, events=[{"type": "screen"}]),
    Case("group", "/v1/group", {"userId": "u1", "groupId": "g1"}, events=[{"type": "group", "groupId": "g1"}]),
    Case("alias", "/v1/alias", {"userId": "u1", "previousId": "a1"}, events=[{"type": "alias", "previousId": "a1"}]),
    *[
        Case(f"the short path of {kind}", f"/v1/{kind[0]}", body, events=[{"type": kind}])
        for kind, body in {
            "track": track(type=None),
            "identify": {"userId": "u1"},
            "page": {"userId": "u1"},
            "screen": {"userId": "u1"},
            "group": {"userId": "u1", "groupId": "g"},
            "alias": {"userId": "u1", "previousId": "a"},
        }.items()
    ],
    *[
        Case(
            f"a batch at {path}",
            path,
            batch(track(messageId="1"), {"type": "page", "userId": "u2"}),
            events=[{"messageId": "1"}, {"type": "page"}],
        )
        for path in ("/v1/batch", "/v1/b", "/v1/import")
    ],
    Case("a slash at the end", "/v1/track/", track(), events=[{}]),
    Case("an empty batch", "/v1/batch", batch()),
    # who sends
    Case(
        "the write key in the body alone",
        "/v1/track",
        track(writeKey="website"),
        headers={"Authorization": ""},
        events=[{"messageId": "m1", "writeKey": ABSENT}],
    ),
    Case(
        "the write key in the body of a batch",
        "/v1/batch",
        batch(track(), writeKey="website"),
        headers={"Authorization": ""},
        events=[{}],
    ),
    Case("Basic without the colon", "/v1/track", track(), headers={"Authorization": "Basic d2Vic2l0ZQ=="}, events=[{}]),
    Case("Basic without padding", "/v1/track", track(), headers={"Authorization": "Basic d2Vic2l0ZTo"}, events=[{}]),
    Case("Basic in small letters", "/v1/track", track(), headers={"Authorization": "basic d2Vic2l0ZTo="}, events=[{}]),
    Case(
        "unknown write key in the header",
        "/v1/track",
        track(),
        401,
        headers={"Authorization": "Basic bm9ib2R5Og=="},
        reasons=[["unknown_write_key"]],
    ),
    Case(
        "a wrong header is not saved by the body",
        "/v1/track",
        track(writeKey="website"),
        401,
        headers={"Authorization": "Basic bm9ib2R5Og=="},
        reasons=[["unknown_write_key"]],
    ),
    Case(
        "unknown write key in the body",
        "/v1/track",
        track(writeKey="nobody"),
        401,
        headers={"Authorization": ""},
        reasons=[["unknown_write_key"]],
    ),
    Case(
        "a write key that is no text",
        "/v1/track",
        track(writeKey=["website"]),
        401,
        headers={"Authorization": ""},
        reasons=[["unknown_write_key"]],
    ),
    Case("no write key", "/v1/track", track(), 401, headers={"Authorization": ""}, reasons=[["missing_write_key"]]),
    Case(
        "a Basic header that is no base64",
        "/v1/track",
        track(),
        401,
        headers={"Authorization": "Basic %%%"},
        reasons=[["unknown_write_key"]],
    ),
    # bodies
    Case(
        "text/plain, as browsers send",
        "/v1/t",
        track(),
        headers={"content-type": "text/plain"},
        events=[{"context": {"ip": "127.0.0.1"}}],
    ),
    Case(
        "a page's ip",
        "/v1/t",
        track(context={"page": {"url": "u"}}),
        headers={"Origin": "https://shop.example"},
        events=[{"context": {"page": {"url": "u"}, "ip": "127.0.0.1"}}],
    ),
    Case(
        "an ip that was said stays",
        "/v1/t",
        track(context={"ip": "9.9.9.9"}),
        headers={"Origin": "https://shop.example"},
        events=[{"context": {"ip": "9.9.9.9"}}],
    ),
    Case("a server's ip is nobody's", "/v1/track", track(), events=[{"context": ABSENT}]),
    Case("no content type", "/v1/track", track(), headers={"content-type": ""}, events=[{}]),
    Case(
        "malformed JSON",
        "/v1/track",
        b'{"userId": "u1", "event": ',
        400,
        reasons=[["bad_json"]],
        says="the bytes are not JSON",
    ),
    Case("an empty body", "/v1/track", b"", 400, reasons=[["bad_json"]]),
    Case("a malformed batch", "/v1/batch", b'{"batch": [{"type": "track"', 400, reasons=[["bad_json"]]),
    Case("not even a batch", "/v1/batch", b"]]]", 400, reasons=[["bad_json"]]),
    Case("a single that is a list", "/v1/track", [track()], reasons=[["not_an_object"]], says="found a list"),
    Case("a single that is null", "/v1/track", b"null", reasons=[["not_an_object"]]),
    Case("a batch without a list", "/v1/batch", {"batch": {"type": "track"}}, reasons=[["no_batch"]]),
    Case("a batch that is one event", "/v1/batch", track(), reasons=[["no_batch"]]),
    Case("a batch that is a list", "/v1/batch", [track()], reasons=[["no_batch"]]),
    Case(
        "a compression that nobody knows",
        "/v1/track",
        b"\xce\xb2\xcf\x81",
        400,
        headers={"content-encoding": "br"},
        reasons=[["bad_encoding"]],
    ),
    Case(
        "gzip that is none",
        "/v1/track",
        b"\x1f\x8bnothing",
        400,
        headers={"content-encoding": "gzip"},
        reasons=[["bad_encoding"]],
    ),
    # ids
    Case(
        "numeric ids become text",
        "/v1/track",
        track(userId=42, anonymousId=4.0, messageId=7),
        events=[{"userId": "42", "anonymousId": "4", "messageId": "7"}],
    ),
    Case("a fraction stays one", "/v1/track", track(userId=4.5), events=[{"userId": "4.5"}]),
    Case(
        "blank ids are none",
        "/v1/track",
        track(userId="  ", anonymousId="a"),
        events=[{"userId": None, "anonymousId": "a"}],
    ),
    Case(
        "an id that is an object",
        "/v1/track",
        track(userId={"id": 1}),
        reasons=[["bad_type"]],
        says="a field holds a value of the wrong kind; found an object; expected text or a number",
    ),
    Case("an id that is true", "/v1/track", track(userId=True), reasons=[["bad_type"]]),
    Case("no messageId: one is given", "/v1/track", track(messageId=None), events=[{"messageId": ANY}]),
    Case("a messageId of 100 characters", "/v1/track", track(messageId="m" * 100), events=[{"messageId": "m" * 100}]),
    Case(
        "a messageId of 101 characters",
        "/v1/track",
        track(messageId="m" * 101),
        reasons=[["message_id_too_long"]],
        says="found 101 characters",
    ),
    # what is required
    Case("nobody", "/v1/track", track(userId=None), reasons=[["no_user"]]),
    Case(
        "a name written otherwise",
        "/v1/track",
        {"user_id": "u1", "event": "e"},
        reasons=[["no_user"]],
        says="found `user_id`",
    ),
    Case("no event", "/v1/track", track(event=None), reasons=[["no_event"]]),
    Case("a blank event", "/v1/track", track(event=" "), reasons=[["no_event"]]),
    Case("an event that is a number", "/v1/track", track(event=3), reasons=[["bad_type"]]),
    Case("no group", "/v1/group", {"userId": "u1"}, reasons=[["no_group"]]),
    Case("an alias of nobody", "/v1/alias", {"anonymousId": "a"}, reasons=[["no_previous_id", "no_user"]]),
    Case("a batch item without type", "/v1/batch", batch(track(type=None)), reasons=[["no_type"]]),
    Case(
        "a type that does not exist",
        "/v1/batch",
        batch(track(type="trek")),
        reasons=[["unknown_type"]],
        says="found 'trek'",
    ),
    Case("a type that is a list", "/v1/batch", batch(track(type=[1])), reasons=[["unknown_type"]]),
    Case(
        "everything wrong is said at once",
        "/v1/batch",
        batch({"type": "track", "context": "x", "properties": [1], "timestamp": "soon", "messageId": "m" * 200}),
        reasons=[["bad_type", "bad_type", "no_user", "no_event", "message_id_too_long", "bad_timestamp"]],
    ),
    # objects
    *[
        Case(f"{name} of the wrong kind", "/v1/track", track(**{name: value}), reasons=[["bad_type"]])
        for name, value in {"properties": "x", "context": [1], "traits": 5, "integrations": True}.items()
    ],
    Case(
        "null objects are none",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":null,"context":null}',
        events=[{"properties": ABSENT, "context": ABSENT}],
    ),
    Case(
        "unknown fields are kept",
        "/v1/track",
        track(version=2, channel="browser", _metadata={"bundled": ["x"]}),
        events=[{"version": 2, "channel": "browser", "_metadata": {"bundled": ["x"]}}],
    ),
    Case(
        "ours are not the sender's to set",
        "/v1/track",
        track(receivedAt="1999-01-01T00:00:00Z", future=True),
        events=[{"receivedAt": NOW_TEXT, "future": ABSENT}],
    ),
    Case(
        "numbers stay exact",
        "/v1/track",
        track(properties={"revenue": 19.99, "big": 123456789012345678901234567890}),
        events=[{"properties": {"revenue": 19.99, "big": 123456789012345678901234567890}}],
    ),
    # what a batch shares
    Case(
        "context and integrations merge, the item wins",
        "/v1/batch",
        batch(
            track(context={"app": {"name": "mine"}, "x": 1}, integrations={"A": False}),
            context={"app": {"name": "ours", "version": 2}, "locale": "en"},
            integrations={"All": True, "A": True},
        ),
        events=[
            {"context": {"app": {"name": "mine"}, "x": 1, "locale": "en"}, "integrations": {"All": True, "A": False}}
        ],
    ),
    Case(
        "a shared context is everybody's",
        "/v1/batch",
        batch(track(messageId="1"), track(messageId="2", context={"a": 1}), context={"locale": "en"}),
        events=[{"context": {"locale": "en"}}, {"context": {"locale": "en", "a": 1}}],
    ),
    Case(
        "a shared context that is none",
        "/v1/batch",
        batch(track(context={"a": 1}), context="x"),
        events=[{"context": {"a": 1}}],
    ),
    # time
    Case(
        "skew: a clock an hour slow",
        "/v1/track",
        track(timestamp="2026-03-01T10:59:50.000Z", sentAt="2026-03-01T11:00:00.000Z"),
        events=[
            {
                "timestamp": "2026-03-01T11:59:50Z",
                "originalTimestamp": "2026-03-01T10:59:50.000Z",
                "sentAt": "2026-03-01T11:00:00.000Z",
                "future": ABSENT,
            }
        ],
    ),
    Case(
        "skew: a clock a year fast",
        "/v1/track",
        track(timestamp="2027-03-01T12:00:00Z", sentAt="2027-03-01T12:00:01.5Z"),
        events=[{"timestamp": "2026-03-01T11:59:58.500000Z", "future": ABSENT}],
    ),
    Case(
        "skew with the batch's sentAt",
        "/v1/batch",
        batch(
            track(timestamp="2026-03-01T10:00:00Z"),
            track(messageId="2", timestamp="2026-03-01T11:00:00Z", sentAt="2020-01-01T00:00:00Z"),
            sentAt="2026-03-01T11:00:00Z",
        ),
        events=[
            {"timestamp": "2026-03-01T11:00:00Z", "sentAt": "2026-03-01T11:00:00Z"},
            {"timestamp": NOW_TEXT, "sentAt": "2026-03-01T11:00:00Z"},
        ],
    ),
    Case(
        "no sentAt: as it is",
        "/v1/track",
        track(timestamp="2026-02-01T00:00:00+02:00"),
        events=[{"timestamp": "2026-01-31T22:00:00Z", "originalTimestamp": "2026-02-01T00:00:00+02:00"}],
    ),
    Case(
        "no timestamp: when it came",
        "/v1/track",
        track(sentAt="2026-01-01T00:00:00Z"),
        events=[{"timestamp": NOW_TEXT, "originalTimestamp": ABSENT}],
    ),
    Case(
        "originalTimestamp stands in",
        "/v1/track",
        track(originalTimestamp="2026-03-01T10:00:00Z", sentAt="2026-03-01T11:00:00Z"),
        events=[{"timestamp": "2026-03-01T11:00:00Z", "originalTimestamp": "2026-03-01T10:00:00Z"}],
    ),
    Case(
        "without a zone it is UTC",
        "/v1/track",
        track(timestamp="2026-02-01T00:00:00"),
        events=[{"timestamp": "2026-02-01T00:00:00Z"}],
    ),
    Case(
        "nanoseconds are cut",
        "/v1/track",
        track(timestamp="2026-02-01T00:00:00.123456789Z"),
        events=[{"timestamp": "2026-02-01T00:00:00.123456Z"}],
    ),
    Case(
        "the far future is flagged",
        "/v1/track",
        track(timestamp="2126-03-01T00:00:00Z"),
        events=[{"timestamp": "2126-03-01T00:00:00Z", "future": True}],
    ),
    Case(
        "an hour ahead is not far",
        "/v1/track",
        track(timestamp="2026-03-01T13:00:00Z"),
        events=[{"timestamp": "2026-03-01T13:00:00Z", "future": ABSENT}],
    ),
    Case(
        "ancient times are kept",
        "/v1/track",
        track(timestamp="0099-01-01T00:00:00Z"),
        events=[{"timestamp": "0099-01-01T00:00:00Z"}],
    ),
    Case(
        "no moment",
        "/v1/track",
        track(timestamp="yesterday"),
        reasons=[["bad_timestamp"]],
        says="found a text of 9 characters",
    ),
    Case("seconds are no moment", "/v1/track", track(timestamp=1700000000), reasons=[["bad_timestamp"]]),
    Case(
        "a sentAt that is no moment",
        "/v1/track",
        track(timestamp="2026-02-01T00:00:00Z", sentAt=5),
        reasons=[["bad_timestamp"]],
    ),
    Case(
        "beyond the calendar, once corrected",
        "/v1/track",
        track(timestamp="9999-12-31T23:59:59Z", sentAt="2020-01-01T00:00:00Z"),
        reasons=[["bad_timestamp"]],
        says="once corrected",
    ),
    Case("before the calendar", "/v1/track", track(timestamp="0001-01-01T00:00:00+14:00"), reasons=[["bad_timestamp"]]),
    # hostile input
    Case(
        "an event of 1 MB",
        "/v1/track",
        track(properties={"x": "y" * 1_000_000}),
        400,
        reasons=[["too_large"]],
        says="the limit is 512,000",
    ),
    Case(
        "an event above 32 KB",
        "/v1/track",
        track(properties={"x": "y" * 33_000}),
        400,
        reasons=[["too_large"]],
        says="the limit is 32,768",
    ),
    Case(
        "a batch above 500 KB",
        "/v1/batch",
        batch(*[track(properties={"x": "y" * 30_000})] * 18),
        400,
        reasons=[["too_large"]],
    ),
    Case(
        "a batch of 2,501",
        "/v1/batch",
        batch(*[track()] * 2_501),
        400,
        reasons=[["too_many"]],
        says="found 2,501 events; the limit is 2,500",
    ),
    Case(
        "one event above 32 KB in a batch",
        "/v1/batch",
        batch(track(messageId="1"), track(properties={"x": "y" * 33_000}), track(messageId="3")),
        events=[{"messageId": "1"}, {"messageId": "3"}],
        reasons=[["too_large"]],
    ),
    Case(
        "deep nesting",
        "/v1/track",
        track(properties=nested(100)),
        reasons=[["too_deep"]],
        says="found 101 levels; the limit is 64",
    ),
    Case("nesting within the limit", "/v1/track", track(properties=nested(50)), events=[{}]),
    Case(
        "nesting beyond what a parser reads",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":' + b"[" * 15_000 + b"]" * 15_000 + b"}",
        400,
        reasons=[["too_deep"]],
    ),
    Case("a NUL byte", "/v1/track", b'{"userId":"u\x00","event":"e"}', 400, reasons=[["bad_json"]]),
    Case(
        "a NUL character",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"x":"a\\u0000b"}}',
        reasons=[["nul_character"]],
    ),
    Case(
        "a NUL in a name",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"a\\u0000":[1]}}',
        reasons=[["nul_character"]],
    ),
    Case(
        "a text about NUL is fine",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"x":"\\\\u0000"}}',
        events=[{"properties": {"x": "\\u0000"}}],
    ),
    Case("invalid UTF-8", "/v1/track", b'{"userId":"u","event":"caf\xe9"}', 400, reasons=[["invalid_utf8"]]),
    Case("half a character", "/v1/track", b'{"userId":"u","event":"\\ud83d"}', 400, reasons=[["invalid_unicode"]]),
    Case("a whole one", "/v1/track", b'{"userId":"u","event":"\\ud83d\\ude00"}', events=[{"event": "\U0001f600"}]),
    Case(
        "a number out of range",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"x":1e999}}',
        400,
        reasons=[["bad_number"]],
    ),
    Case("NaN", "/v1/track", b'{"userId":"u","event":"e","properties":{"x":NaN}}', 400, reasons=[["bad_json"]]),
    Case(
        "a number of 5,000 digits",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"x":' + b"9" * 5_000 + b"}}",
        400,
        reasons=[["bad_number"]],
    ),
    Case(
        "a number of 400 digits",
        "/v1/track",
        b'{"userId":"u","event":"e","properties":{"x":' + b"9" * 400 + b"}}",
        events=[{}],
    ),
    *[
        Case(
            f"poison in the middle of a batch: {name}",
            "/v1/batch",
            spliced(FINE, poison, FINE),
            events=[{"messageId": "fine"}] * 2,
            reasons=[[code]],
        )
        for name, poison, code in [
            ("no JSON", b"{poison}", "bad_json"),
            ("a NUL byte", b'{"type":"track","userId":"\x00","event":"e"}', "bad_json"),
            ("invalid UTF-8", b'{"type":"track","userId":"u","event":"\xff\xfe"}', "invalid_utf8"),
            ("half a character", b'{"type":"track","userId":"u","event":"\\ud800 x"}', "invalid_unicode"),
            (
                "a number out of range",
                b'{"type":"track","userId":"u","event":"e","properties":{"x":1e999}}',
                "bad_number",
            ),
            (
                "deep nesting",
                b'{"type":"track","userId":"u","event":"e","properties":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
                "too_deep",
            ),
            ("no object", b"[1, 2]", "not_an_object"),
            ("nothing", b"null", "not_an_object"),
            ("a gap", b"", "bad_json"),
        ]
    ],
    Case(
        "the same messageId with other bodies: landing keeps the first",
        "/v1/batch",
        batch(track(event="a"), track(event="b")),
        events=[{"event": "a"}, {"event": "b"}],
    ),
    Case(
        "deletions need a source that may",
        "/v1/batch",
        batch({"type": "delete", "userId": "u1"}),
        reasons=[["delete_not_allowed"]],
    ),
]
