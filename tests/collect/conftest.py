"""The fixture `stage`: a folder of files, mapped, loaded and staged."""

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import pytest
from staged_shop import LOADED_AT, Staged, build

from headwater.clock import FixedClock
from headwater.collect import mapping as mappings
from headwater.collect import staging
from headwater.collect.mapping import Mapping
from headwater.collect.recognise import recognise
from headwater.warehouse import Warehouse
from headwater.warehouse.files import load, profile, raw_types


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Callable[..., Staged]]:
    """stage(folder, mapping=None): profile, recognise (unless a mapping is given), write and read the mapping, load, build."""
    warehouse = Warehouse(tmp_path / "staged.duckdb")

    def run(folder: Path, mapping: Mapping | None = None, at: datetime = LOADED_AT, known_types: bool = True) -> Staged:
        proposal = mapping or recognise(profile(folder), str(folder))
        mappings.write(proposal, tmp_path / "mapping.yml")
        read = mappings.read(tmp_path / "mapping.yml")
        for schema in ("raw", "main"):
            for row in warehouse.rows(
                f"select table_name, table_type from information_schema.tables where table_schema = '{schema}'"
            ):
                warehouse.execute(
                    f"drop {'view' if row['table_type'] == 'VIEW' else 'table'} {schema}.{row['table_name']}"
                )
        warehouse.execute("delete from headwater.file_loads")
        loads = load(warehouse, read.sources(tmp_path), FixedClock(at))
        staged = Staged(proposal, warehouse, loads, staging.render(read, raw_types(warehouse) if known_types else None))
        build(staged)
        return staged

    yield run
    warehouse.close()
