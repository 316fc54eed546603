"""The engine keeps additive models by adding and taking away, through restarts, kills, rebuilds, compaction and other people's hands."""

import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import live_shop
import pytest
from hypothesis.stateful import initialize
from lineage_lab import within
from live_shop import AS_OF, CUSTOMERS, KEYED, LEADS, Live
from test_engine_program import Killed, Program, run

from headwater.errors import ConfigError
from headwater.live import engine as engine_module
from headwater.live import project as projects
from headwater.live import storage, upkeep
from headwater.live.analysis import Relation
from headwater.live.deltas import at_moment
from headwater.live.lineage import analyse
from headwater.live.project import LiveModel, Project
from headwater.live.sums import Sums

A = CUSTOMERS[0]
MODELS = {
    "event_sums": (
        "customer_id",
        f"select customer_id, event_name, count(*) as events, count(case when {within('occurred_at', '30 days')} then 1 end) as events_30d, "
        "sum(length(event_name)) as letters from fct_events where customer_id is not null group by customer_id, event_name",
    ),
    "visitor_month": (
        "anonymous_id",
        f"select anonymous_id, count(*) as events, sum(position) as positions from collected.events "
        f"where {within('occurred_at', '30 days')} and anonymous_id is not null group by anonymous_id",
    ),
}
BEFORE_COMMIT = ("live.landed", "live.statement", "live.model", "live.refreshed", "live.stored")


def with_sums(live: Live) -> None:
    """Add the additive models to the live ones, and build them as a build would have."""
    w = live.warehouse
    relations = {name: Relation(name, columns) for name, columns in projects._columns(w).items()}
    added = []
    for name, (key, sql) in MODELS.items():
        w.execute(f"create table main.{name} as {at_moment(sql, AS_OF)}")
        types = {row[0]: row[1] for row in w.execute(f"describe main.{name}").fetchall()}
        here = relations | {f"main.{name}": Relation(f"main.{name}", types)}
        analysis = projects._with_sums(w, analyse(name, f"main.{name}", sql, key, here, {}))
        assert analysis.mode == "delta", (analysis.why_full, analysis.why_not_additive)
        added.append(LiveModel(name, analysis, f"hash of {name}", changes=name == "event_sums"))
    live.project = Project((*live.project.models, *added), live.project.sources)
    live.restart()


@pytest.fixture
def shop(live_home: Path, tmp_path: Path) -> Iterator[Live]:
    """The leads and the additive models."""
    opened = Live(live_shop.copy(live_home, tmp_path / "shop"), settings=KEYED, models=LEADS)
    with_sums(opened)
    opened.settle()
    yield opened
    opened.close()


