"""Commands while the engine runs: a socket, a note that says where it is, and lines of JSON.

    client                                             server (the engine's process)
    {"argv", "cwd", "env", "width", "out", "err"}  ->  a Call, put in the queue that the engine looks at between batches
    {"cancel": true}, or the end of the line       ->  Call.cancelled is set
                                                   <-  {"out": text} | {"err": text}, any number, in their order
                                                   <-  {"exit": code}, the last line

The socket stands in a folder of its own in the system's temporary folder (a path in the project could be too long for a
socket), both only for this user; `warehouse/.engine.json` says where. A note whose socket nobody answers is left over from a
killed engine and counts as none. Nothing here knows what a command is, or runs one.
"""

import json
import os
import queue
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

NOTE = ".engine.json"
BROKEN = 1
_LINE_LIMIT = 1 << 20
_CONNECT_SECONDS = 5.0
_PATH_BYTES = 70
"""A temporary folder with a longer path could make the socket's too long (104 bytes on some systems)."""


@dataclass(frozen=True)
class Request:
    """A command as it was typed. `env`: only what the client lets pass. `width`: columns of the screen.

    `out`, `err`: whether the client's standard output and standard error are terminals.
    """

    argv: tuple[str, ...]
    cwd: str
    env: Mapping[str, str] = field(default_factory=dict)
    width: int = 80
    out: bool = False
    err: bool = False


class Call:
    """A command that waits or works. Whoever takes it from the queue says what it prints and, once, how it ended.

    `out`, `err` and `end` may be called from any thread and wait for nobody: what a slow client has not read yet is kept.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.cancelled = threading.Event()
        self._said: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def out(self, text: str) -> None:
        """What the command writes to standard output."""
        self._said.put({"out": text})

    def err(self, text: str) -> None:
        """What the command writes to standard error."""
        self._said.put({"err": text})

    def end(self, code: int) -> None:
        """The command has ended with this exit code."""
        self._said.put({"exit": code})

    def deliver(self, connection: socket.socket) -> None:
        """Send what is said until the command has ended; a client that has gone is a wish to stop."""
        while True:
            said = self._said.get()
            try:
                connection.sendall(json.dumps(said).encode() + b"\n")
            except OSError:
                self.cancelled.set()
            if "exit" in said:
                return


class Aside(Protocol):
    """Commands that need not wait for the engine."""

    def wants(self, request: Request) -> bool:
        """Whether this command is one of them."""
        ...

    def work(self, call: Call) -> None:
        """Do it, in the calling thread, and end the call."""
        ...


class Server:
    """Takes calls for a project, from its start until `close`.

    `waiting` holds what nobody has taken yet. What `aside` wants is not queued: it works in a thread of its own, for commands
    that last and touch nothing of the engine's.
    """

    def __init__(self, warehouse: Path, aside: Aside | None = None) -> None:
        self.waiting: queue.SimpleQueue[Call] = queue.SimpleQueue()
        self._aside = aside
        self._note = warehouse / NOTE
        room = _PATH_BYTES - len(os.fsencode(tempfile.gettempdir()))
        self._home = Path(tempfile.mkdtemp(prefix="headwater-", dir=None if room > 0 else "/tmp"))  # noqa: S108  (made for this user only)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        path = self._home / "engine"
        before = os.umask(0o177)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(16)
        self._calls: set[Call] = set()
        threading.Thread(target=self._accept, name="relay", daemon=True).start()
        warehouse.mkdir(parents=True, exist_ok=True)
        aside_note = self._note.with_suffix(".new")
        aside_note.write_text(json.dumps({"socket": str(path), "pid": os.getpid()}), encoding="utf-8")
        aside_note.replace(self._note)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:  # closed
                return
            threading.Thread(target=self._answer, args=(connection,), name="relay call", daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as lines, suppress(OSError):
            try:
                given: dict[str, Any] = json.loads(lines.readline(_LINE_LIMIT))
                request = Request(argv=tuple(given.pop("argv")), **given)
            except (ValueError, KeyError, TypeError):
                return
            call = Call(request)
            self._calls.add(call)
            threading.Thread(target=self._listen, args=(call, lines), name="relay cancel", daemon=True).start()
            if self._aside is not None and self._aside.wants(request):
                threading.Thread(target=self._aside.work, args=(call,), name="relay aside", daemon=True).start()
            else:
                self.waiting.put(call)
            call.deliver(connection)
            self._calls.discard(call)
            connection.shutdown(socket.SHUT_RDWR)

    def _listen(self, call: Call, lines: Any) -> None:
        """A line is a wish to stop, and so is the end of the connection."""
        with suppress(OSError, ValueError):
            lines.readline(_LINE_LIMIT)
        call.cancelled.set()

    def close(self) -> None:
        """Take the note away, refuse what waits, end what has not ended. Closing twice is fine."""
        self._note.unlink(missing_ok=True)
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        for call in list(self._calls):
            call.err("the engine stops, so this command was not finished; run it again\n")
            call.end(BROKEN)
        shutil.rmtree(self._home, ignore_errors=True)


def holder(warehouse: Path) -> int | None:
    """The process id of the engine that answers for this project, or None."""
    connection = _connect(warehouse)
    if connection is None:
        return None
    connection.close()
    return int(json.loads((warehouse / NOTE).read_text(encoding="utf-8"))["pid"])


def left_over(warehouse: Path) -> tuple[int, datetime] | None:
    """Process id and start (UTC) of an engine that ended without giving its note back; None where one answers, or gave it back."""
    note = warehouse / NOTE
    try:
        started, pid = note.stat().st_mtime, int(json.loads(note.read_text(encoding="utf-8"))["pid"])
    except (OSError, ValueError, KeyError):
        return None
    return None if holder(warehouse) is not None else (pid, datetime.fromtimestamp(started, UTC))


def _connect(warehouse: Path) -> socket.socket | None:
    try:
        path = json.loads((warehouse / NOTE).read_text(encoding="utf-8"))["socket"]
    except (OSError, ValueError, KeyError):
        return None
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(_CONNECT_SECONDS)
    try:
        connection.connect(path)
    except OSError:  # left over from an engine that was killed
        connection.close()
        return None
    connection.settimeout(None)
    return connection


def forward(warehouse: Path, argv: Sequence[str], env: Mapping[str, str]) -> int | None:
    """Have the engine of this project do a command, print what it prints, and give its exit code; None without an engine.

    Ctrl-C asks the engine to stop the command and waits for its end; a second one leaves at once (KeyboardInterrupt).
    """
    connection = _connect(warehouse)
    if connection is None:
        return None
    size = shutil.get_terminal_size()
    request = Request(tuple(argv), str(Path.cwd()), dict(env), size.columns, sys.stdout.isatty(), sys.stderr.isatty())
    with connection, _ctrl_c(connection):
        connection.sendall(json.dumps(asdict(request)).encode() + b"\n")
        return _print(connection)


@contextmanager
def _ctrl_c(connection: socket.socket) -> Iterator[None]:
    """The first Ctrl-C asks the engine, the second leaves."""

    def ask(*_: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        with suppress(OSError):
            connection.sendall(b'{"cancel": true}\n')

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _print(connection: socket.socket) -> int:
    with connection.makefile("rb") as lines:
        for line in lines:
            said = json.loads(line)
            if "exit" in said:
                return int(said["exit"])
            stream, text = (sys.stdout, said["out"]) if "out" in said else (sys.stderr, said["err"])
            stream.write(text)
            stream.flush()
    sys.stderr.write("error: the engine went away before this command had ended; run it again\n")
    return BROKEN
