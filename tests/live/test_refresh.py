"""However many rows a refresh compares, and however often each of them is there: the table ends as it should be."""

from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.live.analysis import Analysis
from headwater.live.project import LiveModel
from headwater.live.refresh import Refresh, Refreshed
from headwater.warehouse import Warehouse

TYPES = {"person_id": "VARCHAR", "score": "DECIMAL(18,2)", "occurred_at": "TIMESTAMP"}
COLUMNS = ", ".join(TYPES)
EXPECTED = f"select {COLUMNS} from main.expected"
MODEL = LiveModel(
    "scores", Analysis("scores", "main.scores", "person_id", "keyed", TYPES, EXPECTED, EXPECTED, frozenset()), "h"
)

ROWS = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c"]),
        st.sampled_from([None, 1, 2]),
        st.sampled_from([None, datetime(2026, 6, 1), datetime(2026, 6, 2)]),  # noqa: DTZ001
    ),
    max_size=8,
)


def fill(warehouse: Warehouse, table: str, rows: list[tuple[Any, ...]]) -> None:
    warehouse.execute(
        f"create or replace table main.{table} ({', '.join(f'{name} {kind}' for name, kind in TYPES.items())})"
    )
    for row in rows:
        warehouse.execute(f"insert into main.{table} values (?, ?, ?)", list(row))


def held(warehouse: Warehouse, relation: str) -> Counter[tuple[Any, ...]]:
    return Counter(warehouse.execute(f"select {COLUMNS} from {relation}").fetchall())


def refreshed(
    warehouse: Warehouse, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], how: str
) -> tuple[Refreshed, list[Counter[Any]]]:
    """What a refresh said, and: the table, the rows that went, the rows that came."""
    fill(warehouse, "scores", before)
    fill(warehouse, "expected", after)

    def run(sql: str) -> int:
        row = warehouse.execute(sql).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    refresh = Refresh(warehouse, MODEL, TYPES, run)
    done: Refreshed = getattr(refresh, how)(EXPECTED, "")
    rows = [held(warehouse, "main.scores"), held(warehouse, refresh.gone), held(warehouse, refresh.came)]
    refresh.let_go()
    left = "select count(*) from duckdb_tables() where table_name in ('wanted_scores', 'came_scores', 'gone_scores')"
    assert warehouse.value(left) == 0
    return done, rows


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as opened:
        yield opened


@settings(deadline=None)
@given(before=ROWS, after=ROWS)
def test_few_rows_and_many_are_refreshed_alike(
    warehouse: Warehouse, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]]
) -> None:
    few, few_rows = refreshed(warehouse, before, after, "_few")
    many, many_rows = refreshed(warehouse, before, after, "_many")
    assert many_rows[0] == few_rows[0] == Counter((p, s, at) for p, s, at in after)
    assert many == few
    assert few.removed == sum((Counter(before) - Counter(after)).values())
    assert few.added == sum((Counter(after) - Counter(before)).values())
    if few:
        gone, came = (Counter(before) - Counter(after)), (Counter(after) - Counter(before))
        assert many_rows[1:] == few_rows[1:] == [gone, came]
