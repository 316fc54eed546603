"""How a few small models stand: what is owed and why, which are built aside, and what a failure or a writer beside leaves of it."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from headwater.clock import FixedClock
from headwater.live.analysis import Additive, Analysis
from headwater.live.deltas import Delta, Deltas
from headwater.live.project import LiveModel, Project
from headwater.live.settings import LiveSettings
from headwater.live.upkeep import Upkeep
from headwater.warehouse import Warehouse

AT = datetime(2026, 6, 30)  # noqa: DTZ001
CLOCK = FixedClock(AT.replace(tzinfo=UTC))
ASIDE = LiveSettings(aside_rows=0)
SMALL = LiveSettings()
WHOLE = "select k, v from main.source"
SUMS = "select k, cast(sum(v) as bigint) as s, count(*) as _n from {rows} "
ADDITIVE = Additive(
    "main.source",
    "k",
    ("k",),
    SUMS + "group by k",
    SUMS + "where k in (select key from {touched}) group by k",
    None,
    "select k, s from {sums}",
)


def a_model(name: str = "below", whole: str = WHOLE, reads: str = "main.source", **said: Any) -> LiveModel:
    scoped = f"select * from ({whole}) where k in (select key from {{touched}})"
    said = {"mode": "keyed", "key": "k", "columns": {}, **said}
    return LiveModel(
        name,
        Analysis(model=name, relation=f"main.{name}", scoped=scoped, whole=whole, reads=frozenset([reads]), **said),
        f"hash of {whole}",
    )


def a_project(*models: LiveModel, **said: Any) -> Project:
    return Project(models, ("main.source",), **said)


SUMMED = a_model(
    "sums", "select k, cast(sum(v) as bigint) as s from main.source group by k", mode="delta", additive=ADDITIVE
)


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    with Warehouse(tmp_path / "shop.duckdb") as opened:
        opened.execute("create table main.source (k varchar, v integer)")
        opened.execute("insert into main.source values ('ann', 1), ('bob', 2), ('bob', 3)")
        opened.execute("create table main.below as select * from main.source")
        opened.execute("insert into headwater.clock (as_of) values (?)", [AT])
        yield opened


def batch(warehouse: Warehouse, upkeep: Upkeep, deltas: Deltas | None = None) -> None:
    with warehouse.transaction():
        upkeep.refresh_all(deltas or Deltas(), AT, AT, {}, {})
    upkeep.committed()


def states(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.execute("select model, state, message from headwater.live_models order by model").fetchall()


def reasons(warehouse: Warehouse) -> list[tuple[Any, ...]]:
    return warehouse.execute(
        "select model, because from headwater.due_keys where key is null order by model"
    ).fetchall()


def test_a_model_that_has_got_rows_without_a_key_is_recomputed_whole_from_then_on(warehouse: Warehouse) -> None:
    upkeep = Upkeep(warehouse, a_project(a_model()), CLOCK, SMALL)
    batch(warehouse, upkeep)
    warehouse.execute("insert into main.source values (null, 7)")
    upkeep.rebuild("below", "to see")
    upkeep.read()
    batch(warehouse, upkeep)
    deltas = Deltas()
    warehouse.execute("update main.source set v = 8 where k is null")
    deltas.put("main.source", ["k", "v"], Delta("(select null as k, 7 as v)", "(select null as k, 8 as v)"))
    upkeep._refreshed_at.clear()
    batch(warehouse, upkeep, deltas)
    assert warehouse.execute("select v from main.below where k is null").fetchall() == [(8,)]


def test_a_model_that_becomes_refused_owes_nothing(warehouse: Warehouse) -> None:
    Upkeep(warehouse, a_project(a_model()), CLOCK, SMALL)
    warehouse.execute("insert into headwater.due_keys values ('below', 'ann', 'window', ?)", [AT])
    warehouse.execute(
        "insert into headwater.stale_keys (origin_model, origin_key, model, key) values ('below', 'ann', 'below', 'ann')"
    )
    refused = a_project(refused={"below": "it cannot be kept right"}, above={"below": frozenset()})
    upkeep = Upkeep(warehouse, refused, CLOCK, SMALL)
    assert states(warehouse) == [("below", "stopped", "it cannot be kept right")]
    assert not upkeep.anything_owed(AT)
    assert upkeep.backlog == 0
    upkeep.retry_stale(AT)
    upkeep = Upkeep(warehouse, a_project(a_model()), CLOCK, SMALL)
    assert reasons(warehouse) == [("below", "new or changed model")]


def test_a_changed_model_waits_for_the_one_above_whatever_else_it_is_owed_for(warehouse: Warehouse) -> None:
    warehouse.execute("create table main.sums as select k, 0::bigint as s from main.source limit 0")
    warehouse.execute("insert into main.source values ('eve', 1)")
    Upkeep(warehouse, a_project(SUMMED, a_model()), CLOCK, SMALL)
    warehouse.execute("insert into main.source values ('eve', 1)")
    Upkeep(warehouse, a_project(SUMMED, a_model()), CLOCK, SMALL)
    assert reasons(warehouse) == [("below", "new or changed model"), ("sums", "new or changed model")]


def test_a_model_of_sums_that_was_swapped_is_not_built_twice(warehouse: Warehouse) -> None:
    warehouse.execute("create table main.sums as select k from main.source")
    project = a_project(SUMMED)
    upkeep = Upkeep(warehouse, project, CLOCK, ASIDE)
    while not upkeep.build_aside(AT, AT, behind=False):
        build = upkeep.aside._build
        assert build is not None
        build._thread.join()
        assert build.error is None
    assert warehouse.execute("select * from main.sums order by k").fetchall() == [("ann", 1), ("bob", 5)]
    upkeep = Upkeep(warehouse, project, CLOCK, ASIDE)
    assert reasons(warehouse) == []
    assert warehouse.execute("select as_of, refreshed_at from headwater.live_models").fetchall() == [(AT, AT)]


def test_tables_get_their_columns_while_another_connection_writes(warehouse: Warehouse) -> None:
    beside = warehouse.sibling()
    with beside.transaction():
        beside.execute("insert into headwater.sync_places (sync) values ('s')")
        upkeep = Upkeep(warehouse, a_project(a_model("fresh"), SUMMED), CLOCK, SMALL)
    beside.close()
    assert {row[:2] for row in states(warehouse)} == {("fresh", "live"), ("sums", "live")}
    batch(warehouse, upkeep)
    assert warehouse.execute("select * from main.sums order by k").fetchall() == [("ann", 1), ("bob", 5)]


def test_a_kill_after_the_sums_were_made_does_not_leave_empty_ones(
    warehouse: Warehouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    warehouse.execute("create table main.sums as select k, 0::bigint as s from main.source limit 0")
    batch(warehouse, Upkeep(warehouse, a_project(SUMMED), CLOCK, SMALL))
    assert reasons(warehouse) == []
    warehouse.execute("drop table sums.sums")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Warehouse, "checkpoint", killed)
        Upkeep(warehouse, a_project(SUMMED), CLOCK, SMALL)
    Upkeep(warehouse, a_project(SUMMED), CLOCK, SMALL)
    assert reasons(warehouse) == [("sums", "its sums are computed anew")]


def killed(_: Warehouse) -> None:
    raise KeyboardInterrupt
