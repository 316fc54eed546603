"""The log in one SQLite file: the default. Durable when `append` returns, one writer at a time, many readers.

Layout: a table per topic with one row per block of entries (`headwater.log.packed`), keyed by the offset of the block's last
entry; a table of readers' positions. Write-ahead journal, `synchronous=FULL`. No other index: an append costs the same at
fifty million records as at none.

Group commit: whoever comes to the pen first writes down what all who wait behind it have handed in, and commits once.

Nothing of what was removed stays in the files. Freed pages are zeroed (`secure_delete`); removed records are overwritten
where they stand. SQLite leaves copies of rows behind in the slack of pages only where it merges half-empty neighbours,
which here happens at the old end when `trim` deletes there: `doubtful` says up to which offset that may be. A removal
below it searches the file for what is left, and writes it anew if there is anything; `unsearched` says that this is due.
"""

import os
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path

from headwater.clock import Clock, SystemClock
from headwater.errors import LogFull, LogUnavailable
from headwater.failpoint import failpoint
from headwater.log import packed
from headwater.log.base import TOPICS, LogFacts, TopicFacts
from headwater.log.file import anywhere, explained, opened, sizes
from headwater.records.logged import Entry, Record, Topic

CHECKPOINT_BYTES = 8_000_000
"""So much is appended before the journal is brought into the file."""
TRIM_BYTES = 8_000_000
"""So much is deleted in one transaction, so that nobody waits long for the pen."""
TRIM_EVERY = 10.0
"""Seconds between two looks at what is too old, while entries arrive."""
NEIGHBOURS = 400
"""More rows than SQLite can have copied aside where it merged pages at the old end: four pages of the smallest rows."""


class _Ticket:
    """What one call of `append` handed in, and what became of it."""

    __slots__ = ("done", "error", "parts")

    def __init__(self, parts: list[tuple[Topic, packed.Part]]) -> None:
        self.parts = parts
        self.done = False
        self.error: LogUnavailable | None = None


