"""What is built aside of one table, and what becomes of the table when it is taken or swapped."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from headwater.live import aside, refresh
from headwater.live.analysis import Analysis
from headwater.live.project import LiveModel
from headwater.live.refresh import Refresh, Refreshed
from headwater.warehouse import Warehouse

AT = datetime(2026, 6, 30)  # noqa: DTZ001
TYPES = {"person_id": "VARCHAR", "score": "INTEGER"}
NEW = "select person_id, case when person_id = 'ann' then 9 else score end as score from main.source"


@pytest.fixture
def warehouse() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as opened:
        filled(opened)
        yield opened


def filled(warehouse: Warehouse) -> None:
    warehouse.execute("create table main.source (person_id varchar, score integer)")
    warehouse.execute("insert into main.source values ('ann', 1), ('bob', 2)")
    warehouse.execute("create table main.scores as select * from main.source")


def a_refresh(warehouse: Warehouse, sql: str = NEW, key: str = "person_id", **types: str) -> Refresh:
    def run(statement: str) -> int:
        row = warehouse.execute(statement).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    touched = f"select * from ({sql}) where {key} in (select key from {{touched}})"
    columns = types or TYPES
    analysis = Analysis("scores", "main.scores", key, "keyed", columns, touched, sql, frozenset())
    return Refresh(warehouse, LiveModel("scores", analysis, "h", changes=True), columns, run)


@contextmanager
def built(warehouse: Warehouse, one: Refresh, *, other_shape: bool = False) -> Iterator[aside.Aside]:
    """The table built aside, so far as `take` and `swap` go."""
    whole = aside.Aside.__new__(aside.Aside)
    whole.warehouse = warehouse
    whole._build = aside._Build(warehouse, one, AT, other_shape=other_shape)
    whole._build._thread.join()
    assert whole._build.error is None
    yield whole
    whole.end()


def rows(warehouse: Warehouse, relation: str) -> list[tuple[Any, ...]]:
    return warehouse.execute(f"select * from {relation} order by all").fetchall()


@pytest.mark.parametrize("late", ["bob", "nobody"])
@pytest.mark.parametrize("many", [50_000, 0])
def test_what_went_and_came_is_told_also_where_the_late_keys_differ_in_nothing(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, many: int, late: str
) -> None:
    monkeypatch.setattr(refresh, "_MANY", many)
    one = a_refresh(warehouse)
    with built(warehouse, one) as taken, warehouse.transaction():
        one.only([late])
        done = taken.take(AT, 1)
        assert (done.removed, done.added) == (1, 1)
        assert (rows(warehouse, one.gone), rows(warehouse, one.came)) == ([("ann", 1)], [("ann", 9)])
        one.record_changes(done, 7, AT)
    assert warehouse.execute("select key, op from headwater.model_changes").fetchall() == [("ann", "update")]


def test_rows_without_a_key_go_too(warehouse: Warehouse) -> None:
    warehouse.execute("insert into main.scores values (null, 5), (null, 5)")
    with built(warehouse, a_refresh(warehouse)) as taken, warehouse.transaction():
        assert taken.take(AT, 0) == Refreshed(3, 1, whole=True, content=taken_content(warehouse))
    assert rows(warehouse, "main.scores") == [("ann", 9), ("bob", 2)]


def taken_content(warehouse: Warehouse) -> int:
    hashed = "select coalesce(sum(cast(hash(person_id, score) as hugeint)), 0) from"
    went = "(values ('ann', 1::integer), (null, 5), (null, 5)) as went(person_id, score)"
    came = "(values ('ann', 9::integer)) as came(person_id, score)"
    return int(warehouse.value(f"{hashed} {came}")) - int(warehouse.value(f"{hashed} {went}"))


def test_a_build_gives_the_file_back_when_duckdb_answers_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Warehouse(tmp_path / "shop.duckdb") as warehouse:
        filled(warehouse)
        build = aside._Build(warehouse, a_refresh(warehouse), AT, other_shape=False)
        build._thread.join()
        own, execute = build._own.connection, Warehouse.execute

        def broken(one: Warehouse, sql: str, *rest: Any) -> Any:
            if one is build._own:
                raise RuntimeError("database has been invalidated because of a previous fatal error")
            return execute(one, sql, *rest)

        with monkeypatch.context() as patch:
            patch.setattr(Warehouse, "execute", broken)
            build.end()
        with pytest.raises(duckdb.ConnectionException):
            own.execute("select 1")


def test_a_build_that_cannot_begin_leaves_nothing(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    execute = Warehouse.execute

    def broken(one: Warehouse, sql: str, *rest: Any) -> Any:
        if sql.startswith("select max(as_of)"):
            raise KeyboardInterrupt
        return execute(one, sql, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Warehouse, "execute", broken)
        aside._Build(warehouse, a_refresh(warehouse), AT, other_shape=False)
    with built(warehouse, a_refresh(warehouse)):
        pass
    assert not warehouse.value("select count(*) from duckdb_databases() where database_name = ?", [aside.DATABASE])


@pytest.mark.parametrize(
    ("key", "kind", "expected"),
    [
        ("whose", "VARCHAR", [("ann", "insert"), ("bob", "insert")]),
        ("person_id", "INTEGER", [("1", "insert"), ("2", "insert"), ("ann", "delete"), ("bob", "delete")]),
    ],
)
def test_a_table_is_swapped_for_one_of_another_key(
    warehouse: Warehouse, key: str, kind: str, expected: list[tuple[str, str]]
) -> None:
    name = "person_id" if kind == "VARCHAR" else "score"
    sql = f"select {name} as {key}, score as points from main.source"
    one = a_refresh(warehouse, sql, key, **{key: kind, "points": "INTEGER"})
    with built(warehouse, one, other_shape=True) as swapped, warehouse.transaction():
        swapped.swap(AT, 0, lambda done: one.record_changes(done, 7, AT))
    assert warehouse.execute("select key, op from headwater.model_changes order by all").fetchall() == expected
    assert warehouse.value("select count(*) from main.scores where points > 0") == 2
