"""A large model is built aside: its old rows serve, everything else goes on, and what it becomes is what a batch build gives."""

import contextlib
import os
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import live_shop
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, rule
from live_shop import CUSTOMERS, KEYED, LEADS, Live, call
from retail_database import Database
from test_engine_program import Program, run
from test_forget_live import everywhere
from test_sums_live import with_sums

from headwater.live import aside, contents, forget, storage
from headwater.live.project import LiveModel, Project
from headwater.live.upkeep import ModelFailed
from headwater.log.sqlite import SqliteLog
from headwater.warehouse import Warehouse

A, B, C = CUSTOMERS
SCORE, ALERTS = "user_mql_score", "user_alerts"
ASIDE = KEYED.model_copy(update={"aside_rows": 0})
CHILD = Path(__file__).with_name("live_child.py")
POINTS = ("live.aside", "live.aside:3", "live.aside_written", "live.stored", "live.committed")
MORE = "select * replace (mql_score + 1000 as mql_score) from ({sql})"
TWICE = "select *, mql_score * 2 as twice from ({sql})"


class Aside(Live):
    """An engine for which every model is large."""

    @property
    def held(self) -> aside.Aside:
        return self.engine._upkeep.aside

    def wait(self) -> None:
        """Until the thread has ended."""
        if self.held._build is not None:
            self.held._build._thread.join()

    def settle(self, limit: int | None = None) -> list[live_shop.BatchResult]:
        done = []
        while True:
            done += super().settle(limit)
            if self.engine.rebuilding is None:
                return done
            self.wait()

    def changed(self, name: str, sql: str, **to: object) -> None:
        """Another SQL for a model, as after an edit: the engine is parked and resumed."""
        self.project = with_model(self.project, name, sql, **to)
        self.reopen()

    def reopen(self) -> None:
        self.engine.park()
        self.engine = self._engine()

    def restart(self) -> None:
        self.reopen()

    def state(self, name: str = SCORE) -> tuple[str, str | None]:
        return self.rows("select state, message from headwater.live_models where model = ?", [name])[0]  # type: ignore[return-value]

    def close(self) -> None:
        self.engine.close()


def with_model(project: Project, name: str, sql: str, **to: object) -> Project:
    def other(model: LiveModel) -> LiveModel:
        if model.name != name:
            return model
        scoped, whole = (sql.format(sql=one) for one in (model.analysis.scoped, model.analysis.whole))
        analysis = replace(model.analysis, scoped=scoped, whole=whole)
        return replace(model, analysis=analysis, sql_hash=f"{model.sql_hash} {sql}", **to)  # type: ignore[arg-type]

    return replace(project, models=tuple(map(other, project.models)))


@pytest.fixture
def shop(live_home: Path, tmp_path: Path) -> Iterator[Aside]:
    opened = Aside(live_shop.copy(live_home, tmp_path / "shop"), models=LEADS)
    opened.settle()
    opened.step(opened.track("Demo Requested", "L1"), opened.track("Demo Requested", None, "a-1", ago=29 * 86_400))
    opened.settings = ASIDE
    opened.reopen()
    yield opened
    opened.close()


def hold_back(patch: pytest.MonkeyPatch) -> threading.Event:
    """What is built aside has its snapshot, and gets no further before the event is set."""
    gate = threading.Event()

    def held(build: aside._Build, sql: str) -> None:
        while not (gate.wait(0.01) or build._unwanted.is_set()):
            pass
        go_on(build, sql)

    go_on = aside._Build._run
    patch.setattr(aside._Build, "_run", held)
    return gate


