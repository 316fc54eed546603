"""The template's models on a real Postgres: built by dbt-postgres over the rows that DuckDB has, equal to DuckDB's."""

import json
import os
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from target_shop import LOGGED, InDuckDB, Tables, compiled, dbt, differences, make_project, order, random_rows
from test_compiled import adapters

from headwater.records.entities import ENTITIES, SQL_TYPES

AS_OF: datetime = random_rows.AS_OF
NOT_TESTS = ("--exclude-resource-type", "test", "--exclude-resource-type", "unit_test")
"""A unit test reads the columns of its inputs from the catalogue, where Postgres does not list materialized views."""


@dataclass
class InPostgres:
    """The same shop in a database of its own."""

    folder: Path
    address: str
    database: str

    @property
    def environment(self) -> dict[str, str]:
        parts = urlsplit(self.address)
        return {"POSTGRES_HOST": parse_qs(parts.query)["host"][0], "POSTGRES_DATABASE": self.database}

    def connect(self) -> psycopg.Connection[tuple[Any, ...]]:
        return psycopg.connect(self.address, dbname=self.database, autocommit=True)

    def load(self, tables: Tables) -> None:
        """The rows of DuckDB's staging models as tables of the schema `shop`."""
        with self.connect() as connection:
            connection.execute("create schema shop")
            for name, entity in ENTITIES.items():
                columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in entity.fields)
                connection.execute(f"create table shop.{name} ({columns})")
                with connection.cursor().copy(f"copy shop.{name} from stdin") as copy:
                    for row in tables[f"stg_{name}"]:
                        copy.write_row(row)

    def dbt(self, *arguments: str) -> str:
        """Run dbt and fail with what it printed; the answer is what it printed."""
        done = dbt(self.folder, "postgres", *arguments, **self.environment)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def set_clock(self, moment: datetime) -> None:
        with self.connect() as connection:
            connection.execute("delete from headwater.clock")
            connection.execute("insert into headwater.clock (as_of, set_at) values (%s, %s)", [moment, moment])

    def log(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        """What the stages would have written, into the tables that `headwater_tables` made."""
        with self.connect() as connection:
            for table, logged in rows.items():
                for row in logged:
                    marks = ", ".join("%s" for _ in row)
                    connection.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))

    def tables(self, schema: str = "customers") -> Tables:
        """All rows of each model and seed; JSON as text."""
        with self.connect() as connection:
            names = connection.execute(
                "select relname from pg_class where relnamespace = %s::regnamespace and relkind in ('r', 'v', 'm')",
                [schema],
            ).fetchall()
            return {
                name: [
                    tuple(json.dumps(value) if isinstance(value, dict) else value for value in row)
                    for row in connection.execute(f"select * from {schema}.{name}").fetchall()
                ]
                for (name,) in names
            }


@pytest.fixture(scope="module")
def duckdb(tmp_path_factory: pytest.TempPathFactory) -> InDuckDB:
    shop = InDuckDB(make_project(tmp_path_factory.mktemp("duckdb") / "shop"))
    shop.load(random_rows.shop())
    shop.build(AS_OF)
    return shop


@pytest.fixture(scope="module")
def postgres(duckdb: InDuckDB, postgres_server: str) -> InPostgres:
    """Built at AS_OF."""
    shop = InPostgres(duckdb.folder, postgres_server, f"targets_{os.getpid()}")
    with psycopg.connect(postgres_server, autocommit=True) as connection:
        connection.execute(f"create database {shop.database}")
    shop.load(duckdb.tables(f"stg_{name}" for name in ENTITIES))
    shop.dbt("run-operation", "headwater_tables")
    shop.log(LOGGED)
    shop.set_clock(AS_OF)
    shop.dbt("build", *NOT_TESTS)
    return shop


@pytest.mark.long
def test_every_model_has_the_rows_that_it_has_on_duckdb(duckdb: InDuckDB, postgres: InPostgres) -> None:
    found = postgres.tables()
    expected = duckdb.tables(found)
    assert {name for name, rows in found.items() if not rows} == {"customer_segments"}, (
        "equal must mean more than empty"
    )
    assert len(found) >= 40
    assert {name: rows for name in found if (rows := differences(found[name], expected[name]))} == {}


@pytest.mark.targets
def test_the_sql_for_materialize_has_the_same_rows_where_its_clock_is_a_function(
    duckdb: InDuckDB, postgres: InPostgres
) -> None:
    """Postgres stands in: plain views, with functions `mz_now` and `now` that say AS_OF."""
    done = dbt(
        duckdb.folder,
        "materialize",
        *("compile", "--no-introspect", "--no-populate-cache", "--select", "resource_type:model"),
        python=adapters(),
        MATERIALIZE_DATABASE=postgres.database,
        MATERIALIZE_SCHEMA="materialized",
    )
    assert done.returncode == 0, done.stdout
    sql = compiled(duckdb.folder, "materialize")
    with postgres.connect() as connection:
        connection.execute("create schema materialized")
        connection.execute("set search_path = materialized, pg_catalog")
        moment = f"select timestamp '{AS_OF}'"
        connection.execute(f"create function mz_now() returns timestamp language sql as $$ {moment} $$")
        connection.execute(
            f"create function now() returns timestamptz language sql as $$ {moment} at time zone 'UTC' $$"
        )
        for seed in ("customer_segments", "mql_score"):
            connection.execute(f"create view materialized.{seed} as select * from customers.{seed}")
        for name in order(duckdb.folder, "materialize"):
            connection.execute(f"create view materialized.{name} as {sql[name]}")
    found = postgres.tables("materialized")
    assert set(sql) <= set(found)
    expected = duckdb.tables(found)
    assert {name: rows for name in found if (rows := differences(found[name], expected[name]))} == {}


@pytest.mark.long
def test_windows_move_when_the_views_are_refreshed_and_not_before(duckdb: InDuckDB, postgres: InPostgres) -> None:
    before = postgres.tables()
    later = AS_OF + timedelta(days=31)
    postgres.dbt("run-operation", "set_clock", "--args", f"{{moment: '{later}'}}")
    duckdb.build(later)
    expected = duckdb.tables(before)
    waiting = postgres.tables()
    assert differences(waiting["int_customer_events"], before["int_customer_events"]) == []
    assert differences(waiting["int_customer_events"], expected["int_customer_events"]) != []
    postgres.dbt("run")
    refreshed = postgres.tables()
    assert {name: rows for name in refreshed if (rows := differences(refreshed[name], expected[name]))} == {}


@pytest.mark.long
def test_the_data_tests_pass(postgres: InPostgres) -> None:
    assert "ERROR=0" in postgres.dbt("test", "--exclude-resource-type", "unit_test")


@pytest.mark.long
def test_without_a_clock_nothing_is_built_and_making_the_tables_again_sets_only_the_clock(postgres: InPostgres) -> None:
    with postgres.connect() as connection:
        connection.execute("delete from headwater.clock")
        connection.execute("insert into headwater.clv_scores (customer_id) values ('c1')")
    refused = dbt(postgres.folder, "postgres", "run", "--select", "int_person_ids", **postgres.environment)
    assert refused.returncode == 1
    assert (
        "the clock is not set: `dbt run-operation set_clock` sets it to now, "
        "with --args '{moment: \"2026-01-31 00:00:00\"}' to another moment (UTC)"
    ) in refused.stdout
    postgres.dbt("run-operation", "headwater_tables")
    with postgres.connect() as connection:
        assert connection.execute("select count(as_of) from headwater.clock").fetchone() == (1,)
        assert ("c1",) in connection.execute("select customer_id from headwater.clv_scores").fetchall()
