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
    warehouse: Warehouse, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], how: str, about: int = 0
) -> tuple[Refreshed, list[Counter[Any]]]:
    """What a refresh said, and: the table, the rows that went, the rows that came."""
    fill(warehouse, "scores", before)
    fill(warehouse, "expected", after)

    def run(sql: str) -> int:
        row = warehouse.execute(sql).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    refresh = Refresh(warehouse, MODEL, TYPES, run)
    ways = {
        "whole": lambda: refresh.whole(datetime(2026, 6, 30), about),  # noqa: DTZ001
        "_few": lambda: refresh._few(EXPECTED, ""),
        "_many": lambda: refresh._many(EXPECTED, ""),
        "_grown": lambda: refresh._grown(EXPECTED),
    }
    done = ways[how]()
    rows = [held(warehouse, "main.scores"), held(warehouse, refresh.gone), held(warehouse, refresh.came)]
    refresh.let_go()
    left = "select count(*) from duckdb_tables() where table_name in ('wanted_scores', 'came_scores', 'gone_scores', 'same_scores', 'old_scores')"
    assert warehouse.value(left) == 0
    return done, rows


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as opened:
        yield opened


@settings(deadline=None)
@given(before=ROWS, after=ROWS)
@pytest.mark.parametrize("how", ["_many", "_grown"])
def test_few_rows_and_many_are_refreshed_alike(
    warehouse: Warehouse, before: list[tuple[Any, ...]], after: list[tuple[Any, ...]], how: str
) -> None:
    few, few_rows = refreshed(warehouse, before, after, "_few")
    many, many_rows = refreshed(warehouse, before, after, how)
    assert many_rows[0] == few_rows[0] == Counter((p, s, at) for p, s, at in after)
    assert many == few
    assert few.removed == sum((Counter(before) - Counter(after)).values())
    assert few.added == sum((Counter(after) - Counter(before)).values())
    if few:
        gone, came = (Counter(before) - Counter(after)), (Counter(after) - Counter(before))
        assert many_rows[1:] == few_rows[1:] == [gone, came]


@pytest.mark.parametrize(("about", "grown"), [(5, True), (4, False)])
def test_a_whole_model_that_held_hardly_anything_is_written_straight_into_its_table(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, about: int, grown: bool
) -> None:
    told: list[str] = []
    inside = Refresh._grown
    monkeypatch.setattr(Refresh, "_grown", lambda self, sql: (told.append(sql), inside(self, sql))[1])
    monkeypatch.setattr("headwater.live.refresh._MANY", 1)
    at = datetime(2026, 6, 1)  # noqa: DTZ001
    after = [(name, 1, at) for name in "abcde"]
    done, rows = refreshed(warehouse, after[:1], after, "whole", about)
    assert (done.removed, done.added, done.whole) == (0, 4, True)
    assert rows == [Counter(after), Counter(), Counter(after[1:])]
    assert bool(told) == grown


@pytest.mark.parametrize(("most", "compared"), [(2, False), (1, True)])
def test_a_whole_model_is_compared_by_hashes_only_when_it_is_large(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch, most: int, compared: bool
) -> None:
    hashed: list[int] = []
    inside = Refresh._hashed

    def told(self: Refresh, rows: int, held: str) -> Refreshed:
        hashed.append(rows)
        return inside(self, rows, held)

    monkeypatch.setattr(Refresh, "_hashed", told)
    monkeypatch.setattr("headwater.live.refresh._MANY", most)
    at = datetime(2026, 6, 1)  # noqa: DTZ001
    done, rows = refreshed(warehouse, [("a", 1, at)], [("a", 2, at), ("b", 1, at)], "whole")
    assert (done.removed, done.added, done.whole) == (1, 2, True)
    assert rows[0] == Counter([("a", 2, at), ("b", 1, at)])
    assert bool(hashed) == compared


def test_a_column_with_a_comma_in_its_name(warehouse: Warehouse) -> None:
    types = {"person_id": "VARCHAR", "last, first": "VARCHAR"}
    listed = 'person_id, "last, first"'
    warehouse.execute("create or replace table main.named as select 'a' as person_id, 'x' as \"last, first\"")
    warehouse.execute("create or replace table main.named_right as select 'a' as person_id, 'y' as \"last, first\"")
    sql = f"select {listed} from main.named_right"
    model = LiveModel("named", Analysis("named", "main.named", "person_id", "keyed", types, sql, sql, frozenset()), "h")

    def run(statement: str) -> int:
        row = warehouse.execute(statement).fetchone()
        return int(row[0]) if row and isinstance(row[0], int) else 0

    done = Refresh(warehouse, model, types, run)._many(sql, "")
    assert (done.removed, done.added) == (1, 1)
    assert warehouse.execute(f"select {listed} from main.named").fetchall() == [("a", "y")]
