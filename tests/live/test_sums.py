"""Models that are kept by adding and taking away: after any changes and any move of the clock they are what their SQL gives."""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lineage_lab import NOW, within

from headwater.live.analysis import Analysis, Relation
from headwater.live.deltas import Delta, Deltas, at_moment
from headwater.live.lineage import analyse
from headwater.live.project import LiveModel
from headwater.live.sums import Sums
from headwater.warehouse import Warehouse

VISITS = {
    "id": "BIGINT", "person": "VARCHAR", "device": "VARCHAR", "kind": "VARCHAR",
    "amount": "DECIMAL(18,4)", "points": "INTEGER", "ts": "TIMESTAMP",
}  # fmt: skip
WEEK, MONTH, EVER = within("ts", "7 days"), within("ts", "30 days"), within("ts", None)
MODELS = {
    "all history": "select person, count(*) as n, sum(amount) as total, sum(points) as points, sum(amount) / count(amount) as mean "
    "from visits group by person",
    "a window": f"select person, count(*) as n, sum(amount) as total, count(kind) as kinds from visits where {MONTH} group by person",
    "windows within sums": f"select person, sum(case when {WEEK} then amount end) as w, sum(case when {MONTH} then points else 0 end) as m,"
    " count(*) as n from visits group by person",
    "a future that comes": f"select person, coalesce(device, '-') as device, sum(points) as points from visits where {EVER} and "
    "kind is distinct from 'a' group by person, coalesce(device, '-') having sum(points) > 0",
    "through other SELECTs": "with v as (select person as p, device as d, points * 2 as twice, amount from visits where amount > 0), "
    "g as (select p, d, sum(twice) as s, count(*) as n from v group by p, d) select p as person, s + 1 as s, n from g where n > 1",
}


def analysed(sql: str, columns: dict[str, str] | None = None) -> Analysis:
    return analyse("m", "main.m", sql, "person", {"main.visits": Relation("main.visits", columns or VISITS)}, {})


def row(choose: random.Random) -> tuple[Any, ...]:
    days = choose.choice((0, 0, 7, 30, 60, -1, -6, -7, -8, -29, -30, -31))
    return (
        choose.randrange(1000),
        choose.choice(("p1", "p2", "p3", None)),
        choose.choice(("d1", "d2", None)),
        choose.choice(("a", "b", None)),
        choose.choice((None, 1, 2.5, -3)),
        choose.choice((None, 1, 2, -5)),
        NOW + timedelta(days=days, seconds=choose.choice((-1, 0, 1, 3600))) if choose.random() > 0.1 else None,
    )


