"""The collector as an ASGI application: Segment's endpoints in front, the log behind.

    POST /v1/{track,identify,page,screen,group,alias}, /v1/{t,i,p,s,g,a}    one event
    POST /v1/{batch,b,import}                                               many
    POST /v1/webhook/<source>                                               Segment's webhook destination
    POST /v1/hubspot/<source>, /v1/salesforce/<source>                      what these say became of what they were sent
    POST /v1/m                                                              what analytics.js says about itself: thrown away
    GET  /v1/projects/<write key>/settings, /analytics-next/bundles/*       what analytics.js loads before it starts
    GET  /health, /metrics
    OPTIONS, anywhere

Guarantee: 200 is answered after the log's durable commit, so an event that was answered with 200 is kept, also through
kill -9 and a loss of power. A sender that got no answer sends again; what was kept twice then falls together where it lands.
When too much waits the answer is 429, when the log cannot be written 503, both with Retry-After; nothing of the request is
kept then.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import parse_qsl

import msgspec
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.staticfiles import StaticFiles

from headwater.clock import Clock, SystemClock
from headwater.collect import browser, origin
from headwater.collect.endpoints import ENDPOINTS, Endpoint, with_source
from headwater.collect.health import Health
from headwater.collect.hooks import Call
from headwater.collect.intake import Intake
from headwater.collect.metrics import Metrics
from headwater.collect.reasons import REASONS
from headwater.collect.settings import CollectSettings
from headwater.errors import LogFull, LogUnavailable, Overloaded
from headwater.failpoint import failpoint
from headwater.log.base import Log
from headwater.log.group import GroupCommit
from headwater.records.logged import Entry

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

_JSON = (b"content-type", b"application/json")
DELIVERIES = "warehouse/deliveries.prom"
"""Metrics of the deliveries, relative to the project; whoever delivers writes them."""


class Committer(Protocol):
    """Makes entries durable; returns when they are."""

    async def append(self, entries: Sequence[Entry]) -> None:
        """Raises Overloaded, LogFull or LogUnavailable when nothing was kept."""
        ...

    def close(self) -> None:
        """Write down what is waiting."""
        ...


class Collector:
    """One per process and event loop."""

    def __init__(
        self,
        settings: CollectSettings,
        intake: Intake,
        committer: Committer,
        health: Health,
        metrics: Metrics,
        bundles: StaticFiles | None = None,
        clock: Clock | None = None,
        deliveries: Path | None = None,
    ) -> None:
        self._settings = settings
        self._limits = settings.limits
        self._intake = intake
        self._committer = committer
        self._health = health
        self._metrics = metrics
        self._bundles = bundles
        self._clock = clock or SystemClock()
        self._deliveries = deliveries
        self._killable = "HEADWATER_FAILPOINT" in os.environ  # asked once, not twice a request
        self._retry = (b"retry-after", str(settings.limits.retry_after_seconds).encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        path, method = scope["path"], scope["method"]
        endpoint, source = ENDPOINTS.get(path), ""
        if endpoint is None:
            endpoint, source = with_source(path) or (ENDPOINTS.get(path.rstrip("/")), "")
        if endpoint is not None and method == "POST":
            await self._collect(endpoint, source, scope, receive, send)
        else:
            await self._other(path, method, scope, receive, send)

    async def _collect(self, endpoint: Endpoint, source: str, scope: Scope, receive: Receive, send: Send) -> None:
        authorization = from_page = signature = forwarded = None
        encoding = b""
        for name, value in scope["headers"]:
            if name == b"authorization":
                authorization = value
            elif name == b"origin":
                from_page = value
            elif name == b"content-encoding":
                encoding = value
            elif name == b"content-type" and value[:10] == b"text/plain":
                forwarded = True
            elif name == b"x-signature":
                signature = value.decode("latin-1")
        headers = [_JSON] if from_page is None else [_JSON, *origin.answer_headers(from_page)]
        health = self._health
        if health.requests >= self._limits.requests or health.waiting_bytes >= self._limits.pending_bytes:
            await self._wait(
                send, endpoint, headers, 429, "overloaded", "more requests are waiting than may; send again"
            )
            return
        health.requests += 1
        waiting = 0
        try:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = message.get("body", b""), 0
            if message.get("more_body"):
                found = await self._rest(receive, body)
                if found is None:
                    return
                body, more = found
            client = scope.get("client")
            client_side = from_page is not None or forwarded is not None
            if more:
                taken = self._intake.too_large(endpoint, body, more, authorization=authorization)
                headers = [*headers, (b"connection", b"close")]
            elif endpoint.shape == "tool":
                taken = self._intake.take_call(endpoint, _call(scope, body, self._clock.now()), source)
                headers = [(b"content-type", taken.content_type), *headers[1:]]
            else:
                taken = self._intake.take(
                    endpoint,
                    body,
                    authorization=authorization,
                    encoding=encoding,
                    ip=client[0] if client and client_side else None,
                    signature=signature,
                    webhook_source=source,
                )
            entries = taken.entries
            waiting = len(entries[0].payload) if len(entries) == 1 else sum([len(entry.payload) for entry in entries])
            health.waiting_bytes += waiting
            if entries:
                if self._killable:
                    failpoint("collect.taken")
                await self._committer.append(entries)
                if self._killable:
                    failpoint("collect.logged")
                health.kept()
            self._metrics.count(endpoint.name, taken, len(body))
            await _respond(send, taken.status, taken.body, headers)
        except Overloaded as error:
            await self._wait(send, endpoint, headers, 429, "overloaded", str(error))
        except TimeoutError:
            message = f"the body did not arrive within {self._limits.body_seconds:g} seconds; send again"
            await self._wait(send, endpoint, [*headers, (b"connection", b"close")], 408, "too_slow", message)
        except LogUnavailable as error:
            health.failed(str(error))
            code = "log_full" if isinstance(error, LogFull) else "log_unavailable"
            await self._wait(send, endpoint, headers, 503, code, str(error))
        finally:
            health.requests -= 1
            health.waiting_bytes -= waiting

    async def _rest(self, receive: Receive, body: bytes) -> tuple[bytes, int] | None:
        """The body of a request that comes in parts, and 0; or its beginning and how much of it was read, when it is longer
        than the limit; None when the sender left.

        Raises TimeoutError for a sender that dawdles, Overloaded when too much is being received at the same time.
        """
        limit, health = self._limits.batch_bytes, self._health
        parts, length, held = [body], len(body), len(body)
        health.waiting_bytes += held
        try:
            async with asyncio.timeout(self._limits.body_seconds):
                more = True
                while more:
                    if health.waiting_bytes > self._limits.pending_bytes:
                        raise Overloaded("more bytes are being received than may wait; send again")
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    more = message.get("more_body", False)
                    part = message.get("body", b"")
                    length += len(part)
                    if length <= limit:
                        parts.append(part)
                        held += len(part)
                        health.waiting_bytes += len(part)
                    elif length > 8 * limit:
                        break
        finally:
            health.waiting_bytes -= held
        return b"".join(parts), length if length > limit else 0

    async def _wait(
        self, send: Send, endpoint: Endpoint, headers: origin.Headers, status: int, code: str, message: str
    ) -> None:
        """Nothing was kept; send again later."""
        self._metrics.answers[endpoint.name, status] += 1
        told = {"success": False, "code": code, "message": message, "accepted": 0, "rejected": []}
        await _respond(send, status, msgspec.json.encode(told), [*headers, self._retry])

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": f"{message['type']}.complete"})
        self._committer.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _other(self, path: str, method: str, scope: Scope, receive: Receive, send: Send) -> None:
        if method == "OPTIONS":
            await _respond(send, 204, b"", origin.preflight_headers(scope["headers"]))
            return
        from_page = dict(scope["headers"]).get(b"origin")
        headers = [_JSON] if from_page is None else [_JSON, *origin.answer_headers(from_page)]
        if path == "/v1/m" and method == "POST":
            await _respond(send, 200, b'{"success":true}', headers)
        elif path.startswith("/v1/projects/") and path.endswith("/settings") and method in ("GET", "HEAD"):
            await self._project_settings(path.split("/")[3], scope, send, headers)
        elif path == "/health" and method in ("GET", "HEAD"):
            status, told = await asyncio.to_thread(self._health.report)
            await _respond(send, status, msgspec.json.encode(told), headers)
        elif path == "/metrics" and method in ("GET", "HEAD"):
            self._metrics.working = self._health.requests
            text = await asyncio.to_thread(self._metrics.text) + await asyncio.to_thread(self._more_metrics)
            await _respond(send, 200, text, [(b"content-type", CONTENT_TYPE_LATEST.encode())])
        elif path.startswith(browser.BUNDLES_PATH + "/") and self._bundles is not None and method in ("GET", "HEAD"):
            await self._bundle(path, scope, receive, send, headers[1:])
        else:
            known = path in ENDPOINTS or with_source(path) is not None
            status, code = (405, "method_not_allowed") if known else (404, "not_found")
            message = f"{path} takes POST, not {method}" if known else f"there is nothing at {path[:200]}"
            more: origin.Headers = [(b"allow", b"POST, OPTIONS")] if known else []
            told = {"success": False, "code": code, "message": message}
            await _respond(send, status, msgspec.json.encode(told), [*headers, *more])

    def _more_metrics(self) -> bytes:
        """What the engine has written of the deliveries; nothing where it has not."""
        try:
            return b"" if self._deliveries is None else self._deliveries.read_bytes()
        except OSError:
            return b""

    async def _project_settings(self, write_key: str, scope: Scope, send: Send, headers: origin.Headers) -> None:
        if write_key not in self._intake.sources.by_key:
            told = {"success": False, "code": "unknown_write_key", "message": REASONS["unknown_write_key"]}
            await _respond(send, 401, msgspec.json.encode(told), headers)
            return
        asked = dict(scope["headers"]).get(b"host", b"").decode("latin-1")
        host = self._settings.public_host or asked or f"{self._settings.host}:{self._settings.port}"
        await _respond(send, 200, browser.settings_of(write_key, host, scope.get("scheme", "http")), headers)

    async def _bundle(self, path: str, scope: Scope, receive: Receive, send: Send, headers: origin.Headers) -> None:
        """A file of the bundles, for any origin."""
        assert self._bundles is not None

        async def with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *headers]
            await send(message)

        inner = {**scope, "path": path[len(browser.BUNDLES_PATH) :], "root_path": ""}
        try:
            await self._bundles(inner, receive, with_origin)
        except HTTPException as error:
            told = {"success": False, "code": "not_found", "message": f"there is nothing at {path[:200]}"}
            await _respond(send, error.status_code, msgspec.json.encode(told), [_JSON, *headers])


def _call(scope: Scope, body: bytes, received: datetime) -> Call:
    """A request as a tool's file looks at it."""
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    query = scope.get("query_string", b"").decode("latin-1")
    raw = scope.get("raw_path", b"").decode("latin-1") or scope["path"]
    url = f"{scope.get('scheme', 'http')}://{headers.get('host', '')}{raw}{f'?{query}' if query else ''}"
    return Call(scope["method"], url, dict(parse_qsl(query)), headers, body, received)


async def _respond(send: Send, status: int, body: bytes, headers: origin.Headers) -> None:
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [(b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


def build(settings: CollectSettings, log: Log, clock: Clock, folder: Path = Path()) -> Collector:
    """The collector of a project: paths in `settings` are of `folder`.

    Raises ConfigError when a tracking plan, a key or a secret is not as it must be.
    """
    return Collector(
        settings,
        Intake(settings, clock, folder),
        GroupCommit(log),
        Health(settings, log, clock, folder),
        Metrics(log),
        browser.bundles(folder / settings.bundles) if settings.bundles else None,
        clock,
        folder / DELIVERIES,
    )
