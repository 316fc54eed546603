"""What all twins share: scripted faults, a rolling call limit, a page, and a real HTTP server in a thread."""

import html
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import uvicorn
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, Response

Fault = Literal[
    "ok", "busy", "broken", "write_then_broken", "hang_up", "write_then_hang_up", "garbage", "mute", "expired"
]
"""What happens to a call: ok · busy: 429 or the vendor's like, nothing written · broken: 500, nothing written ·
write_then_broken: written, answered 500 · hang_up: the connection ends, nothing written · write_then_hang_up: written, and
nobody hears of it · garbage: written, answered with something that is not JSON · mute: written, answered with a success that names no row · expired: the token is out of date."""


@dataclass
class Faults:
    """A script of what happens to the coming calls, one entry each; when it is used up, all goes well."""

    script: deque[Fault] = field(default_factory=deque)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, faults: Iterable[Fault]) -> None:
        """Append to the script."""
        with self._lock:
            self.script.extend(faults)

    def next(self) -> Fault:
        """The fate of this call."""
        with self._lock:
            return self.script.popleft() if self.script else "ok"


class Rolling:
    """At most `calls` in any window of `seconds`, as vendors count; keeps the moments of all calls it let through."""

    def __init__(self, calls: int, seconds: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self.calls = calls
        self.seconds = seconds
        self.passed: list[float] = []
        self.refused = 0
        self._now = now
        self._lock = threading.Lock()

    def admit(self) -> bool:
        """Whether one more call is within the limit; it is counted when it is."""
        with self._lock:
            now = self._now()
            if len(self.passed) >= self.calls and now - self.passed[-self.calls] < self.seconds:
                self.refused += 1
                return False
            self.passed.append(now)
            return True


class Twin(Protocol):
    """What a twin offers to `serve` and to its page."""

    faults: Faults

    def app(self) -> Starlette:
        """The vendor's interface, and the page at `/`."""
        ...


class HangUp(Exception):
    """Ends the connection without an answer."""


class NoAnswer(Response):
    """A response that never comes."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise HangUp


def page(title: str, tables: Mapping[str, list[Mapping[str, Any]]]) -> HTMLResponse:
    """The records of a twin as a web page that needs nothing else."""
    parts = []
    for name, rows in tables.items():
        columns = list(dict.fromkeys(column for row in rows for column in row))
        head = "".join(f"<th>{html.escape(column)}</th>" for column in columns)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(_shown(row.get(column)))}</td>" for column in columns) + "</tr>"
            for row in rows[:500]
        )
        count = f"{len(rows):,} record{'' if len(rows) == 1 else 's'}"
        more = f"<p>The first 500 of {count}.</p>" if len(rows) > 500 else ""
        parts.append(
            f"<h2>{html.escape(name)} <small>{count}</small></h2><div><table><thead><tr>{head}</tr></thead>"
            f"<tbody>{body}</tbody></table></div>{more}"
        )
    return HTMLResponse(
        _PAGE.format(title=html.escape(title), body="".join(parts) or "<p>Nothing has arrived yet.</p>")
    )


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: #1c2733 }}
h1 {{ font-size: 1.4rem }} h2 {{ font-size: 1.1rem; margin-top: 2rem }} small {{ color: #5b6b7b; font-weight: normal }}
div {{ overflow-x: auto }} table {{ border-collapse: collapse; min-width: 100% }}
th, td {{ text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e3e8ee; white-space: nowrap }}
th {{ color: #5b6b7b; font-weight: 600 }}
</style><h1>{title}</h1>{body}</html>"""


def server(app: Starlette, *, host: str = "127.0.0.1", port: int = 0) -> uvicorn.Server:
    """A server that says nothing on the terminal; `serve` starts one in a thread."""
    return uvicorn.Server(
        uvicorn.Config(app, host=host, port=port, log_level="critical", access_log=False, lifespan="off", ws="none")
    )


@contextmanager
def serve(twin: Twin, *, port: int = 0) -> Iterator[str]:
    """The twin over HTTP on loopback while inside; gives its address, like http://127.0.0.1:54321."""
    running = server(twin.app(), port=port)
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    while not running.started:
        if not thread.is_alive():
            raise OSError(f"the twin cannot listen on port {port}; is it taken? Choose another with --port")
        time.sleep(0.005)
    try:
        yield f"http://127.0.0.1:{running.servers[0].sockets[0].getsockname()[1]}"
    finally:
        running.should_exit = True
        thread.join(timeout=10)