@dataclass
class Kept:
    """One additive model over `main.visits`, and the changes of one batch at a time."""

    warehouse: Warehouse
    sql: str
    now: datetime = NOW
    rows: list[tuple[Any, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        w = self.warehouse
        for schema in ("main", "sums"):
            w.execute(f"drop table if exists {schema}.m")
        columns = ", ".join(f"{name} {kind}" for name, kind in VISITS.items())
        for table in ("visits", "went", "came"):
            w.execute(f"create or replace table main.{table} ({columns})")
        self._insert("visits", self.rows)
        w.execute(f"create table main.m as {at_moment(self.sql, self.now)}")
        analysis = analysed(self.sql)
        assert analysis.additive is not None, analysis.why_not_additive
        types = {name: kind for name, kind, *_ in w.execute("describe main.m").fetchall()}
        model = LiveModel("m", replace(analysis, mode="delta"), "h")
        self.sums = Sums(w, model, types, self._run, analysis.additive)
        self.sums.whole(self.now)

    def _run(self, sql: str) -> int:
        found = self.warehouse.execute(sql).fetchone()
        return int(found[0]) if found and isinstance(found[0], int) else 0

    def _insert(self, table: str, rows: list[tuple[Any, ...]]) -> None:
        for one in rows:
            self.warehouse.execute(f"insert into main.{table} values ({', '.join('?' * len(VISITS))})", list(one))

    def step(self, went: list[tuple[Any, ...]], came: list[tuple[Any, ...]], now: datetime) -> None:
        """Rows go and come, and the clock moves, in one batch."""
        w = self.warehouse
        for table, rows in (("went", went), ("came", came)):
            w.execute(f"delete from main.{table}")
            self._insert(table, rows)
        for one in went:
            self.rows.remove(one)
        self.rows += came
        w.execute("delete from main.visits")
        self._insert("visits", self.rows)
        deltas = Deltas()
        deltas.put("main.visits", list(VISITS), Delta("main.went" if went else None, "main.came" if came else None))
        touched = self.sums.advance(deltas, self.now, now, crossed=now > self.now)
        if touched:
            self.sums.moved(now, touched)
        self.now = now

    def wrong(self) -> list[Counter[tuple[Any, ...]]]:
        """Rows of the table that should not be there, and that should; those without a key are nobody's."""
        both = [
            Counter(self.warehouse.execute(f"select * from ({sql}) where person is not null").fetchall())
            for sql in ("select * from main.m", at_moment(self.sql, self.now))
        ]
        return [found for found in (both[0] - both[1], both[1] - both[0]) if found]


def program(warehouse: Warehouse, sql: str, seed: int, steps: int = 12) -> list[Counter[tuple[Any, ...]]]:
    """What is wrong after the first step of a random program after which something is; empty when nothing ever is."""
    choose = random.Random(seed)
    kept = Kept(warehouse, sql, rows=[row(choose) for _ in range(choose.randrange(8))])
    for _ in range(steps):
        went = choose.sample(kept.rows, min(len(kept.rows), choose.choice((0, 0, 1, 2))))
        moved = []
        for one in went:
            place = choose.randrange(len(VISITS))
            if choose.random() < 0.6:  # an update, of the key at times
                moved.append((*one[:place], row(choose)[place], *one[place + 1 :]))
        came = [*moved, *(row(choose) for _ in range(choose.choice((0, 0, 1, 3))))]
        hours = choose.choice((0, 0, 1, 24, 24 * 7, 24 * 29, 24 * 30, 24 * 31))
        kept.step(went, came, kept.now + timedelta(hours=hours))
        if found := kept.wrong():
            return found
    return []


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse(":memory:") as opened:
        yield opened


@pytest.mark.parametrize("name", MODELS)
@settings(deadline=None, max_examples=2)
@given(seed=st.integers(0, 10**6))
def test_after_each_step_of_any_program_it_is_what_its_sql_gives(warehouse: Warehouse, name: str, seed: int) -> None:
    assert program(warehouse, MODELS[name], seed) == []


@pytest.mark.slow
@pytest.mark.timeout(7_200)
@pytest.mark.parametrize("name", MODELS)
def test_two_thousand_programs(warehouse: Warehouse, name: str) -> None:
    assert [seed for seed in range(400) if program(warehouse, MODELS[name], seed)] == []


def test_the_clock_that_advances_on_the_new_rows_is_caught(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order is the point: what arrives while the clock moves over it must not be counted twice."""
    clock = Sums._clock

    def on_the_new_rows(self: Sums, _: Deltas, a0: datetime, a1: datetime) -> Iterator[str]:
        return clock(self, Deltas(), a0, a1)

    monkeypatch.setattr(Sums, "_clock", on_the_new_rows)
    assert any(program(warehouse, MODELS["a window"], seed) for seed in range(12))


@pytest.mark.long
def test_a_forgotten_expiry_is_caught(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Sums, "_clock", lambda *_: iter(()))
    assert any(program(warehouse, MODELS["a window"], seed) for seed in range(12))


@pytest.mark.long
def test_forgotten_old_images_are_caught(warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Sums, "_sides", lambda self, deltas: (None, deltas["main.visits"].added) if deltas else (None, None)
    )
    assert any(program(warehouse, MODELS["all history"], seed) for seed in range(12))


def test_changes_that_cannot_be_make_it_count_again(warehouse: Warehouse) -> None:
    """More rows go than were there: the sums of these keys are computed anew, from the rows themselves."""
    choose = random.Random(1)
    kept = Kept(warehouse, MODELS["all history"], rows=[row(choose) for _ in range(5)])
    one = next(found for found in kept.rows if found[1] is not None)
    warehouse.execute("insert into main.went values (?, ?, ?, ?, ?, ?, ?)", list(one))
    deltas = Deltas()
    many = "(select went.* from main.went cross join range(9))"
    deltas.put("main.visits", list(VISITS), Delta(many, None))
    touched = kept.sums.advance(deltas, kept.now, kept.now, crossed=False)
    assert touched == 1
    kept.sums.moved(kept.now, touched)
    assert kept.wrong() == []


REFUSED = {
    "max(ts)": "MAX(visits.ts) is neither a sum nor a count",
    "avg(amount)": "AVG(visits.amount) is neither a sum nor a count; write sum(x) / count(x)",
    "count(distinct kind)": "COUNT(DISTINCT visits.kind) counts each value once",
    "sum(points) filter (where kind = 'a')": "is written with FILTER or an order; write sum(case when … end)",
    "sum(points) over (partition by person)": "it has a window function",
}


@pytest.mark.parametrize("said", REFUSED)
def test_what_is_no_sum_is_not_added(said: str) -> None:
    group = "" if "over" in said else " group by person"
    analysis = analysed(f"select person, {said} as x from visits where person is not null{group}")
    assert analysis.additive is None
    assert REFUSED[said] in analysis.why_not_additive


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select a.person, count(*) as n from visits a join visits b on a.person = b.person group by a.person", "it reads several tables"),
        ("select person, sum(n) as n from (select person, kind, count(*) as n from visits group by person, kind) group by person", "it sums what is summed already"),
        ("select person, points from visits", "it sums and counts nothing"),
        ("select distinct person, count(*) as n from visits group by person", "it has LIMIT or DISTINCT"),
    ],
)  # fmt: skip
def test_other_shapes_are_not_added(sql: str, sentence: str) -> None:
    analysis = analysed(sql)
    assert (analysis.mode, analysis.additive, analysis.why_not_additive) == ("keyed", None, sentence)


def test_a_sum_of_an_unknown_type_is_not_added() -> None:
    analysis = analysed("select person, sum(points) as x from visits group by person", VISITS | {"points": "ODD"})
    assert analysis.additive is None
    assert "is not of whole or decimal numbers" in analysis.why_not_additive


def test_the_key_keeps_its_name_in_the_sums() -> None:
    """By it a person is found who is to be forgotten."""
    additive = analysed(MODELS["through other SELECTs"]).additive
    assert additive is not None
    assert (additive.table, additive.key, additive.groups) == ("main.visits", "person", ("person", "_g1"))
