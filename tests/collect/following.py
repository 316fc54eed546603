"""A project that follows a database in a process of its own, and what the log says of the rows."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from headwater.collect.databases.state import Note, Place
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Record
from headwater.testing.postgres import Server

MASK_KEY = "a long random text for tests"
HEARTBEAT = """
create table headwater_heartbeat (id integer primary key, beat_at timestamptz);
insert into headwater_heartbeat values (1, now());
"""


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := true():
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {seconds} s in vain: {what}")


@dataclass
class Following:
    """A project in `folder` that follows the database `name` of a server."""

    folder: Path
    server: Server
    name: str
    settings: str
    process: subprocess.Popen[bytes] | None = None
    environment: dict[str, str] = field(default_factory=dict)
    read: dict[str, list[Record]] = field(default_factory=dict)
    told: list[dict[str, Any]] = field(default_factory=list)
    landed: "Landed" = field(default_factory=lambda: Landed())  # noqa: PLW0108 (it stands below)

    def __post_init__(self) -> None:
        with psycopg.connect(self.server.url, autocommit=True) as root:
            root.execute(f"create database {self.name}".encode())
        self.shop = psycopg.connect(self.server.address(self.name), autocommit=True)
        self.folder.mkdir()
        (self.folder / "headwater.yml").write_text(self.settings, encoding="utf-8")
        self.environment = {
            **os.environ,
            "SHOP_URL": self.server.address(self.name),
            "HEADWATER_MASK_KEY": MASK_KEY,
            "JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1",  # starts sooner, which is most of what tests do
        }

    @property
    def place(self) -> Place:
        return Place(self.folder, "shop")

    def note(self) -> Note:
        return self.place.note() or Note("shop")

    def command(self, *words: str) -> "subprocess.CompletedProcess[str]":
        """A command line in the project."""
        return subprocess.run(
            [sys.executable, "-m", "headwater", *words],
            cwd=self.folder, env=self.environment, text=True, capture_output=True, check=False,
        )  # fmt: skip

    def prepare(self) -> None:
        """Let the setup make what is missing."""
        done = self.command("cdc", "setup", "--apply")
        assert done.returncode == 0, done.stdout + done.stderr

    def start(self, **more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "headwater", "changes", "shop"],
            cwd=self.folder, env={**self.environment, **more}, stderr=subprocess.PIPE,
        )  # fmt: skip

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self._ended()

    def stop(self) -> int:
        """As `up` would; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self._ended()

    def ended(self) -> tuple[int, str]:
        """Wait until it has ended by itself; exit code and last words."""
        assert self.process is not None and self.process.stderr is not None
        words = self.process.stderr.read().decode()
        return self._ended(), words

    def _ended(self) -> int:
        assert self.process is not None
        code = self.process.wait(60)
        if self.process.stderr is not None:
            self.process.stderr.close()
        self.process = None
        return code

    def close(self) -> None:
        if self.process is not None:
            self.kill()
        self.shop.close()
        with psycopg.connect(self.server.url, autocommit=True) as root:
            for (slot,) in root.execute(
                "select slot_name from pg_replication_slots where database = %s", [self.name]
            ).fetchall():
                until(
                    lambda slot=slot: root.execute(
                        "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = %s and not active",
                        [slot],
                    ).fetchall(),
                    "the slot is free",
                )

    # ------------------------------------------------------------------ what the log says

    def records(self, topic: Any = "changes") -> list[Record]:
        """All records of a topic so far."""
        path = self.folder / "warehouse" / "log.sqlite"
        known = self.read.setdefault(topic, [])
        if path.exists():
            log = SqliteLog(path)
            try:
                new = log.read(topic, known[-1].offset if known else 0, 10_000_000)
            finally:
                log.close()
            known += new
            if topic == "changes":
                self.told += [json.loads(record.payload) for record in new]
        return known

    def changes(self, table: str | None = None) -> list[dict[str, Any]]:
        """All changes of a table, or of all, in the order of the log."""
        self.records()
        return [one for one in self.told if one["kind"] == "change" and table in (None, one["table"])]

    def finished(self) -> int:
        """How many snapshots have finished."""
        self.records()
        return sum(one.get("state") == "finished" for one in self.told)

    def rows(self, table: str) -> dict[str, dict[str, Any]]:
        """The rows as they are after all that the log says, by key."""
        self.records()
        while self.landed.taken < len(self.told):
            self.landed.take(self.told[self.landed.taken])
            self.landed.taken += 1
        return self.landed[table]


class Landed(dict[str, dict[str, dict[str, Any]]]):
    """table -> key -> row, as landing makes them: per key the greatest position counts, and a finished snapshot removes
    what it did not see."""

    def __init__(self) -> None:
        super().__init__()
        self.at: dict[tuple[str, str], int] = {}
        self.seen: dict[str, set[tuple[str, str]]] = {}
        self.taken = 0

    def take(self, told: dict[str, Any]) -> None:
        if told["kind"] == "snapshot":
            if told["state"] == "started":
                self.seen[told["id"]] = set()
                return
            for table, key in [at for at, lsn in self.at.items() if at[0] in told["tables"] and lsn < told["lsn"]]:
                if (table, key) not in self.seen[told["id"]]:
                    self[table].pop(key, None)
            return
        if told["kind"] == "schema":
            self.setdefault(told["table"], {})
            return
        table, key = told["table"], json.dumps(told["key"], sort_keys=True)
        rows = self.setdefault(table, {})
        if told["op"] == "t":
            for one in list(rows):
                if self.at[table, one] < told["lsn"]:
                    del rows[one]
            return
        if "snapshot" in told:
            self.seen[told["snapshot"]].add((table, key))
        if told["lsn"] <= self.at.get((table, key), -1):
            return
        self.at[table, key] = told["lsn"]
        before = rows.pop(key, {})
        if told["op"] != "d":
            rows[key] = {**told["row"], **{name: before.get(name) for name in told.get("unavailable", [])}}


def found_in(folder: Path, *texts: str) -> list[str]:
    """Files below a folder that hold one of the texts, in any case."""
    wanted = [text.lower().encode() for text in texts]
    return [
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and any(text in path.read_bytes().lower() for text in wanted)
    ]
