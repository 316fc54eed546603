"""The warehouse file is written anew and published without a row lost, and a reader never sees half of it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.live import storage
from headwater.warehouse import Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    """A file of which most was deleted, with a view that names its database."""
    with Warehouse(tmp_path / "shop.duckdb") as opened:
        opened.execute("create table main.numbers as select i, hash(i) as h from range(400000) as r(i)")
        opened.execute("create view main.small as select i from shop.main.numbers where i < 10")
        opened.execute("checkpoint")
        opened.execute("delete from main.numbers where i >= 1000")
        opened.execute("checkpoint")
        yield opened


def test_a_file_that_is_mostly_free_is_worth_writing_anew_once_it_is_large(warehouse: Warehouse) -> None:
    found = storage.size(warehouse)
    assert found.free > storage.FREE_SHARE * found.total
    assert not found.worth_rewriting
    assert storage.Size(storage.SMALLEST, storage.SMALLEST // 2).worth_rewriting
    assert not storage.Size(storage.SMALLEST, storage.SMALLEST // 3).worth_rewriting


def test_the_new_file_is_smaller_and_holds_the_same(warehouse: Warehouse) -> None:
    before = storage.size(warehouse).total
    assert storage.compact(warehouse) < before
    assert warehouse.execute("select count(*), (select count(*) from small) from numbers").fetchone() == (1000, 10)


def test_a_snapshot_is_read_by_others_while_the_warehouse_is_open_and_changes(warehouse: Warehouse) -> None:
    place = storage.publish(warehouse)
    assert place == warehouse.path.parent / "published" / "shop.duckdb"
    warehouse.execute("delete from numbers")
    read = (
        "import duckdb, sys; c = duckdb.connect(sys.argv[1], read_only=True);"
        "print(c.execute('select count(*), (select count(*) from small) from numbers').fetchone())"
    )
    said = subprocess.run([sys.executable, "-c", read, str(place)], capture_output=True, text=True, check=True).stdout
    assert said.strip() == "(1000, 10)"
    storage.publish(warehouse)
    with Warehouse(place, read_only=True) as reader:
        assert reader.value("select count(*) from numbers") == 0


CHILD = """
import sys
from pathlib import Path
from headwater.live import storage
from headwater.warehouse import Warehouse
warehouse = Warehouse(Path(sys.argv[1]))
storage.compact(warehouse)
storage.publish(warehouse)
"""


@pytest.mark.parametrize("point", ["live.compacting", "live.compacted", "live.published"])
def test_a_kill_leaves_a_whole_file_and_the_next_try_succeeds(warehouse: Warehouse, point: str) -> None:
    warehouse.close()
    command = [sys.executable, "-c", CHILD, str(warehouse.path)]
    for name, code in ((point, 137), ("", 0)):
        done = subprocess.run(
            command, env={**os.environ, "HEADWATER_FAILPOINT": name}, capture_output=True, check=False
        )
        assert done.returncode == code, done.stderr
        assert warehouse.value("select count(*) from numbers") == 1000
        warehouse.close()
    with Warehouse(warehouse.path.parent / "published" / "shop.duckdb", read_only=True) as reader:
        assert reader.value("select count(*) from small") == 10
