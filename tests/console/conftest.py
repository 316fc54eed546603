"""Warehouses that the console's tests share: a full one, and one in which nothing was run yet."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from console_warehouse import fill

from headwater.warehouse.connection import Warehouse


@pytest.fixture(scope="session")
def full_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a full warehouse; open it read-only."""
    path = tmp_path_factory.mktemp("console") / "shop.duckdb"
    with Warehouse(path) as warehouse:
        fill(warehouse)
    return path


@pytest.fixture(scope="session")
def full(full_file: Path) -> Iterator[Warehouse]:
    """Every relation, with rows. Nobody writes to it."""
    with Warehouse(full_file, read_only=True) as warehouse:
        yield warehouse


@pytest.fixture(scope="session")
def hollow(full_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """Every relation, none with a row. Nobody writes to it."""
    with Warehouse(full_file, read_only=True) as source:
        shapes = source.rows("select sql from duckdb_tables() where schema_name = 'main'")
    with Warehouse(tmp_path_factory.mktemp("console") / "hollow.duckdb") as warehouse:
        for shape in shapes:
            warehouse.execute(shape["sql"])
        yield warehouse


@pytest.fixture(scope="session")
def nothing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warehouse]:
    """A project in which nothing was run yet: the ledgers, empty, and no model. Nobody writes to it."""
    with Warehouse(tmp_path_factory.mktemp("console") / "nothing.duckdb") as warehouse:
        warehouse.execute("select 1")
        yield warehouse


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Warehouse]:
    """The same, for a test that writes to it."""
    with Warehouse(tmp_path / "empty.duckdb") as warehouse:
        yield warehouse