class SqliteLog:
    """The log in the file `path`, made on first use; several processes may have it open.

    `max_bytes`: what the file may take (the journal beside it takes up to 64 MB more); above it records that every reader
    has are removed, and when that is not enough `append` raises LogFull. `max_age`: how long what every reader has is kept.
    None = no limit. `wait_seconds`: how long to wait for another process that holds the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int | None = None,
        max_age: timedelta | None = None,
        clock: Clock | None = None,
        wait_seconds: float = 5.0,
    ) -> None:
        self.path = Path(path)
        self._max_bytes = max_bytes
        self._max_age = max_age
        self._clock = clock or SystemClock()
        self._wait = wait_seconds
        self._closed = False
        self._pen = threading.Lock()  # held by whoever uses the writing connection
        self._desk = threading.Lock()  # held to change the list of tickets
        self._tickets: list[_Ticket] = []
        self._writer: sqlite3.Connection | None = None
        self._readers: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._commit_seconds: float | None = None
        self._error: str | None = None
        self._written = 0  # bytes since the last checkpoint
        self._trimmed_at = time.monotonic()
        self._due = threading.Event()  # the checkpointer has something to do
        self._checkpointer: threading.Thread | None = None

    # ------------------------------------------------------------------ appending

    def append(self, entries: Sequence[Entry]) -> None:
        if not entries:
            return
        ticket = _Ticket(list(packed.parts(entries)))
        with self._desk:
            self._tickets.append(ticket)
        with self._pen:
            if not ticket.done:
                with self._desk:
                    group, self._tickets = self._tickets, []
                self._commit(group)
        if ticket.error is not None:
            raise type(ticket.error)(str(ticket.error)) from ticket.error

    def _commit(self, group: list[_Ticket]) -> None:
        """Write all tickets down, or tell each what kept it from that. The pen is held."""
        error: LogUnavailable | None = LogUnavailable(f"could not append to the log {self.path}: it was interrupted")
        try:
            try:
                self._write(group)
            except LogFull:
                self._make_room()
                self._write(group)
            error = None
        except LogUnavailable as refused:
            error = refused
        finally:
            self._error = str(error) if error else None
            for ticket in group:
                ticket.error, ticket.done = error, True
        if self._limited and time.monotonic() - self._trimmed_at > TRIM_EVERY:
            with suppress(LogUnavailable):  # what is too old goes later, then
                self._trim_some()

    def _write(self, group: list[_Ticket]) -> None:
        start = time.perf_counter()
        blocks = [
            (topic, block)
            for topic in TOPICS
            for block in packed.joined([part for ticket in group for of, part in ticket.parts if of == topic])
        ]
        if (
            len(blocks) == 1
        ):  # a statement is a transaction: each one gives the interpreter's lock away and waits to get it back
            with self._guarded("append to"):
                _insert(self._pen_connection(), *blocks[0])
        else:
            with self._transaction("append to") as connection:
                for topic, block in blocks:
                    _insert(connection, topic, block)
                failpoint("log.written")
        self._written += sum(len(block.body) for _, block in blocks)
        self._written += 8_192
        self._commit_seconds = time.perf_counter() - start
        failpoint("log.committed")
        if self._written > CHECKPOINT_BYTES:
            self._ask_for_checkpoint()

    def _make_room(self) -> None:
        """Begin the journal anew and remove what may go. The pen is held."""
        with suppress(LogUnavailable), self._guarded("make room in"):
            self._pen_connection().execute("pragma wal_checkpoint(truncate)").fetchall()
        with suppress(LogUnavailable):
            self._trim_some()

    # ------------------------------------------------------------------ reading

    def read(self, topic: Topic, after: int, limit: int) -> list[Record]:
        found: list[Record] = []
        with self._reader() as connection:
            rows = connection.execute(
                f"select last, count, body from {_table(topic)} where last > ? and count > 0 order by last", (after,)
            )
            try:
                for last, count, body in rows:
                    found += self._decoded(topic, last, count, body, after)
                    if len(found) >= limit:
                        break
            finally:
                rows.close()
        return found[:limit]

    def end(self, topic: Topic) -> int:
        with self._reader() as connection:
            return _end(connection, topic)

    # ------------------------------------------------------------------ readers and what may go

    def place(self, topic: Topic, offset: int) -> str:
        return ""

    def follow(self, topic: Topic, offset: int, place: str) -> None:
        pass

    def acknowledge(self, reader: str, topic: Topic, offset: int) -> None:
        """Is not synced by itself: after a loss of power an older position may stand here, which only keeps more."""
        _table(topic)
        with self._pen, self._transaction("note a reader in", synced=False) as connection:
            connection.execute("insert or replace into readers values (?, ?, ?)", (reader, topic, offset))
            self._written += 8_192

    def dismiss(self, reader: str) -> None:
        with self._pen, self._transaction("note a reader in") as connection:
            connection.execute("delete from readers where reader = ?", (reader,))

    def trim(self) -> int:
        with self._pen:
            return self._trim_some(steps=None)

    @property
    def _limited(self) -> bool:
        return self._max_age is not None or self._max_bytes is not None

    def _trim_some(self, steps: int | None = 4) -> int:
        """Trim in transactions of TRIM_BYTES, at most `steps` of them; how many records went. The pen is held."""
        self._trimmed_at = time.monotonic()
        removed = 0
        while self._limited and steps != 0:
            with self._transaction("trim") as connection:
                step = sum(self._trim_topic(connection, topic) for topic in TOPICS)
                failpoint("log.trimmed")
            removed += step
            if not step:
                break
            self._ask_for_checkpoint()
            steps = None if steps is None else steps - 1
        return removed

    def _trim_topic(self, connection: sqlite3.Connection, topic: Topic) -> int:
        position = connection.execute("select min(position) from readers where topic = ?", (topic,)).fetchone()[0]
        if position is None:
            return 0
        too_old = int((self._clock.now() - self._max_age).timestamp() * 1_000_000) if self._max_age else None
        surplus = 0
        if self._max_bytes is not None:
            surplus = sizes(connection).used - int(self._max_bytes * 0.9)
        records = size = doomed = 0
        rows = connection.execute(
            f"select last, count, newest_at, length(body) from {topic} where last <= ? and count > 0 order by last",
            (position,),
        )
        for last, count, newest_at, length in rows:
            if size > TRIM_BYTES or not ((too_old is not None and newest_at < too_old) or size < surplus):
                break
            records, size, doomed = records + count, size + length, last
        rows.close()
        if doomed:
            connection.execute(f"delete from {topic} where last < ?", (doomed,))
            # the newest row stays, empty, so that offsets are never given again
            connection.execute(f"update {topic} set count = 0, body = x'' where last = ?", (doomed,))
            connection.execute(
                f"insert or replace into doubtful select ?, coalesce(max(last), 0) from "
                f"(select last from {topic} order by last limit {NEIGHBOURS})",
                (topic,),
            )
        return records

    # ------------------------------------------------------------------ removing

    def remove(
        self,
        topic: Topic,
        gone: Callable[[Record], bool],
        *,
        holding: Sequence[bytes] = (),
        offsets: Collection[int] | None = None,
    ) -> int:
        removed = 0
        for rows in self._candidates(topic, holding) if offsets is None else self._rows_of(topic, offsets):
            removed += self._overwrite(topic, rows, gone, holding, offsets)
        self._erase()
        self._search(topic, holding)
        return removed

    def _candidates(self, topic: Topic, holding: Sequence[bytes]) -> Iterator[list[int]]:
        """The rows that may hold such a record, a few at a time."""
        after = 0
        while True:
            with self._reader() as connection:
                found = connection.execute(
                    f"select last from {_table(topic)} where last > ? and count > 0 order by last limit {_AT_ONCE}",
                    (after,),
                ).fetchall()
                rows = [
                    last
                    for (last,) in found
                    if not holding or _any_in(connection.execute(_BODY.format(topic), (last,)).fetchone(), holding)
                ]
            if not found:
                return
            after = found[-1][0]
            if rows:
                yield rows

    def _rows_of(self, topic: Topic, offsets: Collection[int]) -> Iterator[list[int]]:
        """The rows that hold these offsets, a few at a time."""
        sql = f"select last, last - count from {_table(topic)} where last >= ? order by last limit 1"
        with self._reader() as connection:
            found = [(offset, connection.execute(sql, (offset,)).fetchone()) for offset in sorted(offsets)]
        rows = sorted({row[0] for offset, row in found if row is not None and offset > row[1]})
        for start in range(0, len(rows), _AT_ONCE):
            yield rows[start : start + _AT_ONCE]

    def _search(self, topic: Topic, holding: Sequence[bytes]) -> None:
        """Where copies of removed records may stand in the slack of pages: look, and write the file anew if so."""
        with self._reader() as connection:
            due = connection.execute("select count(*) from unsearched where topic = ?", (topic,)).fetchone()[0]
        if not due:
            return
        if not holding or anywhere(self.path, holding):
            with self._pen, self._guarded("write anew"):
                self._pen_connection().execute("vacuum")
                with self._transaction("write anew") as connection:
                    connection.execute("delete from doubtful")
            self._erase()
        with self._pen, self._transaction("remove records from") as connection:
            connection.execute("delete from unsearched where topic = ?", (topic,))

    def _overwrite(
        self,
        topic: Topic,
        rows: Sequence[int],
        gone: Callable[[Record], bool],
        holding: Sequence[bytes],
        offsets: Collection[int] | None,
    ) -> int:
        """Blank the records in place; how many they were."""
        removed = 0

        def goes(record: Record) -> bool:
            return (offsets is None or record.offset in offsets) and gone(record)

        with self._pen, self._transaction("remove records from") as connection:
            found = connection.execute("select below from doubtful where topic = ?", (topic,)).fetchone()
            for last in rows:
                row = connection.execute(f"select count, body from {topic} where last = ?", (last,)).fetchone()
                if row is None or not row[0]:  # trimmed meanwhile
                    continue
                try:
                    body, count = packed.without(topic, last - row[0] + 1, row[1], goes, holding)
                except packed.Damaged as error:
                    raise self._damaged(topic, last, row[0], error) from error
                if count:
                    with connection.blobopen(topic, "body", last) as blob:
                        blob.write(body)
                    removed += count
                    self._written += len(body)
                    if found is not None and last <= found[0]:
                        connection.execute("insert or ignore into unsearched values (?)", (topic,))
            failpoint("log.removed")
        return removed

    def _erase(self) -> None:
        """Bring the journal into the file and cut it to nothing."""
        failpoint("log.erased")
        until = time.monotonic() + self._wait
        while True:
            with self._pen, self._guarded("erase removed records from"):
                busy = self._pen_connection().execute("pragma wal_checkpoint(truncate)").fetchone()[0]
            if not busy:
                return
            if time.monotonic() > until:
                break
            time.sleep(0.01)  # somebody else brings the journal into the file, for which SQLite does not wait
        raise LogUnavailable(
            f"the records are removed from the log {self.path}, but its journal, where their bytes still stand, is being "
            f"read by somebody (waited {self._wait:.0f} s). Run this again"
        )

    # ------------------------------------------------------------------ facts

    def remains(self) -> str:
        return ""

    def facts(self) -> LogFacts:
        with self._reader() as connection:
            topics: dict[Topic, TopicFacts] = {}
            for topic in TOPICS:
                oldest = connection.execute(
                    f"select oldest_at from {topic} where count > 0 order by last limit 1"
                ).fetchone()
                newest = connection.execute(
                    f"select newest_at from {topic} where count > 0 order by last desc limit 1"
                ).fetchone()
                topics[topic] = TopicFacts(
                    _end(connection, topic), oldest[0] if oldest else None, newest[0] if newest else None
                )
            unread: dict[str, dict[Topic, int]] = {}
            for reader, topic, position in connection.execute("select reader, topic, position from readers"):
                unread.setdefault(reader, {})[topic] = max(0, topics[topic].end - position)
        stat = os.statvfs(self.path.parent)
        size = sum(
            path.stat().st_size for path in (self.path, self.path.with_name(self.path.name + "-wal")) if path.exists()
        )
        return LogFacts(
            place=str(self.path),
            size_bytes=size,
            limit_bytes=self._max_bytes,
            free_bytes=stat.f_bavail * stat.f_frsize,
            topics=topics,
            unread=unread,
            last_commit_seconds=self._commit_seconds,
            last_error=self._error,
        )

    # ------------------------------------------------------------------ the journal

    def _ask_for_checkpoint(self) -> None:
        self._written = 0
        if self._checkpointer is None:
            self._checkpointer = threading.Thread(target=self._checkpoint, name="log-checkpoint", daemon=True)
            self._checkpointer.start()
        self._due.set()

    def _checkpoint(self) -> None:
        """Bring the journal into the file, beside the writer; then the rest with the pen in hand, so that it starts anew.

        A failure (a full disk) loses nothing: the journal stays whole, and the next append says what is wrong.
        """
        while True:
            self._due.wait()
            self._due.clear()
            if self._closed:
                return
            with suppress(LogUnavailable):
                with self._reader() as connection:
                    connection.execute("pragma wal_checkpoint(passive)").fetchall()
                failpoint("log.checkpointed")
                with self._pen, self._guarded("bring the journal into"):
                    self._pen_connection().execute("pragma wal_checkpoint(passive)").fetchall()

    # ------------------------------------------------------------------ connections

    def close(self) -> None:
        self._closed = True
        self._due.set()
        if self._checkpointer is not None and self._checkpointer is not threading.current_thread():
            self._checkpointer.join()
        with self._pen:
            self._drop_writer()
        while True:
            try:
                self._readers.get_nowait().close()
            except queue.Empty:
                return

    def __enter__(self) -> "SqliteLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _transaction(self, doing: str, *, synced: bool = True) -> Iterator[sqlite3.Connection]:
        """All statements inside, durable at the end, or none. The pen is held."""
        with self._guarded(doing):
            connection = self._pen_connection()
            if not synced:
                connection.execute("pragma synchronous=normal")
            try:
                connection.execute("begin immediate")
                try:
                    yield connection
                    connection.execute("commit")
                except BaseException:
                    if connection.in_transaction:
                        connection.execute("rollback")
                    raise
            finally:
                if not synced:
                    connection.execute("pragma synchronous=full")

    @contextmanager
    def _guarded(self, doing: str) -> Iterator[None]:
        """Errors of SQLite on the writing connection become ours, and the connection is made anew after them."""
        try:
            yield
        except sqlite3.Error as error:
            self._drop_writer()
            raise explained(self.path, error, doing, self._wait, self._max_bytes) from error

    def _pen_connection(self) -> sqlite3.Connection:
        if self._writer is None:
            self._writer = self._connect(self._max_bytes)
        return self._writer

    def _drop_writer(self) -> None:
        if self._writer is not None:
            with suppress(sqlite3.Error):
                self._writer.close()
            self._writer = None

    @contextmanager
    def _reader(self) -> Iterator[sqlite3.Connection]:
        """A connection of its own for one read; given back afterwards for the next."""
        try:
            try:
                connection = self._readers.get_nowait()
            except queue.Empty:
                connection = self._connect(None)
            try:
                yield connection
            except BaseException:
                connection.close()
                raise
            self._readers.put(connection)
        except sqlite3.Error as error:
            raise explained(self.path, error, "read", self._wait, self._max_bytes) from error

    def _connect(self, max_bytes: int | None) -> sqlite3.Connection:
        if self._closed:
            raise LogUnavailable(f"the log {self.path} is closed, an open one was expected. Make a new one")
        return opened(self.path, self._wait, max_bytes)

    def _decoded(self, topic: Topic, last: int, count: int, body: bytes, after: int) -> list[Record]:
        try:
            return packed.records(topic, last - count + 1, body, after)
        except packed.Damaged as error:
            raise self._damaged(topic, last, count, error) from error

    def _damaged(self, topic: Topic, last: int, count: int, error: packed.Damaged) -> LogUnavailable:
        return LogUnavailable(
            f"the log {self.path} is damaged: {topic} {last - count + 1} to {last} are not what was written ({error}). "
            "Put the file back from a copy; what was read before is in the warehouse"
        )


_AT_ONCE = 64
"""Rows that one transaction of a removal looks at."""
_BODY = "select body from {} where last = ?"


def _insert(connection: sqlite3.Connection, topic: Topic, block: packed.Part) -> None:
    """The block after the end of its topic."""
    connection.execute(
        f"insert into {topic} select coalesce(max(last), 0) + ?1, ?1, ?2, ?3, ?4 from {topic}",
        (block.count, block.oldest_at, block.newest_at, block.body),
    )


def _any_in(row: tuple[bytes] | None, needles: Sequence[bytes]) -> bool:
    return row is not None and any(needle in row[0] for needle in needles)


def _end(connection: sqlite3.Connection, topic: Topic) -> int:
    return connection.execute(f"select coalesce(max(last), 0) from {_table(topic)}").fetchone()[0]


def _table(topic: Topic) -> str:
    if topic not in TOPICS:
        raise ValueError(f"there is no topic {topic!r}; the topics are {', '.join(TOPICS)}")
    return topic