@contextlib.contextmanager
def slow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Nothing is built inside."""
    with monkeypatch.context() as patch:
        gate = hold_back(patch)
        try:
            yield
        finally:
            gate.set()


def holds(shop: Aside) -> None:
    """Every row is what a batch build gives, nothing is owed, and what the engine says of its tables is true."""
    shop.settle()
    assert shop.wrong() == []
    assert shop.rows("select * from headwater.due_keys") == []
    assert contents.changed(shop.warehouse, [model.relation for model in shop.project.models]) == {}
    assert {row[0] for row in shop.rows("select state from headwater.live_models")} == {"live"}
    assert shop.rows("select database_name from duckdb_databases() where database_name = ?", [aside.DATABASE]) == []


def traffic(shop: Aside, first: int = 0) -> None:
    """Somebody new, somebody known, a visitor who becomes somebody, and a clock that moves over the edge of a window."""
    shop.push(seconds=1)
    shop.step(
        shop.track("Demo Requested", "NEW", number=first), shop.track("Newsletter Subscribed", "L1", number=first + 1)
    )
    shop.step(call("identify", f"i{first}", shop.now, userId="LATER", anonymousId="a-1"))
    shop.push(days=1, seconds=1)
    shop.step(shop.track("Page Viewed", A, number=first + 2))


def test_landing_and_other_models_go_on_while_a_model_is_built(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shop.rows("select * from user_mql_score order by all")
    scores_before = shop.rows("select person_id, mql_score from user_mql_score")
    with slow(monkeypatch):
        shop.changed(SCORE, MORE, changes=True)
        traffic(shop)
        assert shop.engine.rebuilding == SCORE
        assert shop.rows("select count(*) from fct_events where person_id = 'NEW'") == [(1,)]
        assert shop.rows("select mql_score from user_mql_events where person_id = 'NEW'") == [(30,)]
        assert shop.rows("select * from user_mql_score order by all") == before, "the old rows serve"
        assert shop.engine.backlog >= 3, "NEW, L1, the visitor and who he is: all of them are owed"
        state, message = shop.state()
        assert state == "rebuilding"
        assert message is not None
        assert message.startswith("is built aside since 2026-06-30 00:00:01 UTC")
        assert message.endswith("; its last rows serve")
        assert not shop.engine.step().committed, "nothing is left to do but to wait"
        late = next(one for one in shop.engine.verify() if one.model == SCORE)
        assert late.skipped == "late: new or changed model"
        assert not [one for one in shop.engine.verify() if one.wrong]
    holds(shop)
    scores = dict(
        shop.rows(
            "select person_id, mql_score from user_mql_score where person_id in ('NEW', 'L1', 'LATER', 'anon:a-1')"
        )
    )
    assert scores == {"NEW": 1030, "L1": 1040}, "the visitor's demo is thirty days old"
    assert shop.rows("select mql_score from user_alerts where person_id = 'NEW'") == [(1030,)]
    went, came = (
        shop.rows(
            f"select key, cast({side}->>'mql_score' as bigint) from headwater.model_changes"
            f" where model = ? and {side} is not null order by all",
            [SCORE],
        )
        for side in ("old", "new")
    )
    assert went == sorted(scores_before)
    assert came == shop.rows("select person_id, mql_score from user_mql_score order by all")


def test_a_changed_model_below_a_changed_one_waits_for_it(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    before = shop.rows("select * from user_alerts order by all")
    monkeypatch.setattr(aside, "is_large", lambda _, model, __: model.name == SCORE)
    with slow(monkeypatch):
        shop.project = with_model(shop.project, ALERTS, "select * replace (mql_score - 1000 as mql_score) from ({sql})")
        shop.changed(SCORE, MORE)
        traffic(shop)
        assert shop.state(ALERTS) == ("rebuilding", f"waits until {SCORE} is built aside; its last rows serve")
        assert shop.rows("select * from user_alerts order by all") == before, "1,000 points less would leave nobody"
    holds(shop)
    assert shop.rows("select mql_score from user_alerts where person_id = 'L1'") == [(40,)]


def test_a_table_of_other_columns_is_swapped_and_what_needs_them_waits(
    shop: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    below = (
        "select alerts.*, score.twice from ({sql}) as alerts left join main.user_mql_score as score using (person_id)"
    )
    with slow(monkeypatch):
        shop.project = with_model(shop.project, ALERTS, below)
        shop.changed(SCORE, TWICE, changes=True)
        traffic(shop)
        assert shop.state(ALERTS) == ("rebuilding", f"waits for {SCORE}, whose columns change; its last rows serve")
        assert shop.rows("select mql_score from user_mql_score where person_id = 'L1'") == [(30,)]
        assert shop.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]
        models = shop.project
    shop.wait()
    shop.engine._reload = lambda: models
    holds(shop)
    assert shop.rows("select mql_score, twice from user_alerts where person_id in ('L1', 'NEW') order by all") == [
        (30, 60),
        (40, 80),
    ]
    assert shop.rows(
        "select old->>'twice', new->>'twice' from headwater.model_changes where model = ? and key = 'L1'", [SCORE]
    ) == [(None, "80")]
    traffic(shop, 10)
    holds(shop)


@pytest.mark.long
def test_what_reads_a_swapped_table_follows_it(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    begin = aside.Aside._begin
    monkeypatch.setattr(aside.Aside, "_begin", lambda *own: (begun.append(own[1].name), begin(*own))[1])
    shop.changed(SCORE, "select * replace (mql_score + 1000 as mql_score), 1 as one from ({sql})")
    holds(shop)
    assert begun == [SCORE, ALERTS], "each once"
    assert shop.rows("select mql_score from user_alerts where person_id = 'L1'") == [(1030,)]


@pytest.mark.long
def test_a_second_change_throws_the_first_away(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    original = shop.project
    with slow(monkeypatch):
        shop.changed(SCORE, MORE)
        traffic(shop)
        shop.project = original
        shop.changed(SCORE, "select * replace (mql_score + 2000 as mql_score) from ({sql})")
        shop.step(shop.track("Demo Requested", "L2"))
        assert shop.engine.rebuilding == SCORE
    holds(shop)
    assert shop.rows("select mql_score from user_mql_score where person_id in ('L1', 'L2') order by 1") == [
        (2030,),
        (2040,),
    ]


@pytest.mark.long
def test_a_model_that_cannot_be_built_is_stopped_and_tried_again(shop: Aside) -> None:
    original = shop.project
    traffic(shop)
    shop.changed(SCORE, "select * replace (cast(person_id || '!' as bigint) as mql_score) from ({sql})")
    shop.settle()
    state, message = shop.state()
    assert (state, message and message.partition(":")[0]) == ("stopped", "ConversionException")
    assert shop.rows("select mql_score from user_mql_score where person_id = 'L1'") == [(40,)]
    shop.push(seconds=29)
    shop.engine.step()
    assert shop.engine.rebuilding is None
    shop.push(seconds=1)
    shop.engine.step()
    assert shop.engine.rebuilding == SCORE
    shop.project = original
    shop.reopen()
    holds(shop)


@pytest.mark.long
def test_rows_that_were_wrong_or_changed_from_outside_are_put_right_aside(
    shop: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    shop.settle()
    shop.warehouse.execute("insert into user_mql_events select user_mql_events.* from user_mql_events, range(2)")
    shop.warehouse.execute("delete from user_mql_score where person_id = 'L1'")
    shop.engine.verify(mend=True)
    with slow(monkeypatch):
        traffic(shop)
        assert shop.engine.rebuilding == "user_mql_events"
        assert shop.state()[0] == "rebuilding"
    shop.settle()
    assert shop.wrong() == []
    shop.engine.park()
    shop.warehouse.execute("update user_mql_score set mql_score = 7")
    shop.reopen()
    with slow(monkeypatch):
        traffic(shop, 10)
        assert shop.state()[0] == "rebuilding"
    holds(shop)


def test_a_small_model_is_recomputed_in_the_batch(shop: Aside) -> None:
    shop.settings = KEYED
    shop.changed(SCORE, MORE)
    shop.step()
    assert shop.engine.rebuilding is None
    assert shop.rows("select mql_score from user_alerts where person_id = 'L1'") == [(1030,)]


@pytest.mark.long
def test_sums_are_built_aside_too(live_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shop = Aside(live_shop.copy(live_home, tmp_path / "sums"), models=LEADS)
    with_sums(shop)
    shop.settle()
    shop.settings = ASIDE
    shop.reopen()
    shop.engine.rebuild(["event_sums"], "to see")
    with slow(monkeypatch):
        shop.push(seconds=1)
        shop.step(shop.track("Demo Requested", A), shop.track("Page Viewed", B, ago=29 * 86_400))
        shop.push(days=1)
        shop.step(shop.track("Page Viewed", A))
        assert shop.engine.rebuilding == "event_sums"
    holds(shop)
    shop.step(shop.track("Page Viewed", A), shop.track("Page Viewed", C))
    holds(shop)
    shop.close()


@pytest.mark.long
def test_what_concerns_every_row_overtakes_the_build(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = tuple(
        replace(path, everything=True, sql="select cast(null as varchar) as key from {delta}")
        if path.source == "main.user_mql_events"
        else path
        for path in shop.project.model(SCORE).analysis.paths
    )
    score = shop.project.model(SCORE)
    shop.project = replace(
        shop.project,
        models=tuple(
            replace(one, analysis=replace(one.analysis, paths=paths)) if one is score else one
            for one in shop.project.models
        ),
    )
    with slow(monkeypatch):
        shop.changed(SCORE, MORE)
        shop.engine.step()
        assert shop.engine.rebuilding == SCORE
    shop.push(seconds=1)
    shop.step(shop.track("Demo Requested", "L2"))
    assert shop.rows("select mql_score from user_mql_score where person_id = 'L2'") == [(1030,)]
    holds(shop)


@pytest.mark.long
def test_who_is_forgotten_during_the_build_does_not_come_back(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    spilt = shop.folder / "warehouse" / "shop.duckdb.tmp" / "duckdb_temp_storage_DEFAULT-0.tmp"
    with slow(monkeypatch):
        shop.step(shop.track("Demo Requested", "lead-to-forget", "browser-to-forget"))
        shop.changed(SCORE, MORE)
        shop.step()
        assert shop.engine.rebuilding == SCORE
        shop.engine.park()
        spilt.parent.mkdir(exist_ok=True)
        spilt.write_bytes(b"what a killed engine has put on the disk, compressed")
        forget.forget(shop.folder, shop.warehouse, shop.log, "lead-to-forget", shop.clock)
        assert not spilt.exists()
        shop.warehouse.close()
        shop.engine.resume()
        shop.step()
    holds(shop)
    assert "to-forget" not in everywhere(shop)
    assert shop.rows("select mql_score from user_mql_score where person_id = 'L1'") == [(1030,)]


@pytest.mark.long
def test_the_file_is_given_away_at_once_and_holds_nothing_of_the_build(
    shop: Aside, monkeypatch: pytest.MonkeyPatch
) -> None:
    endless = (
        "select * from ({sql}) where (select sum(hash(a.i, b.i)) from range(100000000) a(i), range(100000000) b(i)) > 0"
    )
    shop.changed(SCORE, endless)
    shop.step()
    assert shop.engine.rebuilding == SCORE
    monkeypatch.setattr(storage.Size, "worth_rewriting", True)
    assert shop.engine.compact() is None, "a compaction waits"
    with Warehouse(shop.engine.publish(), read_only=True) as published:
        assert published.rows("select * from duckdb_tables() where table_name in ('wanted', 'gone', 'came')") == []
    shop.engine.park()
    assert storage.compact(shop.warehouse) > 0
    shop.warehouse.close()
    shop.engine.resume()
    shop.step()
    assert shop.engine.rebuilding == SCORE, "it has begun again"


@pytest.mark.long
def test_a_database_may_bring_a_new_table_meanwhile(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    with slow(monkeypatch):
        shop.changed(SCORE, MORE)
        shop.step()
        shop.log.append([Database().put("customers", {"customerid": 7, "customername": "Ada"})])
        shop.step(shop.track("Demo Requested", "L2"))
        assert shop.rows("select customername from landed.retail__customers") == [("Ada",)]
    holds(shop)
    assert shop.rows("select mql_score from user_mql_score where person_id = 'L2'") == [(1030,)]


@pytest.mark.long
def test_when_memory_is_short_a_batch_goes_before_a_build(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    class OutOfMemoryException(Exception):
        pass

    with slow(monkeypatch):
        shop.changed(SCORE, MORE)
        shop.step()
        failed: dict[str, str] = {}
        shop.engine._upkeep.failure(failed, ModelFailed(ALERTS, OutOfMemoryException("no")))
        assert (failed, shop.engine.rebuilding) == ({}, None)
        shop.engine.step()
        assert shop.engine.rebuilding is None, "not at once"
        shop.push(seconds=31)
        shop.engine.step()
        assert shop.engine.rebuilding == SCORE
    holds(shop)


@pytest.mark.long
def test_an_engine_that_is_far_behind_lets_the_build_go(shop: Aside, monkeypatch: pytest.MonkeyPatch) -> None:
    with slow(monkeypatch):
        shop.settings = ASIDE.model_copy(
            update={"batch_rows": 2, "max_batch_rows": 20, "full_share": 0.01, "full_above": 3}
        )
        shop.changed(SCORE, TWICE)
        shop.step()
        assert shop.engine.rebuilding == SCORE
    shop.send(*(shop.track("Demo Requested", f"P{n % 30}") for n in range(200)))
    holds(shop)
    assert shop.rows("select count(*) from user_mql_score where person_id like 'P%' and twice = 60") == [(30,)]


def killed(shop: Aside, point: str, project: Project) -> None:
    """An engine with that project, until it passes the point."""
    pickled = shop.folder.parent / "project.pickle"
    pickled.write_bytes(pickle.dumps(project))
    command = [sys.executable, str(CHILD), str(shop.folder), str(pickled), "3600", "0"]
    done = subprocess.run(
        command, env={**os.environ, "HEADWATER_FAILPOINT": point}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 137, f"{point} was never passed: {done.stderr[-2000:]}"


class AsideProgram(Program):
    """Any order of events, edits, clock jumps, restarts and kills while models are built aside, however long that takes."""

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="aside"))
        self.live = Aside(live_shop.copy(self.home, self.scratch / "shop"), models=LEADS)
        self.live.settle()
        self.live.settings = ASIDE
        self.live.restart()
        self.original = self.live.project
        self.patch = pytest.MonkeyPatch()
        self.gate = hold_back(self.patch)

    @rule(model=st.sampled_from([SCORE, ALERTS, "user_mql_events"]))
    def build(self, model: str) -> None:
        self.live.engine.rebuild([model], "to see")
        self.live.engine.step()

    @rule(long=st.booleans())
    def take_long(self, long: bool) -> None:
        (self.gate.clear if long else self.gate.set)()

    @rule(more=st.sampled_from([1, 2]), wider=st.booleans())
    def change_columns(self, more: int, wider: bool) -> None:
        sql = "select * replace (mql_score + {more} as mql_score){column} from ({{sql}})"
        column = f", {more} as more" if wider else ""
        self.live.project = with_model(self.original, SCORE, sql.format(more=more, column=column))
        self.live.restart()

    @invariant()
    def every_table_is_what_its_sql_gives(self) -> None:
        if hasattr(self, "live"):
            self.live.engine.step()
            assert not [one for one in self.live.engine.verify() if one.wrong]

    @rule()
    def come_to_rest(self) -> None:
        self.gate.set()
        super().every_table_is_what_its_sql_gives()

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.come_to_rest()
            self.patch.undo()
        super().teardown()


@pytest.mark.long
def test_programs_with_models_built_aside(live_home: Path) -> None:
    run(AsideProgram, live_home, examples=2, steps=8)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_many_programs_with_models_built_aside(live_home: Path) -> None:
    run(AsideProgram, live_home, examples=80, steps=40)


@pytest.mark.crash
def test_a_kill_while_a_model_is_built_leaves_the_old_rows_and_it_begins_again(live_home: Path, tmp_path: Path) -> None:
    home = live_shop.copy(live_home, tmp_path / "shop")

    def log() -> SqliteLog:
        return SqliteLog(home / "warehouse" / "log.sqlite")

    shop = Aside(home, log=log(), models=LEADS, settings=ASIDE)
    shop.settle()
    shop.step(shop.track("Demo Requested", "L1"))
    shop.engine.close()
    for number, point in enumerate((*POINTS, "live.aside_swapped")):
        shop.log = log()
        shop.send(shop.track("Demo Requested", f"P{number}"), shop.track("Page Viewed", "L1"))
        shop.log.close()
        changed = with_model(
            shop.project, SCORE, TWICE if point == "live.aside_swapped" else MORE.replace("1000", f"1000 + {number}")
        )
        killed(shop, point, changed)
    shop.project = changed
    shop.log = log()
    shop.push(days=2)
    shop.reopen()
    holds(shop)
    landed = shop.rows("select event_id from collected.events")
    assert sorted(row[0] for row in landed) == sorted(entry.message_id for entry in shop.entries)
    shop.close()
