"""The SQLite file of the log: how it is opened, what it takes, and what its errors mean to the user."""

import mmap
import os
import sqlite3
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import LogFull, LogUnavailable
from headwater.log.base import TOPICS

APPLICATION = 0x48574C31
"""Written into the file's head, so that another program's file is told from ours."""
PAGE_BYTES = 8_192
JOURNAL_BYTES = 64_000_000
"""What the journal keeps of its room after a burst."""

_TOPIC = """
create table if not exists {} (
    last integer primary key, count integer not null, oldest_at integer, newest_at integer, body blob not null)"""
_SCHEMA = """
create table if not exists readers (reader text, topic text, position integer, primary key (reader, topic)) without rowid;
create table if not exists doubtful (topic text primary key, below integer) without rowid;
create table if not exists unsearched (topic text primary key) without rowid;
"""


@dataclass(frozen=True)
class Sizes:
    """Bytes of pages in use and bytes of all pages of the file."""

    used: int
    whole: int


def opened(path: Path, wait_seconds: float, max_bytes: int | None) -> sqlite3.Connection:
    """A connection to the log, whose tables are there; the file is made when it is not.

    Raises LogUnavailable for a file that is no log, and sqlite3.Error for whatever else SQLite says.
    """
    new = not path.exists()
    if new:
        try:
            _make_folder(path.parent)
        except OSError as error:
            raise LogUnavailable(
                f"the folder of the log {path} cannot be made: {error}. Look at its folder's rights, then run this again"
            ) from error
    connection = sqlite3.connect(path, timeout=wait_seconds, isolation_level=None, check_same_thread=False)
    try:
        application = _application(path, connection)
        connection.execute(f"pragma page_size={PAGE_BYTES}")
        _wal(connection, wait_seconds)
        connection.execute("pragma synchronous=full")
        connection.execute("pragma secure_delete=on")
        connection.execute("pragma wal_autocheckpoint=0")
        connection.execute(f"pragma journal_size_limit={JOURNAL_BYTES}")
        missing = set(TOPICS) - _tables(connection)  # all of a new file; of an older one the topics it did not know
        if missing:
            connection.execute("begin immediate")
            for statement in (*(_TOPIC.format(topic) for topic in TOPICS), *_SCHEMA.split(";")):
                connection.execute(statement)
            if not application:
                connection.execute(f"pragma application_id={APPLICATION}")
            connection.execute("commit")
        if max_bytes is not None:
            connection.execute(f"pragma max_page_count={max(max_bytes // PAGE_BYTES, 16)}")
    except BaseException:
        connection.close()
        raise
    return connection


def sizes(connection: sqlite3.Connection) -> Sizes:
    """What the file takes, by SQLite's own count."""
    page, pages, free = (
        connection.execute(f"pragma {name}").fetchone()[0] for name in ("page_size", "page_count", "freelist_count")
    )
    return Sizes((pages - free) * page, pages * page)


def anywhere(path: Path, needles: Sequence[bytes]) -> bool:
    """Whether one of the needles stands anywhere in the bytes of the file."""
    with path.open("rb") as whole, mmap.mmap(whole.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(needle) >= 0 for needle in needles)


def explained(path: Path, error: sqlite3.Error, doing: str, waited: float, max_bytes: int | None) -> LogUnavailable:
    """What SQLite's error means, as a sentence with what to do. `doing` completes "it could not …" (append to, read …)."""
    code = getattr(error, "sqlite_errorcode", 0) or 0
    kind = code & 0xFF
    found = f"{error} ({getattr(error, 'sqlite_errorname', None) or type(error).__name__})"
    if kind == sqlite3.SQLITE_FULL or (kind == sqlite3.SQLITE_IOERR and (limit := _no_room(path))):
        if kind == sqlite3.SQLITE_FULL and max_bytes is not None and _free(path) > PAGE_BYTES * 1_000:
            why = f"it may take {max_bytes:,} bytes and has them"
            do = "Let the readers catch up, or allow more"
        elif kind == sqlite3.SQLITE_IOERR:
            why, do = limit, "Raise the limit, or free room"
        else:
            why, do = f"{_free(path):,} bytes are free on its disk", "Free room on the disk"
        return LogFull(
            f"there is no room to {doing} the log {path}: {why}; {found}. {do}; nothing of this call was kept"
        )
    if kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogUnavailable(
            f"could not {doing} the log {path}: another process held it for {waited:.1f} s; {found}. "
            "Close the program that has it open, then send again"
        )
    if kind in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LogUnavailable(
            f"could not {doing} the log {path}: the file is damaged; {found}; expected a log of Headwater. "
            "Move it and its -wal file away and put them back from a copy; without one a new log begins"
        )
    return LogUnavailable(
        f"could not {doing} the log {path}: {found}; expected a file that can be read and written. "
        "Look at its folder's rights and at the disk, then send again"
    )


def _application(path: Path, connection: sqlite3.Connection) -> int:
    """Whose file it is: ours, or 0 for a new one."""
    tables = connection.execute("select count(*) from sqlite_master").fetchone()[0]
    application = connection.execute("pragma application_id").fetchone()[
        0
    ]  # after the tables: somebody may be making both
    if tables and application != APPLICATION:
        raise LogUnavailable(
            f"{path} is a SQLite file of another program ({tables} tables and indexes, application id {application}); "
            f"expected the log of Headwater (application id {APPLICATION}). Move it away, then run this again"
        )
    return application


def _tables(connection: sqlite3.Connection) -> set[str]:
    return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


def _wal(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Switch the journal, which SQLite refuses without waiting while another process does the same."""
    until = time.monotonic() + wait_seconds
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
        else:
            return


def _make_folder(folder: Path) -> None:
    """The folder and the way to it, durable: a new file in a folder that a loss of power takes away would be lost too."""
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    for one in {made.parent for made in missing}:
        place = os.open(one, os.O_RDONLY)
        try:
            os.fsync(place)
        finally:
            os.close(place)


def _free(path: Path) -> int:
    stat = os.statvfs(path.parent)
    return stat.f_bavail * stat.f_frsize


def _no_room(path: Path) -> str:
    """Why the file cannot grow, if that is so; empty otherwise."""
    if _free(path) < PAGE_BYTES * 100:
        return f"{_free(path):,} bytes are free on its disk"
    try:
        import resource  # noqa: PLC0415 (not on every system)
    except ImportError:
        return ""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if allowed == resource.RLIM_INFINITY:
        return ""
    largest = max((p.stat().st_size for p in (path, path.with_name(path.name + "-wal")) if p.exists()), default=0)
    return f"this process may write files of {allowed:,} bytes" if largest + 2_000_000 > allowed else ""
