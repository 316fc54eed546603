"""The warehouse connection: ledgers present, transactions whole, rehearsals undone, one writer at a time."""

import subprocess
import sys
from pathlib import Path

import duckdb
import numpy as np
import pytest

from headwater.errors import Busy, DataError
from headwater.warehouse import Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Warehouse:
    return Warehouse(tmp_path / "shop.duckdb")


def test_ledgers_exist_and_opening_twice_changes_nothing(warehouse: Warehouse) -> None:
    warehouse.execute("insert into headwater.kill_switch values ('global', true, 'test', 'me', '2026-01-01')")
    warehouse.close()
    assert warehouse.exists("headwater.decision_log")
    assert warehouse.value("select count(*) from headwater.kill_switch") == 1


def test_ledgers_are_made_all_together_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with duckdb.connect(str(path)) as other:
        other.execute("create schema headwater; create view headwater.outcome_log as select 1 as one")
    with pytest.raises(duckdb.Error, match="ALTER"):
        Warehouse(path).execute("select 1")
    with duckdb.connect(str(path)) as other:
        assert other.execute("select table_name from information_schema.tables").fetchall() == [("outcome_log",)]
        other.execute("drop view headwater.outcome_log")
    with Warehouse(path) as warehouse:
        assert warehouse.exists("headwater.outbox")


def test_a_transaction_is_whole_or_nothing(warehouse: Warehouse) -> None:
    warehouse.execute("create table t (i integer)")
    with pytest.raises(ZeroDivisionError), warehouse.transaction():
        warehouse.execute("insert into t values (1)")
        raise ZeroDivisionError
    assert warehouse.value("select count(*) from t") == 0
    with warehouse.transaction(), warehouse.transaction():
        warehouse.execute("insert into t values (2)")
    assert warehouse.value("select count(*) from t") == 1


def test_a_failure_in_a_joined_transaction_undoes_the_outer_one(warehouse: Warehouse) -> None:
    warehouse.execute("create table t (i integer)")
    with pytest.raises(ZeroDivisionError), warehouse.transaction():
        warehouse.execute("insert into t values (1)")
        with warehouse.transaction():
            raise ZeroDivisionError
    assert warehouse.value("select count(*) from t") == 0


def test_a_rehearsal_can_be_read_inside_and_leaves_nothing(warehouse: Warehouse) -> None:
    warehouse.execute("create table t (i integer)")
    with warehouse.rehearsal():
        with warehouse.transaction():
            warehouse.execute("insert into t values (1)")
        assert warehouse.value("select count(*) from t") == 1
    assert warehouse.value("select count(*) from t") == 0


def test_a_rehearsal_inside_a_transaction_is_refused(warehouse: Warehouse) -> None:
    with (
        pytest.raises(RuntimeError, match="what came before it would be undone too"),
        warehouse.transaction(),
        warehouse.rehearsal(),
    ):
        pass


def test_numpy_columns_are_a_relation_while_inside(warehouse: Warehouse) -> None:
    with warehouse.relation("numbers", {"i": np.arange(3), "name": np.array(["a", "b", "c"], dtype=object)}):
        assert warehouse.rows("select name from numbers where i = 1") == [{"name": "b"}]
    with pytest.raises(Exception, match="numbers"):
        warehouse.execute("select * from numbers")


def test_another_process_with_the_file_is_named(warehouse: Warehouse) -> None:
    warehouse.execute("select 1")
    child = subprocess.run(
        [
            sys.executable,
            "-c",
            f"from headwater.warehouse import Warehouse; Warehouse({str(warehouse.path)!r}).execute('select 1')",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert Busy.__name__ in child.stderr
    assert "is open in another process" in child.stderr


def test_a_file_that_is_no_database_is_said(tmp_path: Path) -> None:
    (tmp_path / "shop.duckdb").write_text("not a database" * 1000)
    with pytest.raises(DataError, match="cannot be opened"):
        Warehouse(tmp_path / "shop.duckdb").execute("select 1")


def test_ledgers_that_could_not_be_committed_are_made_by_the_next_statement(tmp_path: Path) -> None:
    """A full disk, which only a process of its own may have."""
    program = """
import resource, signal, sys
import duckdb
from headwater.warehouse import Warehouse
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
duckdb.connect(sys.argv[1]).close()
warehouse = Warehouse(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100, resource.RLIM_INFINITY))
try:
    warehouse.execute("select 1")
except duckdb.Error as error:
    print("refused")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
print(warehouse.value("select count(*) from headwater.kill_switch"))
"""
    command = [sys.executable, "-c", program, str(tmp_path / "shop.duckdb")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["refused", "0"], done.stderr


def test_a_checkpoint_waits_for_another_time_while_somebody_writes(warehouse: Warehouse) -> None:
    warehouse.execute("create table t (i integer)")
    beside = warehouse.sibling()
    with beside.transaction():
        beside.execute("insert into t values (1)")
        warehouse.execute("create table other (i integer)")
        warehouse.checkpoint()
    beside.close()
    warehouse.checkpoint()
    assert warehouse.value("select wal_size from pragma_database_size()") == "0 bytes"
