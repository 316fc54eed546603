"""The collector over HTTP: one event a request against the bare server, batches, a tracking plan, a log that is large."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.log import grown
from benchmarks.row import Measured, children_peak_mb, seconds
from headwater.log.sqlite import SqliteLog

CONNECTIONS = 64
SINGLES = 40_000
BATCHES, A_BATCH = 3_000, 100
LARGE = 50_000_000
ROUNDS = 3


def singles(work: Path) -> Measured:
    """One event a request on 64 connections, each answered after the fsync; the bound is the bare server."""
    requests = [_request("/v1/track", {**_event(n), "writeKey": "website"}) for n in range(SINGLES)]
    with _servers(work / "singles", "product", "bare") as addresses:
        took, bound = _turns(*(lambda a=address: _send(a, requests) for address in addresses))
    ok = took <= 2 * bound and SINGLES / took >= 8_000
    size = f"{SINGLES:,} requests, {SINGLES / took:,.0f}/s; bare server {SINGLES / bound:,.0f}/s"
    return Measured(size, took, children_peak_mb(), bound, ok)


def batches(work: Path) -> Measured:
    """Batches of 100, without a tracking plan."""
    return _batches(work / "batches", "product", 100_000)


def planned(work: Path) -> Measured:
    """Batches of 100, every event held against its JSON Schema."""
    return _batches(work / "planned", "planned", 40_000)


def large(work: Path) -> Measured:
    """Batches of 100 into a log of fifty million events; the bound is the same into an empty log."""
    requests = _batch_requests()
    full, empty = work / "full", work / "empty"
    full.mkdir()
    shutil.move(work / "log_50m" / "log.sqlite", full / "product.sqlite")
    with ExitStack() as stack:
        addresses = [stack.enter_context(_servers(folder, "product"))[0] for folder in (full, empty)]
        took, bound = _turns(*(lambda a=address: _send(a, requests) for address in addresses))
    events = BATCHES * A_BATCH
    size = f"{events:,} events onto {LARGE:,}, {events / took:,.0f}/s; onto none {events / bound:,.0f}/s"
    return Measured(size, took, children_peak_mb(), bound, took <= 1.1 * bound)


def log_50m(folder: Path) -> None:
    """A log of fifty million events, all of them unread."""
    with SqliteLog(folder / "log.sqlite") as log:
        grown(log, LARGE)


def _batches(folder: Path, kind: str, rate: int) -> Measured:
    requests = _batch_requests()
    with _servers(folder, kind) as (address,):
        _send(address, requests[:200])
        took = min(seconds(lambda: _send(address, requests)) for _ in range(ROUNDS))
        with SqliteLog(folder / f"{kind}.sqlite") as log:
            expected = (ROUNDS * BATCHES + 200) * A_BATCH
            assert log.end("events") == expected, f"{expected:,} events were sent, {log.end('events'):,} kept"
    events = BATCHES * A_BATCH
    bound = events / rate
    return Measured(f"{events:,} events, {events / took:,.0f}/s", took, children_peak_mb(), bound, took <= bound)


def _turns(work: Callable[[], Any], bound: Callable[[], Any]) -> tuple[float, float]:
    """The best of some turns each, taken in turn."""
    found = [(seconds(work), seconds(bound)) for _ in range(ROUNDS)]
    return min(one for one, _ in found), min(one for _, one in found)


# ---------------------------------------------------------------------- what is sent


def _event(number: int) -> dict[str, Any]:
    return {
        "type": "track",
        "messageId": str(uuid.UUID(int=number + (1 << 100))),
        "userId": f"C{10_000_000 + number % 100_000}",
        "event": "Product Viewed",
        "properties": {
            "product_id": f"p{number % 500}",
            "price": number % 10_000 / 100,
            "currency": "USD",
            "quantity": 1,
        },
        "context": {"page": {"url": "https://shop.example/products/7"}, "library": {"name": "bench", "version": "1"}},
        "timestamp": datetime.now(UTC).isoformat(timespec="milliseconds"),
    }


def _batch_requests() -> list[bytes]:
    return [
        _request("/v1/batch", {"batch": [_event(n * A_BATCH + i) for i in range(A_BATCH)], "writeKey": "website"})
        for n in range(BATCHES)
    ]


def _request(path: str, body: dict[str, Any]) -> bytes:
    content = json.dumps(body, separators=(",", ":")).encode()
    head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    return head.encode() + content


# ---------------------------------------------------------------------- who sends


class _Connection(asyncio.Protocol):
    """Sends a request, waits for its whole answer, sends the next."""

    def __init__(self, requests: Iterator[bytes], done: "asyncio.Future[None]") -> None:
        self._requests = requests
        self._done = done
        self._answer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._transport.close()
            if not self._done.done():
                self._done.set_result(None)
        else:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head = self._answer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._answer.index(b"content-length: ") + 16
        length = int(self._answer[at : self._answer.index(b"\r\n", at)])
        if len(self._answer) < head + 4 + length:
            return
        if not self._answer.startswith(b"HTTP/1.1 200"):
            self._done.set_exception(AssertionError(f"answered {self._answer[:500]!r}"))
            return
        self._answer = b""
        self._next()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._done.done():
            self._done.set_exception(AssertionError(f"the server closed a connection: {exc}"))


def _send(address: str, requests: Sequence[bytes]) -> None:
    """All requests over 64 connections, each answered with 200."""
    host, port = address.removeprefix("http://").split(":")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        shared = iter(requests)
        waits = [loop.create_future() for _ in range(CONNECTIONS)]
        for wait in waits:
            await loop.create_connection(lambda wait=wait: _Connection(shared, wait), host, int(port))
        await asyncio.gather(*waits)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@contextmanager
def _servers(folder: Path, *kinds: str) -> Iterator[list[str]]:
    """One server of each kind, in processes of their own; their addresses."""
    folder.mkdir(parents=True, exist_ok=True)
    started = []
    try:
        for kind in kinds:
            started.append(
                subprocess.Popen(
                    [sys.executable, "-m", "benchmarks.collector_child", kind, str(folder)], stdout=subprocess.DEVNULL
                )
            )
            ready = folder / f"ready-{kind}"
            while not ready.exists():
                assert started[-1].poll() is None, f"the server {kind} did not start"
                time.sleep(0.02)
        yield [(folder / f"ready-{kind}").read_text() for kind in kinds]
    finally:
        for one in started:
            one.send_signal(signal.SIGTERM)
            one.wait(60)
