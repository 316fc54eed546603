"""`POST /decide` as an ASGI application in front of a Desk.

    POST /decide     {"customer_id", "goal"?, "channel"?, "key"?, "release"?}, with `authorization: Bearer <key>`
    GET  /health     200 while decisions are made, 503 with the reason while they are not
    GET  /metrics    for Prometheus

    200   a decision, written to the ledger before          409   the key belongs to another customer, goal or channel
    400   not JSON, or fields that cannot be used           413   more than 16 kB
    401   no key, or another                                422   the customer's row cannot be used (it is in decision_rejects)
    404   no such customer                                  429   too many wait: ask again (Retry-After)
    405   not POST                                          503   no decision can be made now: ask again (Retry-After)

A decision that could not be made is no decision: whoever asks shows what it shows without one.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from headwater.decisions.realtime.desk import Answer, Desk, Question, Unavailable, refusal
from headwater.decisions.realtime.metrics import Metrics
from headwater.errors import Overloaded

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LIMIT = 16_384
"""Bytes of a request."""
_JSON = (b"content-type", b"application/json")
_RETRY = (b"retry-after", b"1")
_question = msgspec.json.Decoder(Question)


class Decisions:
    """The application. `health` gives (whether all is well, what is to be told)."""

    def __init__(
        self, desk: Desk, key: str, channels: Sequence[str], metrics: Metrics, health: Callable[[], tuple[bool, dict]]
    ) -> None:
        self._desk = desk
        self._bearer = f"Bearer {key}".encode()
        self._channels = channels
        self._metrics = metrics
        self._health = health

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        if path == "/decide" and method == "POST":
            begun = time.perf_counter()
            answer = await self._decide(scope, receive)
            self._metrics.answered(answer, time.perf_counter() - begun)
            await _respond(send, answer, (_JSON, _RETRY) if answer.status in (429, 503) else (_JSON,))
        elif path == "/health" and method in ("GET", "HEAD"):
            well, told = self._health()
            await _respond(send, Answer(200 if well else 503, msgspec.json.encode(told)), (_JSON,))
        elif path == "/metrics" and method in ("GET", "HEAD"):
            await _respond(send, Answer(200, self._metrics.text()), ((b"content-type", CONTENT_TYPE_LATEST.encode()),))
        elif path == "/decide":
            told = refusal(405, "method_not_allowed", f"/decide takes POST, not {method}")
            await _respond(send, told, (_JSON, (b"allow", b"POST")))
        else:
            await _respond(send, refusal(404, "not_found", f"there is nothing at {path[:200]}; POST /decide"), (_JSON,))

    async def _decide(self, scope: Scope, receive: Receive) -> Answer:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        if not hmac.compare_digest(given, self._bearer):
            return refusal(401, "unauthorized", "send the key as `authorization: Bearer <key>`")
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                return refusal(400, "gone", "the connection ended before the request did")
            body += message.get("body", b"")
            if len(body) > LIMIT:
                return refusal(413, "too_large", f"found more than {LIMIT:,} bytes")
            if not message.get("more_body"):
                break
        try:
            question = _question.decode(body)
        except msgspec.DecodeError as error:
            expected = "expected JSON with customer_id, and perhaps goal, channel, key, release"
            return refusal(400, "unusable", f"{error}; {expected}")
        if problems := question.problems(self._channels):
            return refusal(400, "unusable", "; ".join(problems))
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Answer] = loop.create_future()

        def tell(answer: Answer) -> None:
            loop.call_soon_threadsafe(_set, future, answer)

        try:
            self._desk.ask(question, tell)
        except Overloaded as error:
            return refusal(429, "overloaded", str(error))
        except Unavailable as error:
            return refusal(503, "unavailable", str(error))
        return await future


def _set(future: "asyncio.Future[Answer]", answer: Answer) -> None:
    if not future.done():  # the asker has gone
        future.set_result(answer)


async def _respond(send: Send, answer: Answer, headers: Sequence[tuple[bytes, bytes]]) -> None:
    length = (b"content-length", b"%d" % len(answer.body))
    await send({"type": "http.response.start", "status": answer.status, "headers": [length, *headers]})
    await send({"type": "http.response.body", "body": answer.body})
