"""What all twins share: one frame around every call, scripted faults, a rolling call limit, a page, a real HTTP server."""

import asyncio
import socket
import struct
import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from headwater.testing.served import served
from headwater.testing.twins.page import page
from headwater.testing.twins.shelf import Nowhere, Shelf

Fault = Literal[
    "ok",
    "busy",
    "broken",
    "partial",
    "hang_up",
    "reset",
    "expired",
    "write_then_broken",
    "write_then_hang_up",
    "write_then_stall",
    "garbage",
    "mute",
]
"""What happens to a call.

    ok                  it is answered
    busy                429 or the vendor's like, nothing written
    broken              500, nothing written
    partial             every third row is refused for the moment, the others are written
    hang_up, reset      the connection ends, or is torn down (TCP reset); nothing written
    expired             the token is out of date
    write_then_broken   written, answered 500
    write_then_hang_up  written, and nobody hears of it
    write_then_stall    written, and the answer does not come until the caller gives up
    garbage             written, answered with something that is not JSON
    mute                written, answered with a success that names no row
"""


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

    def most(self) -> int:
        """The most calls that it let through in any window."""
        first = most = 0
        for number, at in enumerate(self.passed):
            while at - self.passed[first] >= self.seconds:
                first += 1
            most = max(most, number - first + 1)
        return most


