"""Changes of a database: a real Postgres, a real Debezium in a process of its own, the rows masked, durable in the log."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

from benchmarks.row import Measured, children_peak_mb
from headwater.collect.databases.state import Note, Place
from headwater.log.sqlite import SqliteLog
from headwater.testing.postgres import Server, server

SMALL, LARGE = 200_000, 1_000_000
SNAPSHOT_RATE, STREAM_RATE = 40_000, 25_000
WAIT_SECONDS = 600.0
CONFIG = """
collect:
  databases:
    - {name: shop, url_env: BENCH_DATABASE, heap_mb: 512, tables: {customers: {mask: {email: hash}}}}
"""
TABLE = """
create table customers (
    customerid int primary key, customername varchar(255) not null, email varchar(255) not null, segment varchar(50) not null,
    shipping_address_id varchar(255) not null, billing_address_id varchar(255) not null
);
"""
ROWS = (
    "insert into customers select i, 'Customer ' || i, 'c' || i || '@customers.example', 'Regular', 'A' || i %% 80,"
    " 'A' || i %% 77 from generate_series(1, %s) as i"
)


def snapshot(work: Path) -> Measured:
    """All rows of a table, from the first word of the snapshot to its last."""
    return _snapshot(work / "snapshot", SMALL)


def snapshot_1m(work: Path) -> Measured:
    """A million of them."""
    return _snapshot(work / "snapshot_1m", LARGE)


def stream(work: Path) -> Measured:
    """A backlog of updates, from the first that is in the log to the last."""
    return _stream(work / "stream", SMALL)


def stream_1m(work: Path) -> Measured:
    """A million of them."""
    return _stream(work / "stream_1m", LARGE)


def _snapshot(work: Path, rows: int) -> Measured:
    with _shop(work) as shop:
        shop.run(ROWS.encode(), rows)
        with shop.following():
            shop.wait(lambda note: note.phase == "streaming")
        moments = {one["state"]: at for one, at in shop.log() if one["kind"] == "snapshot"}
        changes = sum(one["kind"] == "change" for one, _ in shop.log())
    assert changes == rows, f"{changes:,} of {rows:,} rows are in the log"
    return _measured(rows, (moments["finished"] - moments["started"]) / 1e6, SNAPSHOT_RATE, "rows")


def _stream(work: Path, rows: int) -> Measured:
    with _shop(work) as shop:
        with shop.following():  # of an empty table, so that what follows is a backlog
            shop.wait(lambda note: note.phase == "streaming")
        shop.run(ROWS.encode(), rows // 2)
        shop.run(b"update customers set segment = 'Premium'")
        with shop.following():
            shop.wait(lambda note: note.changes >= rows)
        moments = [at for one, at in shop.log() if one["kind"] == "change"]
    assert len(moments) == rows, f"{len(moments):,} of {rows:,} changes are in the log"
    return _measured(rows, (max(moments) - min(moments)) / 1e6, STREAM_RATE, "changes")


def _measured(count: int, took: float, rate: int, what: str) -> Measured:
    bound = count / rate
    return Measured(f"{count:,} {what}, {count / took:,.0f}/s", took, children_peak_mb(), bound, took <= bound)


@dataclass
class _Shop:
    folder: Path
    database: Server

    def run(self, sql: bytes, *values: object) -> None:
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            connection.execute(sql, values or None)

    @contextmanager
    def following(self) -> Iterator[None]:
        """The process that follows it; ended in good order."""
        environment = {**os.environ, "BENCH_DATABASE": self.database.url, "HEADWATER_MASK_KEY": "a key of the bench"}
        command = [sys.executable, "-m", "headwater", "changes", "shop", "--project", str(self.folder)]
        process = subprocess.Popen(command, env=environment)
        self.pid = process.pid
        try:
            yield
        finally:
            process.terminate()
            assert process.wait(60) == 0, "the process that follows the database failed"

    def wait(self, true: Callable[[Note], bool]) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < until:
            note = Place(self.folder, "shop").note()
            if note is not None and note.pid == self.pid and true(note):
                return
            time.sleep(0.1)
        raise AssertionError(f"waited {WAIT_SECONDS:.0f} s in vain")

    def log(self) -> Iterator[tuple[dict[str, object], int]]:
        """What is in the log, and when it came (microseconds)."""
        log, after = SqliteLog(self.folder / "warehouse" / "log.sqlite"), 0
        try:
            while records := log.read("changes", after, 50_000):
                after = records[-1].offset
                for record in records:
                    yield json.loads(record.payload), record.received_at
        finally:
            log.close()


@contextmanager
def _shop(work: Path) -> Iterator[_Shop]:
    folder = work / "shop"
    folder.mkdir(parents=True)
    (folder / "headwater.yml").write_text(CONFIG, encoding="utf-8")
    with server(work / "postgres", settings={"max_slot_wal_keep_size": "4GB", "max_wal_size": "4GB"}) as running:
        shop = _Shop(folder, running)
        shop.run(TABLE.encode())
        environment = {**os.environ, "BENCH_DATABASE": running.url, "HEADWATER_MASK_KEY": "a key of the bench"}
        command = [sys.executable, "-m", "headwater", "cdc", "setup", "--apply", "--project", str(folder)]
        subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL)
        yield shop
