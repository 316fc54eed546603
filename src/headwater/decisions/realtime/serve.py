"""Decisions on demand in threads of the engine's process: the HTTP server, the desk, and a reader that keeps customers fresh.

    start     open connections of its own beside the engine's; who waits is answered from now on
    moved     the engine has committed a batch: the reader looks for changed customers
    pause     let go of the file; the address stays, and answers 503 until the next `start`
    close     the address goes as well

Call all of them in the thread that owns the engine's connection.
"""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any, Literal

import uvicorn

from headwater.clock import Clock, naive_utc
from headwater.decisions.channels import CHANNELS
from headwater.decisions.realtime.desk import Desk
from headwater.decisions.realtime.http import Decisions
from headwater.decisions.realtime.metrics import Metrics
from headwater.decisions.realtime.present import Present
from headwater.decisions.realtime.remembered import RememberedLedgers
from headwater.decisions.realtime.settings import RealtimeSettings
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Table
from headwater.errors import ConfigError
from headwater.warehouse import Warehouse

LOOK_SECONDS = 1.0
"""How long the reader sleeps at most before it looks for changed customers."""
_LEAST_KEY = 16


def check(settings: RealtimeSettings) -> None:
    """Raises ConfigError when decisions are wanted on demand and a `DecisionServer` could not be made now."""
    if settings.port is not None:
        _key(settings)
        _listening(settings).close()


def _key(settings: RealtimeSettings) -> str:
    name = settings.key_env
    key = os.environ.get(name, "")
    if len(key) < _LEAST_KEY:
        found = f"{len(key)} characters" if key else "nothing"
        raise ConfigError(
            f"decisions.realtime.port is set, and the environment variable {name} holds {found}; expected a key of"
            f" at least {_LEAST_KEY} characters. Set it, or take the port out of headwater.yml"
        )
    return key


def _listening(settings: RealtimeSettings) -> socket.socket:
    host, port = settings.host, settings.port or 0
    place = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    place.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        place.bind((host, port))
    except OSError as error:
        place.close()
        raise ConfigError(
            f"decisions cannot be asked for on {host}:{port}: {error.strerror}. Stop what uses that port, or set another"
            " with decisions.realtime.port in headwater.yml"
        ) from error
    return place


class DecisionServer:
    """`say` is told sentences worth showing: (status, sentence). Raises ConfigError when it cannot listen, or has no key."""

    def __init__(
        self, settings: DecisionSettings, clock: Clock, table: Table, say: Callable[[Literal["ok", "warn"], str], None]
    ) -> None:
        self._settings = settings.realtime
        self._clock = clock
        self._say = say
        self._desk = Desk(settings, clock, table)
        self._reader: _Reader | None = None
        self._warehouse: Warehouse | None = None
        channels = [name for name in CHANNELS if name in settings.channels]
        metrics = Metrics(self._desk, self._customers)
        app = Decisions(self._desk, _key(self._settings), channels, metrics, self._health)
        self._socket = _listening(self._settings)
        host, port = self._socket.getsockname()[:2]
        self.address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        config = uvicorn.Config(
            app,
            http="httptools",
            lifespan="off",
            ws="none",
            log_level="critical",
            access_log=False,
            server_header=False,
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # type: ignore[attr-defined]
        self._thread = threading.Thread(target=self._run, args=(config,), name="decide over http", daemon=True)
        self._thread.start()

    def _run(self, config: uvicorn.Config) -> None:
        with asyncio.Runner(loop_factory=config.get_loop_factory()) as runner:
            runner.run(self._server.serve([self._socket]))

    def start(self, engine: Warehouse) -> None:
        """Go on, with connections made beside the engine's. Raises DataError while the project is not built."""
        if self._reader is not None:
            return
        reading = engine.sibling()
        present = Present(reading)
        started = time.monotonic()
        try:
            present.load()
        except BaseException:
            reading.close()
            raise
        self._warehouse = engine.sibling()
        ledgers = RememberedLedgers(self._warehouse)
        self._reader = _Reader(present, reading, self._settings.refresh_seconds, self._say)
        self._desk.open(ledgers, present)
        text = (
            f"POST {self.address}/decide; {len(present):,} customers in memory after {time.monotonic() - started:.1f} s"
        )
        self._say("ok", text)

    def moved(self) -> None:
        """The engine has committed something."""
        if self._reader is not None:
            self._reader.wake()

    def pause(self) -> None:
        """Let go of the file; requests are answered 503."""
        self._desk.close()
        reader, self._reader = self._reader, None
        if reader is not None:
            reader.stop()
        if self._warehouse is not None:
            self._warehouse.close()
            self._warehouse = None

    def close(self) -> None:
        """End."""
        self.pause()
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def _customers(self) -> tuple[int, float]:
        reader = self._reader
        return (0, 0.0) if reader is None else (len(reader.present), time.monotonic() - reader.loaded_at)

    def _health(self) -> tuple[bool, dict[str, Any]]:
        reader = self._reader
        if reader is None or not self._desk.is_open:
            return False, {"status": "closed", "message": self._desk.why_closed}
        number, age = self._customers()
        as_of = reader.present.as_of
        told = {
            "status": "degraded" if reader.error else "ok",
            "message": reader.error or f"{number:,} customers in memory",
            "customers": number,
            "customers_age_seconds": round(age, 1),
            "as_of": as_of.isoformat() + "Z" if as_of else None,
            "now": naive_utc(self._clock.now()).isoformat() + "Z",
        }
        return not reader.error, told


class _Reader:
    """Keeps the customers fresh, in a thread and on a connection of its own."""

    def __init__(
        self,
        present: Present,
        warehouse: Warehouse,
        refresh_seconds: float,
        say: Callable[[Literal["ok", "warn"], str], None],
    ) -> None:
        self.present = present
        self.error = ""
        self.loaded_at = time.monotonic()
        self._warehouse = warehouse
        self._refresh = refresh_seconds
        self._say = say
        self._due = threading.Event()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name="customers in memory", daemon=True)
        self._thread.start()

    def wake(self) -> None:
        self._due.set()

    def stop(self) -> None:
        self._stopping = True
        self._due.set()
        self._thread.join()
        self._warehouse.close()

    def _work(self) -> None:
        while True:
            self._due.wait(LOOK_SECONDS)
            self._due.clear()
            if self._stopping:
                return
            try:
                if time.monotonic() - self.loaded_at >= self._refresh:
                    self.present.load()
                    self.loaded_at = time.monotonic()
                else:
                    self.present.follow()
            except Exception as error:
                text = " ".join(f"{type(error).__name__}: {error}".split())
                if text != self.error:
                    self._say("warn", f"customers are judged by what was known before: {text}")
                self.error = text
            else:
                if self.error:
                    self._say("ok", "customers are read again")
                self.error = ""