def advanced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Which models were advanced from here on."""
    seen: list[str] = []
    advance = Sums.advance

    def told(self: Sums, *arguments: object, **named: object) -> int:
        seen.append(self.model.name)
        return advance(self, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Sums, "advance", told)
    return seen


def events(shop: Live, who: str = A) -> int:
    return shop.rows("select coalesce(sum(events), 0) from event_sums where customer_id = ?", [who])[0][0]


def test_events_are_added_and_leave_with_their_window(shop: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, before = advanced(monkeypatch), events(shop)
    shop.push(seconds=1)
    result = shop.step(shop.track("Demo Requested", A, "a-1"), shop.track("Page Viewed", A, "a-1", ago=29 * 86_400))
    assert {"event_sums", "visitor_month"} <= set(result.moved)
    assert set(seen) == set(MODELS)
    assert events(shop) == before + 2
    assert shop.rows("select events from visitor_month where anonymous_id = 'a-1'") == [(2,)]
    for days, left in ((1, [(1,)]), (28, [(1,)]), (1, [])):
        shop.push(days=days)
        shop.settle()
        assert shop.rows("select events from visitor_month where anonymous_id = 'a-1'") == left
        assert shop.wrong() == []
    assert events(shop) == before + 2
    changes = "select count(*) from headwater.model_changes where model = 'event_sums' and key = ?"
    assert shop.rows(changes, [A])[0][0] >= 2


@pytest.mark.long
def test_after_a_restart_nothing_is_computed_anew(shop: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.push(seconds=1)
    shop.step(shop.track("Demo Requested", A, "a-1"))
    shop.push(days=5)
    shop.settle()
    seen = advanced(monkeypatch)
    shop.restart()
    shop.engine.open()
    assert shop.rows("select model from headwater.due_keys") == []
    shop.push(days=25)
    shop.step(shop.track("Page Viewed", A))
    assert set(seen) == set(MODELS)
    assert shop.wrong() == []


@pytest.mark.parametrize("name", BEFORE_COMMIT)
@pytest.mark.long
def test_a_kill_leaves_the_sums_of_the_last_batch(shop: Live, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shop.push(days=3)
    shop.send(shop.track("Demo Requested", A, "a-1"))

    def passing(passed: str) -> None:
        if passed == name:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(engine_module, "failpoint", passing)
        patch.setattr(upkeep, "failpoint", passing)
        with pytest.raises(Killed):
            shop.engine.step()
    shop.restart()
    shop.settle()
    assert shop.wrong() == []
    assert shop.rows("select events from visitor_month where anonymous_id = 'a-1'") == [(1,)]


@pytest.mark.long
def test_somebody_elses_change_is_counted_whole(shop: Live) -> None:
    shop.step(shop.track("Demo Requested", A, "a-1"))
    shop.engine.park()
    shop.warehouse.execute("delete from main.event_sums where customer_id = ?", [A])
    shop.warehouse.execute("delete from collected.events where anonymous_id = 'a-1'")
    shop.warehouse.close()
    shop.engine.resume()
    shop.settle()
    assert shop.wrong() == []
    assert shop.rows("select * from visitor_month where anonymous_id = 'a-1'") == []


@pytest.mark.long
def test_a_clock_that_somebody_else_has_moved_is_noticed(shop: Live) -> None:
    """Nothing that is seen has changed, and yet the sums are of an earlier moment."""
    shop.push(seconds=1)
    shop.step(shop.track("Demo Requested", A, "a-1"))
    shop.engine.park()
    shop.warehouse.execute("update headwater.clock set as_of = as_of + interval 31 day")
    shop.warehouse.execute("delete from main.visitor_month")
    shop.warehouse.execute("delete from headwater.live_tables")
    contents = "select relation from headwater.live_tables"
    assert shop.rows(contents) == []
    shop.warehouse.close()
    shop.push(days=31)
    shop.engine.resume()
    refreshes = shop.engine._upkeep._refreshes.values()
    assert [one.hold() for one in refreshes if isinstance(one, Sums)] == [False, False]
    shop.settle()
    assert shop.wrong() == []


@pytest.mark.long
def test_a_rebuild_a_compaction_and_lost_sums_are_survived(shop: Live) -> None:
    shop.step(shop.track("Demo Requested", A, "a-1"))
    shop.engine.rebuild(list(MODELS), "to see")
    shop.settle()
    storage.compact(shop.warehouse)
    shop.restart()
    shop.step(shop.track("Page Viewed", A, "a-1"))
    assert shop.wrong() == []
    shop.warehouse.execute("drop table sums.event_sums")
    shop.restart()
    shop.settle()
    shop.step(shop.track("Page Viewed", A, "a-1"))
    assert shop.wrong() == []
    assert shop.rows("select count(*) from sums.event_sums")[0][0] > 0


@pytest.mark.long
def test_sums_of_a_model_that_is_no_longer_additive_go(shop: Live) -> None:
    models = tuple(
        replace(model, sql_hash="other", analysis=replace(model.analysis, mode="keyed"))
        if model.name == "event_sums"
        else model
        for model in shop.project.models
    )
    shop.project = Project(models, shop.project.sources)
    shop.restart()
    shop.settle()
    assert shop.rows("select table_name from duckdb_tables() where schema_name = 'sums'") == [("visitor_month",)]
    assert shop.wrong() == []


@pytest.mark.long
def test_a_tampered_row_is_found_and_mended(shop: Live) -> None:
    shop.step(shop.track("Demo Requested", A, "a-1"))
    shop.warehouse.execute("update sums.visitor_month set _n = _n + 1 where anonymous_id = 'a-1'")
    shop.step(shop.track("Page Viewed", A, "a-1"))
    assert [one.model for one in shop.engine.verify(mend=True) if one.wrong] == ["visitor_month"]
    shop.settle()
    assert shop.wrong() == []


@pytest.mark.long
def test_a_model_that_fails_catches_up_with_its_sums(shop: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def failing(self: Sums, *_: object) -> object:
            raise RuntimeError(f"{self.model.name} has no room")

        patch.setattr(Sums, "moved", failing)
        shop.push(seconds=1)
        result = shop.step(shop.track("Demo Requested", A, "a-1"))
        assert set(result.failed) == set(MODELS)
    shop.push(days=2)
    shop.step(shop.track("Page Viewed", A, "a-1"))
    shop.settle()
    assert shop.wrong() == []
    assert shop.rows("select events from visitor_month where anonymous_id = 'a-1'") == [(2,)]


class SumsProgram(Program):
    """The same programs over a project with additive models."""

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="sums"))
        self.live = Live(live_shop.copy(self.home, self.scratch / "shop"), settings=KEYED, models=LEADS)
        with_sums(self.live)
        self.original = self.live.project
        self.live.settle()

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.live.close()
            shutil.rmtree(self.scratch)


@pytest.mark.long
def test_programs_with_sums(live_home: Path) -> None:
    run(SumsProgram, live_home, examples=2, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_many_programs_with_sums(live_home: Path) -> None:
    run(SumsProgram, live_home, examples=60, steps=40)


def test_the_project_chooses_by_proof(live_home: Path, tmp_path: Path) -> None:
    """`mode: delta` that cannot be proved is refused with the reason; `auto` falls back to keyed."""
    live = Live(live_shop.copy(live_home, tmp_path / "shop"), models=LEADS)
    sql = "select customer_id, sum(mql_score / 2) as x from user_mql_score where customer_id is not null group by customer_id"
    live.warehouse.execute(f"create table main.halves as {sql}")
    relations = {name: Relation(name, columns) for name, columns in projects._columns(live.warehouse).items()}
    node = {"name": "halves", "schema": "main"}

    def model(mode: str, sql: str) -> LiveModel:
        return projects._model(live.warehouse, node, {"key": "customer_id", "mode": mode}, sql, relations)

    with pytest.raises(ConfigError, match=r"halves.*DOUBLE.*DECIMAL|halves: its meta says `mode: delta`"):
        model("delta", sql)
    whole = sql.replace(" / 2", "")
    assert model("delta", whole).analysis.mode == model("auto", whole).analysis.mode == "delta"
    assert model("keyed", whole).analysis.mode == "keyed"
    assert model("full", whole).analysis.mode == "full"
    highest = whole.replace("sum(", "max(")
    assert model("auto", highest).analysis.mode == "keyed"
    with pytest.raises(ConfigError, match=r"MAX.* is neither a sum nor a count. Mend its SQL, or write `mode: auto`"):
        model("delta", highest)
    live.close()
