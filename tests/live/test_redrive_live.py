"""Rejected events are sent through again: in their first order, once, and only those that pass now."""

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater.clock import FixedClock
from headwater.errors import UsageError
from headwater.live.landing import Landing
from headwater.live.redrive import redrive
from headwater.log.memory import MemoryLog
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.warehouse import Warehouse

NOW = datetime(2026, 6, 30, tzinfo=UTC)
CLOCK = FixedClock(NOW)


@dataclass
class Reason:
    code: str


@dataclass
class Verdict:
    entries: list[Entry] = field(default_factory=list)
    reasons: list[Reason] = field(default_factory=list)


def check(source: str, raw: bytes | None, arrival: Any, received_at: datetime) -> Verdict:
    """Stands for the collector's: bytes that are JSON pass, other ones are rejected as before."""
    try:
        call = json.loads(raw or b"")
    except ValueError:
        return Verdict(reasons=[Reason("bad_json")])
    at = int(received_at.replace(tzinfo=UTC).timestamp() * 1_000_000)
    return Verdict([Entry("events", source, "", call["messageId"], at, raw or b"")])


def call(name: str) -> bytes:
    return json.dumps(
        {"type": "track", "messageId": name, "userId": "C1", "event": name, "timestamp": "2026-06-30T00:00:00Z"}
    ).encode()


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "shop.duckdb") as opened:
        for number, (raw, minute, reason) in enumerate(
            [
                (call("late"), 5, "no_event"),
                (b"{", 1, "bad_json"),
                (call("early"), 0, "no_event"),
                (call("other"), 9, "too_large"),
            ]
        ):
            opened.execute(
                "insert into headwater.rejected_events (rejected_id, source, received_at, reason, raw, position) values (?, 'web', ?, ?, ?, ?)",
                [f"rejected-{number}", datetime.fromisoformat(f"2026-06-30T00:0{minute}:00"), reason, raw, number],
            )
        yield opened


def names(log: MemoryLog) -> list[str]:
    return [record.message_id for record in log.read("events", 0, 100)]


def test_what_passes_goes_to_the_log_in_its_first_order_and_is_marked(warehouse: Warehouse) -> None:
    log = MemoryLog()
    done = redrive(warehouse, log, check, CLOCK, where="reason in ('no_event', 'bad_json')")
    assert (done.looked, done.passed, done.entries, done.still) == (3, 2, 2, {"bad_json": 1})
    assert names(log) == ["early", "late"]
    marked = warehouse.execute(
        "select rejected_id from headwater.rejected_events where redriven_at is not null order by all"
    ).fetchall()
    assert marked == [("rejected-0",), ("rejected-2",)]


def test_a_second_redrive_sends_nothing_again(warehouse: Warehouse) -> None:
    log = MemoryLog()
    redrive(warehouse, log, check, CLOCK)
    again = redrive(warehouse, log, check, CLOCK)
    assert (again.passed, again.still) == (0, {"bad_json": 1})
    assert names(log) == ["early", "late", "other"]


def test_a_call_that_was_landed_meanwhile_is_not_sent_again(warehouse: Warehouse) -> None:
    log = MemoryLog()
    log.append([Entry("events", "web", "", "early", 0, call("early"))])
    Landing(warehouse).land(log.read("events", 0, 1), NOW.replace(tzinfo=None))
    done = redrive(warehouse, log, check, CLOCK)
    assert (done.passed, done.entries, done.known) == (3, 2, 1)
    assert names(log) == ["early", "late", "other"]


def test_a_dry_run_only_says_what_would_pass(warehouse: Warehouse) -> None:
    log = MemoryLog()
    done = redrive(warehouse, log, check, CLOCK, dry_run=True)
    assert (done.passed, done.passing, done.failing) == (3, ("rejected-2", "rejected-0", "rejected-3"), ("rejected-1",))
    assert names(log) == []
    assert warehouse.value("select count(*) from headwater.rejected_events where redriven_at is not null") == 0


@pytest.mark.parametrize(
    "where", ["reason =", "true; drop table headwater.clock", "true order by 1", "true union select 1"]
)
def test_what_is_no_condition_is_refused(warehouse: Warehouse, where: str) -> None:
    with pytest.raises(UsageError, match=r"which is no condition on headwater\.rejected_events"):
        redrive(warehouse, MemoryLog(), check, CLOCK, where=where)
    assert warehouse.exists("headwater.clock")


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_redrive_live import CLOCK, check
from headwater.live.redrive import redrive
from headwater.log.sqlite import SqliteLog
from headwater.warehouse import Warehouse
redrive(Warehouse(Path(sys.argv[1])), SqliteLog(Path(sys.argv[1]).with_name("log.sqlite")), check, CLOCK)
"""


def test_a_kill_between_appending_and_marking_doubles_nothing(warehouse: Warehouse) -> None:
    from headwater.log.sqlite import SqliteLog

    warehouse.close()
    command = [sys.executable, "-c", KILLED, str(warehouse.path), str(Path(__file__).parent)]
    killed = subprocess.run(
        command, env={"HEADWATER_FAILPOINT": "live.redriven", "PATH": ""}, check=False, capture_output=True
    )
    assert killed.returncode == 137, killed.stderr
    log = SqliteLog(warehouse.path.with_name("log.sqlite"))
    redrive(warehouse, log, check, CLOCK)
    done = Landing(warehouse).land(log.read("events", 0, 100), NOW.replace(tzinfo=None))
    log.close()
    assert (done.events, done.repeats) == (3, 3)


def test_the_command_counts_what_can_only_be_sent_anew(tmp_path: Path) -> None:
    (tmp_path / "headwater.yml").write_text("warehouse: {path: warehouse/shop.duckdb}\n", encoding="utf-8")
    kept = {"endpoint": "database", "kept": "nothing", "masked": True}
    with Stack(tmp_path, clock=CLOCK) as stack:
        stack.warehouse.execute(
            "insert into headwater.rejected_events (rejected_id, source, received_at, reason, arrival, position)"
            " select 'rejected-' || i, 'retail', timestamp '2026-06-30', 'bad_change', ?, i from range(3) as t(i)",
            [json.dumps(kept)],
        )
        result = stack.redrive(None, dry_run=False)
    assert result.message == ("3 rejected events looked at, 0 are in the log again, 3 cannot be sent through again")
    assert result.details["beyond_cure"] == 3
    assert result.warnings == (
        "3 cannot be sent through again: they are rows of a database: mend what was wrong there or under `tables`, then "
        "`headwater cdc resnapshot` reads the rows again, or whoever writes the topics does (of a masked table only digest and"
        " length were kept)"
        " (row_not_kept)",
    )
