"""Runs the collector in this process until it is told to stop; then answers what it has taken, and ends."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from headwater.clock import Clock, SystemClock
from headwater.collect import collector
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError
from headwater.log.base import Log
from headwater.signals import stopped_by

GRACE_SECONDS = 10
"""How long a stopping collector waits for senders that are in the middle of a request."""


def serve(
    folder: Path,
    settings: CollectSettings,
    log: Log,
    clock: Clock | None = None,
    *,
    ready: Path | None = None,
) -> None:
    """Take events of the project `folder` into the log until SIGTERM or SIGINT; then the log is closed and this returns.

    When it listens it prints one line, `collecting at http://<host>:<port>`, and, if asked to, writes that address to the
    file `ready` (port 0 is given a free one). Raises ConfigError when a setting cannot work: a plan, a key, the address.
    """
    clock = clock or SystemClock()
    try:
        config = uvicorn.Config(
            collector.build(settings, log, clock, folder),
            http="httptools",
            lifespan="on",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=True,
            forwarded_allow_ips=settings.trusted_proxies,
            timeout_graceful_shutdown=GRACE_SECONDS,
            backlog=2048,
        )
        with _listening(settings) as place, asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(_Server(config, ready).serve([place]))
    finally:
        log.close()


@contextmanager
def _listening(settings: CollectSettings) -> Iterator[socket.socket]:
    """The socket, bound. Raises ConfigError when somebody else has it, or the address is not ours."""
    place = socket.socket(socket.AF_INET6 if ":" in settings.host else socket.AF_INET)
    with place:
        place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            place.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"the collector cannot listen on {settings.host}:{settings.port}: {error.strerror}. Stop what uses that "
                "port, or set another with `collect.port` in headwater.yml"
            ) from error
        yield place


class _Server(uvicorn.Server):
    """uvicorn that says where it listens, and for which a signal to stop is a good end."""

    def __init__(self, config: uvicorn.Config, ready: Path | None) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        host, port = (sockets or [])[0].getsockname()[:2]
        address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        if self._ready is not None:
            self._ready.parent.mkdir(parents=True, exist_ok=True)
            aside = self._ready.with_name(self._ready.name + ".new")
            aside.write_text(address, encoding="utf-8")
            aside.replace(self._ready)
        print(f"collecting at {address}", flush=True)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with stopped_by(self._stop):
            yield

    def _stop(self) -> None:
        self.should_exit = True
