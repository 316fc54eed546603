"""Both logs keep the contract: the conformance kit that users run against theirs."""

from pathlib import Path

import pytest

from headwater.errors import LogFull
from headwater.log.base import Log
from headwater.log.memory import MemoryLog
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.testing import log_checks


class MemoryBench(log_checks.LogBench):
    trials = frozenset({"trim", "remove", "full", "whole"})

    def open(self) -> Log:
        return MemoryLog(max_bytes=30_000_000, max_age=log_checks.MAX_AGE, clock=self.clock)

    def fill(self, log: Log) -> None:
        filled(log)

    def free(self, log: Log) -> None:
        log.acknowledge("engine", "events", log.end("events"))


class SqliteBench(log_checks.LogBench):
    trials = frozenset({"restart", "trim", "remove", "full", "whole"})

    def open(self) -> Log:
        return SqliteLog(
            self.folder / "warehouse" / "log.sqlite",
            max_bytes=45_000_000,
            max_age=log_checks.MAX_AGE,
            clock=self.clock,
        )

    def fill(self, log: Log) -> None:
        filled(log)

    def free(self, log: Log) -> None:
        log.acknowledge("engine", "events", log.end("events"))


def filled(log: Log) -> None:
    """Append until it is refused."""
    block = [Entry("events", "shop", "u", f"f{n}", 1, b'{"a": "' + b"x" * 45_000 + b'"}') for n in range(2)]
    with pytest.raises(LogFull):
        for _ in range(2_000):
            log.append(block)


@pytest.mark.parametrize("check", log_checks.of(MemoryBench), ids=lambda check: check.__name__)
def test_the_log_in_memory_keeps_the_contract(check: log_checks.Check, tmp_path: Path) -> None:
    check(MemoryBench(tmp_path))


@pytest.mark.parametrize("check", log_checks.of(SqliteBench), ids=lambda check: check.__name__)
def test_the_log_in_sqlite_keeps_the_contract(check: log_checks.Check, tmp_path: Path) -> None:
    check(SqliteBench(tmp_path))


def test_the_log_in_memory_lacks_only_the_restart() -> None:
    assert log_checks.missing(MemoryBench) == ["a_restart_keeps_everything"]
    assert log_checks.missing(SqliteBench) == []
