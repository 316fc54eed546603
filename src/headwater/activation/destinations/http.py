"""One call over HTTP, for every destination that has an HTTP interface: no retry, no redirect, no secret in a log."""

import logging
import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import cache
from typing import Any

import httpx2

from headwater.activation import exact
from headwater.activation.destinations import template
from headwater.activation.destinations.base import Later, Unusable
from headwater.clock import SystemClock

for _name in ("httpx2", "httpcore2"):  # they write addresses and headers, which may hold secrets
    logging.getLogger(_name).setLevel(logging.WARNING)

NOT_DONE = frozenset({423, 425, 429, 503})
"""Answers that say: not now, and nothing was written."""
PERHAPS_DONE = frozenset({408, 477, 500, 502, 504, 521, 522, 523, 524})
"""Answers that say: something broke; it may have been written."""
MOST_BYTES = 4_000_000
KEPT_CHARACTERS = 2_000


@dataclass(frozen=True)
class Answer:
    """What came back. `document` is the body as JSON, None when it is not JSON."""

    status: int
    headers: httpx2.Headers
    text: str
    document: Any

    @property
    def code(self) -> str:
        return f"HTTP {self.status}"

    @property
    def words(self) -> str:
        """The destination's own sentence, wherever it put it."""
        for path in ("$.message", "$.error.message", "$.error", "$.detail", "$.errors[0].message", "$[0].message"):
            found = template.pick(self.document, path)
            if isinstance(found, str):
                return found[:KEPT_CHARACTERS]
        return self.text.strip()[:300] or "the answer has no words"

    @property
    def kept(self) -> Any:
        """What of it is worth storing."""
        short = self.document is not None and len(self.text) <= KEPT_CHARACTERS
        return self.document if short else self.text[:KEPT_CHARACTERS]

    @property
    def retry_after(self) -> float | None:
        """`Retry-After` in seconds; a date is measured against the answering machine's own clock where it says its time."""
        said = self.headers.get("Retry-After")
        if said is None:
            return None
        if re.fullmatch(r"\s*\d+(\.\d+)?\s*", said):
            return float(said)
        try:
            there = parsedate_to_datetime(self.headers["Date"]) if "Date" in self.headers else SystemClock().now()
            return max((_aware(parsedate_to_datetime(said)) - _aware(there)).total_seconds(), 0.0)
        except ValueError:
            return None


class Caller:
    """A pool of connections to one destination. `name` is what its sentences call it."""

    def __init__(self, name: str, *, timeout_seconds: float, concurrency: int) -> None:
        self.name = name
        self._client = httpx2.Client(
            verify=_certificates(),
            timeout=timeout_seconds,
            follow_redirects=False,
            limits=httpx2.Limits(max_connections=concurrency),
        )

    def close(self) -> None:
        """Close the pool."""
        self._client.close()

    def call(self, method: str, address: str, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send, and read the whole answer (up to 4 MB of it).

        Raises Unusable for an address that is none, Later when nobody could be reached, Later in doubt when nobody answered.
        """
        try:
            with self._client.stream(method, address, headers=dict(headers), content=body) as answer:
                read = bytearray()
                for chunk in answer.iter_bytes():
                    read += chunk
                    if len(read) > MOST_BYTES:
                        break
                text = read.decode(answer.encoding or "utf-8", "replace")
                return Answer(answer.status_code, answer.headers, text, _document(text))
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, httpx2.LocalProtocolError) as error:
            raise Unusable("ADDRESS", str(error), advice=f"mend the address of {self.name!r}") from error
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise Later(type(error).__name__, f"{self.name} cannot be reached: {error}") from error
        except httpx2.RequestError as error:
            raise Later(
                type(error).__name__, f"{self.name} gave no answer: {error or 'no reason given'}", in_doubt=True
            ) from error


@cache
def _certificates() -> ssl.SSLContext:
    """Whom to trust; read once, since reading takes longer than a small round of a live sync."""
    return httpx2.create_ssl_context()


def _document(text: str) -> Any:
    try:
        return exact.loads(text)
    except (ValueError, RecursionError):
        return None


def _aware(moment: datetime) -> datetime:
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
