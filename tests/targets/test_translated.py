"""The SQL for warehouses that nobody here can reach, translated to DuckDB's and run there: it means what the models mean.

The translation is sqlglot's, so this shows that the functions were chosen and called rightly, not that the warehouse takes them.
"""

import re

import pytest
import sqlglot
from sqlglot import exp
from target_shop import InDuckDB, compiled, dbt, differences, make_project, order, random_rows
from test_compiled import DIALECTS, adapters

from headwater.warehouse import Warehouse

BEFORE = {
    r"to_char\((.+?), 'YYYYMMDD\"T\"HH24MISS\.(?:FF6|US)'\)": r"strftime(\1, '%Y%m%dT%H%M%S.%f')",
    r"approximate (?=percentile_disc)": "",
}
"""What the translation does not know: a format of moments, and a percentile that is only nearly one."""

PLACES = {"customers": "translated", "shop": "raw", "headwater": "headwater", "collected": "collected"}
"""From a schema of the target to DuckDB's."""


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory: pytest.TempPathFactory) -> InDuckDB:
    shop = InDuckDB(make_project(tmp_path_factory.mktemp("translated") / "shop"))
    shop.load(random_rows.shop())
    shop.build(random_rows.AS_OF)
    return shop


def translated(sql: str, target: str, models: set[str]) -> str:
    for pattern, replacement in BEFORE.items():
        sql = re.sub(pattern, replacement, sql)
    tree = sqlglot.parse_one(sql, dialect=DIALECTS[target])
    for table in list(tree.find_all(exp.Table)):
        if table.db:
            place = "main" if table.db == "customers" and table.name not in models else PLACES[table.db]
            table.set("db", exp.to_identifier(place))
            table.set("catalog", None)
    return tree.sql("duckdb")


@pytest.mark.targets
@pytest.mark.parametrize("target", ["snowflake", "redshift"])
def test_every_model_has_the_same_rows(duckdb: InDuckDB, target: str) -> None:
    done = dbt(
        duckdb.folder,
        target,
        *("compile", "--no-introspect", "--no-populate-cache", "--select", "resource_type:model"),
        *("--vars", f"{{headwater_as_of: '{random_rows.AS_OF}'}}"),
        python=adapters(),
    )
    assert done.returncode == 0, done.stdout
    sql = compiled(duckdb.folder, target)
    with Warehouse(duckdb.path) as warehouse:
        warehouse.execute("drop schema if exists translated cascade")
        warehouse.execute("create schema translated")
        for name in order(duckdb.folder, target):
            warehouse.execute(f"create view translated.{name} as {translated(sql[name], target, set(sql))}")
    expected, found = duckdb.tables(sql), duckdb.tables(sql, "translated")
    assert all(expected.values()), "equal must mean more than empty"
    assert {name: rows for name in found if (rows := differences(found[name], expected[name]))} == {}
