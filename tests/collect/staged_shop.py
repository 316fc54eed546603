"""A dbt project of nothing but generated staging, for the tests of this package."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from headwater.collect import staging
from headwater.collect.mapping import Mapping
from headwater.records.files import FileLoad
from headwater.warehouse import Warehouse

LOADED_AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@dataclass
class Staged:
    """Files, mapping and warehouse of one shop, staged; models are built in dbt's order without dbt."""

    mapping: Mapping
    warehouse: Warehouse
    loads: list[FileLoad]
    files: dict[str, str] = field(default_factory=dict)

    def rows(self, sql: str) -> list[dict[str, Any]]:
        return self.warehouse.rows(sql)

    def value(self, sql: str) -> Any:
        return self.warehouse.value(sql)

    def counts(self, entity: str) -> dict[str, int]:
        """Outcome to rows."""
        return {
            row["outcome"]: row["n"]
            for row in self.rows(
                f"select outcome, cast(sum(row_count) as bigint) as n from row_counts where entity = '{entity}' group by outcome"
            )
        }

    def reasons(self, entity: str) -> list[tuple[Any, ...]]:
        """(line, column, value, reason) of all quarantined rows."""
        return [
            tuple(row.values())
            for row in self.rows(
                f"select line, column_name, value, reason from quarantined_rows where entity = '{entity}' order by all"
            )
        ]


def compile_model(text: str, currency: str = "EUR") -> tuple[str, str]:
    """(materialisation, SQL) of a generated model, with dbt's names resolved."""
    import re

    kind = re.search(r"materialized='(\w+)'", text)
    sql = re.sub(r"\{\{ config\(.*?\) \}\}", "", text)
    sql = sql.replace("{{ setting('currency') }}", currency)
    sql = re.sub(r"\{\{ ref\('(\w+)'\) \}\}", r"main.\1", sql)
    sql = re.sub(r"\{\{ source\('(\w+)', '(\w+)'\) \}\}", r'\1."\2"', sql)
    return (kind[1] if kind else "view"), sql


def build(staged: Staged) -> None:
    """Make every generated model, in the order of their references."""
    models = {
        Path(path).stem: compile_model(text, staged.mapping.currency or "EUR")
        for path, text in staged.files.items()
        if path.startswith(staging.FOLDER) and path.endswith(".sql")
    }
    done: set[str] = set()
    while len(done) < len(models):
        ready = [
            name
            for name, (_, sql) in models.items()
            if name not in done
            and all(
                other in done or f"main.{other} " not in sql.replace("\n", " ").replace(")", " ") for other in models
            )
        ]
        assert ready, "the generated models refer to each other in a circle"
        for name in ready:
            kind, sql = models[name]
            staged.warehouse.execute(f"create or replace {kind} main.{name} as {sql}")
            done.add(name)
    lost = compile_model(staged.files[staging.COUNTS_TEST])[1]
    assert staged.warehouse.rows(lost) == []
