"""A collector on a free port of this machine, in a thread, with a log that a test can look into."""

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import uvicorn

from headwater.clock import Clock, FixedClock
from headwater.collect import collector
from headwater.collect.settings import CollectSettings
from headwater.log.base import Log
from headwater.log.memory import MemoryLog

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
AUTH = {"Authorization": "Basic " + base64.b64encode(b"website:").decode()}


def basic(text: str) -> dict[str, str]:
    """A Basic header of these very bytes; the colon is up to the caller."""
    return {"Authorization": "Basic " + base64.b64encode(text.encode()).decode()}


@dataclass
class Running:
    """A collector that runs."""

    url: str
    log: Log
    clock: Clock
    client: httpx2.Client
    app: collector.Collector

    def post(self, path: str, body: Any, **headers: str) -> httpx2.Response:
        """Send JSON, or bytes as they are, with the write key of the default source unless told otherwise."""
        content = body if isinstance(body, bytes) else msgspec.json.encode(body)
        return self.client.post(path, content=content, headers={**AUTH, "content-type": "application/json", **headers})

    def events(self, after: int = 0) -> list[dict[str, Any]]:
        """The payloads of what was accepted."""
        return [msgspec.json.decode(record.payload) for record in self.log.read("events", after, 1_000_000)]

    def rejected(self, after: int = 0) -> list[dict[str, Any]]:
        """The payloads of what was rejected, the raw bytes taken out of their wrapping."""
        found = [msgspec.json.decode(record.payload) for record in self.log.read("rejected", after, 1_000_000)]
        return [{**one, "raw": base64.b64decode(one["raw"])} if "raw" in one else one for one in found]


@contextmanager
def collecting(
    settings: CollectSettings | None = None,
    *,
    log: Log | None = None,
    clock: Clock | None = None,
    folder: Path = Path(),
) -> Iterator[Running]:
    """Run a collector until the block ends; it has answered everything then."""
    log = log or MemoryLog()
    clock = clock or FixedClock(NOW)
    app = collector.build(settings or CollectSettings(), log, clock, folder)
    server = uvicorn.Server(
        uvicorn.Config(app, http="httptools", lifespan="on", log_level="error", access_log=False, proxy_headers=True)
    )
    with socket.socket() as place:
        place.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{place.getsockname()[1]}"
        listening = threading.Event()
        startup = server.startup

        async def started(sockets: list[socket.socket] | None = None) -> None:
            await startup(sockets)
            listening.set()

        server.startup = started  # type: ignore[method-assign]
        thread = threading.Thread(target=server.run, args=([place],), name="collector")
        thread.start()
        try:
            assert listening.wait(30), "the collector did not start"
            with httpx2.Client(base_url=url, timeout=30) as client:
                yield Running(url, log, clock, client, app)
        finally:
            server.should_exit = True
            thread.join()
            log.close()
