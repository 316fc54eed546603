"""A project of its own for the dbt models: the template, with staging models that only read tables of the same columns."""

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import random_rows
from filelock import FileLock

from headwater.records.entities import ENTITIES, SQL_TYPES
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt, DbtResult

TEMPLATE = Path(__file__).resolve().parents[2] / "src" / "headwater" / "project"
Rows = Mapping[str, Iterable[Mapping[str, Any]]]


@dataclass
class Shop:
    """A project folder and its warehouse. `load` replaces all rows of the shop, `build` builds every model."""

    folder: Path
    read_only: bool = False

    @property
    def path(self) -> Path:
        return self.folder / "warehouse" / "shop.duckdb"

    def warehouse(self) -> Warehouse:
        return Warehouse(self.path, read_only=self.read_only)

    def copy(self, folder: Path) -> "Shop":
        """The same project, built as far, in a folder of its own."""
        shutil.copytree(self.folder, folder)
        return Shop(folder)

    def results(self) -> dict[str, Any]:
        """What dbt said when the shared shop was built: its problems, and kind, name and status of each node."""
        found: dict[str, Any] = json.loads((self.folder.parent / "results.json").read_text())
        return found

    def load(self, rows: Rows, as_of: datetime) -> None:
        with self.warehouse() as warehouse:
            for name, entity in ENTITIES.items():
                columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in entity.fields)
                warehouse.execute(f"create or replace table raw.{name} ({columns})")
                given = list(rows.get(name, ()))
                for row in given:
                    assert set(row) <= set(entity.columns), f"{name} has no {set(row) - set(entity.columns)}"
                if given:  # one statement: row by row DuckDB takes a thousand times as long
                    marks = ", ".join(f"({', '.join('?' for _ in entity.fields)})" for _ in given)
                    values = [row.get(column) for row in given for column in entity.columns]
                    warehouse.execute(f"insert into raw.{name} values {marks}", values)
            self._set_clock(warehouse, as_of)

    def set_clock(self, as_of: datetime) -> None:
        with self.warehouse() as warehouse:
            self._set_clock(warehouse, as_of)

    @staticmethod
    def _set_clock(warehouse: Warehouse, as_of: datetime) -> None:
        warehouse.execute("delete from headwater.clock")
        warehouse.execute("insert into headwater.clock (as_of, set_at) values (?, ?)", [as_of, as_of])

    def dbt(self, *arguments: str) -> DbtResult:
        return Dbt(self.folder, self.path).invoke(arguments)

    def build(self, *arguments: str) -> DbtResult:
        """Build the models (and seeds, not the tests) and fail with every problem that dbt names."""
        result = self.dbt(
            "build", "--exclude-resource-type", "test", "--exclude-resource-type", "unit_test", *arguments
        )
        assert result.ok, problems(result)
        return result

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.warehouse() as warehouse:
            return warehouse.rows(sql)

    def value(self, sql: str) -> Any:
        with self.warehouse() as warehouse:
            return warehouse.value(sql)


def problems(result: DbtResult) -> str:
    said = [f"{node.name}: {node.status}: {node.message}" for node in result.nodes if node.failed]
    return "\n".join([*said, *result.problems])


def make_shop(folder: Path) -> Shop:
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*"))
    staging = folder / "models" / "staging"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    for name, entity in ENTITIES.items():
        columns = ", ".join(entity.columns)
        (staging / f"stg_{name}.sql").write_text(f"select {columns} from raw.{name}\n")
    events = ", ".join(ENTITIES["events"].columns)
    (staging / "stg_events__files.sql").write_text(f"select {events} from {{{{ ref('stg_events') }}}}\n")
    return Shop(folder)


@pytest.fixture(scope="session")
def random_shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """The shop of random rows, built and tested once, whichever worker comes first. Only to be read; change a `copy`."""
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    folder, done = shared / "random" / "shop", shared / "random" / "results.json"
    with FileLock(shared / "random.lock"):
        if not done.exists():
            made = make_shop(folder)
            made.load(random_rows.shop(), random_rows.AS_OF)
            result = made.dbt("build")
            results = {
                "problems": problems(result),
                "nodes": [[node.kind, node.name, node.status] for node in result.nodes],
            }
            done.write_text(json.dumps(results))
    return Shop(folder, read_only=True)


@pytest.fixture(scope="session")
def new_shop(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Shop]:
    """Makes an empty project; the name becomes its folder."""
    return lambda name: make_shop(tmp_path_factory.mktemp(name) / "shop")