@dataclass
class Twin(ABC):
    """One tool: its records, and a frame around every call that counts it, plays its fault and writes down what changed.

    `calls` counts calls, `writes` rows that changed. With `echo` every call fails and repeats what was sent, secrets
    included: what a client must never store. `records`: object type → record id → record, in the order of the last change; put
    there what should stand there already.
    """

    title: ClassVar[str]
    faults: Faults = field(default_factory=Faults)
    shelf: Shelf | Nowhere = field(default_factory=Nowhere)
    records: dict[str, dict[str, Any]] = field(default_factory=dict)
    calls: int = 0
    writes: int = 0
    echo: bool = False

    def __post_init__(self) -> None:
        self._lock = threading.Lock()
        self._changed: dict[tuple[str, str], None] = {}
        self._indexes: dict[tuple[str, str], _Index] = {}
        for kind, kept in self.shelf.load().items():
            self.records.setdefault(kind, {}).update({id_: self._revived(record) for id_, record in kept.items()})

    def app(self) -> Starlette:
        """The vendor's interface, and the page at `/`."""
        more = [Route("/", self._page, methods=["GET"]), Route("/twin", self._about, methods=["GET"])]
        return Starlette(routes=[*self._routes(), *more], middleware=[Middleware(_WithTransport)])

    # what a twin says of itself

    @abstractmethod
    def _routes(self) -> list[BaseRoute]:
        """The vendor's interface."""

    @abstractmethod
    def _admitted(self, request: Request, fault: Fault) -> Response | None:
        """The refusal of a call that may not come in (token, limits); None: it may."""

    @abstractmethod
    def _broken(self, fault: Fault) -> Response:
        """What the vendor answers when something of its own broke."""

    @abstractmethod
    def _mute(self) -> Response:
        """A success that names no row."""

    def _counted(self, answer: Response) -> Response:
        """The answer with what the vendor puts on every one."""
        return answer

    def _facts(self) -> dict[str, Any]:
        """What else the twin says of itself at /twin."""
        return {}

    def _shown(self, kind: str) -> list[Mapping[str, Any]]:
        """The records of a type as the page shows them, the one that changed last at the end."""
        return list(self.records.get(kind, {}).values())

    def _value(self, record: Any, name: str) -> str | None:
        """A field of a record as text; None when it has none, or cannot be found by it."""
        value = record.get(name)
        return None if value in (None, "") else str(value)

    def _revived(self, record: Any) -> Any:
        """A record as it came from the file."""
        return record

    def _stored(self, record: Any) -> Any:
        """A record as JSON takes it."""
        return record

    # records

    def by(self, kind: str, name: str) -> dict[str, Any]:
        """Records by the value of a field that tells them apart."""
        found = ((self._value(record, name), record) for record in self.records.get(kind, {}).values())
        return {value: record for value, record in found if value is not None}

    def _find(self, kind: str, name: str, value: str) -> list[Any]:
        """The records whose field has this value."""
        held = self.records.get(kind, {})
        index = self._indexes.get((kind, name))
        if index is None or index.size != len(held):
            index = self._indexes[kind, name] = _Index()
            for id_, record in held.items():
                index.add(self._value(record, name), id_)
        index.size = len(held)
        ids = index.ids.get(value, {})
        return [held[id_] for id_ in ids if id_ in held and self._value(held[id_], name) == value]

    def _keep(self, kind: str, id_: str) -> None:
        """A record was made, changed or removed. It moves to the end of its type: records stand in the order of their last change."""
        self.writes += 1
        self._changed.pop((kind, id_), None)
        self._changed[kind, id_] = None
        held = self.records[kind]
        record = held.pop(id_, None)
        if record is not None:
            held[id_] = record
        for (of, name), index in self._indexes.items():
            if of == kind:
                index.size = len(held)
                if record is not None:
                    index.add(self._value(record, name), id_)

    def _write_down(self) -> None:
        if self._changed:
            held = ((kind, id_, self.records[kind].get(id_)) for kind, id_ in self._changed)
            self.shelf.keep((kind, id_, None if one is None else self._stored(one)) for kind, id_, one in held)
            self._changed.clear()

    # one call

    def _endpoint(self, work: Callable[[Request, bytes, Fault], Response]) -> Callable[[Request], Any]:
        async def endpoint(request: Request) -> Response:
            body = await request.body()
            with self._lock:
                self.calls += 1
                if self.echo:
                    return JSONResponse([{"message": f"{dict(request.headers)} {body!r}", "errorCode": "ECHO"}], 400)
                fault = self.faults.next()
                refused = self._admitted(request, fault)
                if refused is not None:
                    return self._counted(refused)
                if fault in ("hang_up", "reset"):
                    return NoAnswer(reset=fault == "reset")
                if fault in ("busy", "broken"):
                    return self._counted(self._broken(fault))
                answer = self._counted(work(request, body, fault))
                self._write_down()
            match fault:
                case "write_then_hang_up":
                    return NoAnswer()
                case "write_then_stall":
                    while not await request.is_disconnected():
                        await asyncio.sleep(0.02)
                    return NoAnswer()
                case "write_then_broken":
                    return self._counted(self._broken(fault))
                case "garbage":
                    return Response("<html>we are upgrading</html>", media_type="text/html")
                case "mute":
                    return self._counted(self._mute())
            return answer

        return endpoint

    async def _page(self, request: Request) -> Response:
        asked = request.query_params
        wanted = asked.get("page", "")[:9]
        number = int(wanted) if wanted.isdecimal() else 1
        with self._lock:
            tables = {kind: self._shown(kind)[::-1] for kind in self.records}
        return page(f"{self.title} twin", tables, query=asked.get("q", ""), number=number)

    async def _about(self, _request: Request) -> Response:
        told = {"twin": self.title, "kept_in": self.shelf.place, "calls": self.calls, "writes": self.writes}
        return JSONResponse(told | self._facts())


class _Index:
    """Which records have a value in one field. Entries may be out of date; whoever looks checks the record."""

    def __init__(self) -> None:
        self.ids: dict[str, dict[str, None]] = {}
        self.size = 0

    def add(self, value: str | None, id_: str) -> None:
        if value is not None:
            self.ids.setdefault(value, {})[id_] = None


class _WithTransport:
    """Puts the connection where `NoAnswer` finds it."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        cycle = getattr(
            receive, "__self__", None
        )  # uvicorn's; the receive of Starlette's own middleware is passed through
        scope["twin.transport"] = getattr(cycle, "transport", None)
        await self._app(scope, receive, send)


class NoAnswer(Response):
    """A response that never comes: the connection ends instead, politely or by a reset."""

    def __init__(self, *, reset: bool = False) -> None:
        super().__init__()
        self._reset = reset

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        transport = scope["twin.transport"]
        if self._reset:
            transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass


def serve(twin: Twin, *, port: int = 0) -> AbstractContextManager[str]:
    """The twin over HTTP on loopback while inside; gives its address. Raises UsageError when somebody else has the port."""
    return served(twin.app(), "twin", port=port)
