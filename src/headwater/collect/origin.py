"""What a page of another origin may do: everything, with credentials, from anywhere. The write key says who it is."""

from collections.abc import Iterable

_ALWAYS = ("authorization", "content-type", "x-retry-count")

Headers = list[tuple[bytes, bytes]]


def answer_headers(origin: bytes) -> Headers:
    """The headers with which every answer to a page goes out."""
    return [
        (b"access-control-allow-origin", origin),
        (b"access-control-allow-credentials", b"true"),
        (b"access-control-expose-headers", b"Retry-After"),
        (b"vary", b"Origin"),
    ]


def preflight_headers(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """The answer to an OPTIONS request, on any path: what was asked for is allowed."""
    given = dict(headers)
    asked = given.get(b"access-control-request-headers", b"").decode("latin-1").lower().split(",")
    names = dict.fromkeys([*_ALWAYS, *(name.strip() for name in asked if name.strip())])
    answer = [
        *answer_headers(given.get(b"origin", b"*")),
        (b"access-control-allow-methods", b"POST, GET, OPTIONS"),
        (b"access-control-allow-headers", ", ".join(names).encode("latin-1")),
        (b"access-control-max-age", b"86400"),
    ]
    if given.get(b"access-control-request-private-network") == b"true":
        answer.append((b"access-control-allow-private-network", b"true"))
    return answer
