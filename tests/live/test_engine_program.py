"""Any order of events, repeats, merges, un-merges, edits, clock jumps, restarts and kills: after each the tables are right."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import live_shop
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from live_shop import CUSTOMERS, KEYED, LEADS, Live, call

from headwater.live import engine as engine_module
from headwater.live import persons, upkeep
from headwater.live.project import Project

PEOPLE = st.sampled_from([*CUSTOMERS[:2], "L1", "L2", None])
VISITORS = st.sampled_from(["a-1", "a-2", "a-3"])
EVENTS = st.sampled_from(["Page Viewed", "Demo Requested", "Newsletter Subscribed", "Meetup Attended"])
AGO = st.sampled_from([0, 1, 1_000, 1_801, 86_400, 29 * 86_400, 30 * 86_400, 45 * 86_400, -60, -86_400])
KILLED_AT = st.sampled_from(
    ["live.landed", "live.identified", "live.model", "live.refreshed", "live.stored", "live.committed"]
)


class Killed(BaseException):
    """Stands for SIGKILL within the process."""


class Program(RuleBasedStateMachine):
    """Bundles nothing: the log remembers what was sent. `home` is set by the test."""

    home: Path

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="program"))
        self.live = Live(live_shop.copy(self.home, self.scratch / "shop"), settings=KEYED, models=LEADS)
        self.original = self.live.project
        self.live.settle()

    def teardown(self) -> None:
        if hasattr(self, "live"):
            self.live.close()
            shutil.rmtree(self.scratch)

    @rule(who=PEOPLE, visitor=VISITORS | st.none(), event=EVENTS, ago=AGO, now=st.booleans())
    def track(self, who: str | None, visitor: str | None, event: str, ago: int, now: bool) -> None:
        self.live.send(self.live.track(event, who, visitor if who or visitor else "a-1", ago=ago))
        if now:
            self.live.engine.step()

    @precondition(lambda self: self.live.entries)
    @rule(data=st.data(), limit=st.sampled_from([1, 2, None]))
    def repeat(self, data: st.DataObject, limit: int | None) -> None:
        self.live.send(data.draw(st.sampled_from(self.live.entries)))
        self.live.engine.step(limit)

    @rule(who=st.sampled_from(["L1", "L2", CUSTOMERS[0]]), visitor=VISITORS, ago=AGO)
    def identify(self, who: str, visitor: str, ago: int) -> None:
        at = self.live.now - live_shop.timedelta(seconds=max(0, ago))
        self.live.step(call("identify", f"i{len(self.live.entries)}", at, userId=who, anonymousId=visitor))

    @rule(old=VISITORS | st.just("L2"), who=st.sampled_from(["L1", CUSTOMERS[1]]))
    def alias(self, old: str, who: str) -> None:
        self.live.step(call("alias", f"l{len(self.live.entries)}", self.live.now, previousId=old, userId=who))

    @rule(data=st.data())
    def undo(self, data: st.DataObject) -> None:
        self.live.settle()
        links = self.live.rows("select link_id from headwater.identity_links where undone_at is null order by link_id")
        if not links:
            return
        self.live.engine.park()
        persons.prepare(self.live.warehouse)
        with self.live.warehouse.transaction():
            link = data.draw(st.sampled_from(links))[0]
            persons.undo(self.live.warehouse, link, "a mistake", self.live.now, self.live.engine.identity)
        self.live.warehouse.close()
        self.live.engine.resume()

    @rule(event=st.sampled_from(["demo_requested", "meetup_attended"]), score=st.integers(0, 40))
    def edit_a_score(self, event: str, score: int) -> None:
        self.live.engine.park()
        self.live.warehouse.execute("update main.mql_score set mql_score = ? where event_name = ?", [score, event])
        self.live.warehouse.close()
        self.live.engine.resume()

    @rule(seconds=st.sampled_from([1, 60, 1_801, 86_400, 29 * 86_400, 31 * 86_400, 400 * 86_400]))
    def push_the_clock(self, seconds: int) -> None:
        self.live.push(seconds=seconds)

    @rule(threshold=st.sampled_from([10, 20, 31]))
    def change_a_model(self, threshold: int) -> None:
        def changed(sql: str) -> str:
            return sql.replace(">= 20", f">= {threshold}")

        models = tuple(
            replace(
                model,
                sql_hash=f"{model.sql_hash}{threshold}",
                analysis=replace(
                    model.analysis, scoped=changed(model.analysis.scoped), whole=changed(model.analysis.whole)
                ),
            )
            if model.name == "user_alerts"
            else model
            for model in self.original.models
        )
        assert threshold == 20 or models != self.original.models
        self.live.engine.park()
        self.live.project = Project(models, self.original.sources)
        self.live.restart()

    @rule()
    def restart(self) -> None:
        self.live.restart()

    @rule(name=KILLED_AT, who=st.sampled_from(["L1", None]), visitor=VISITORS)
    def kill(self, name: str, who: str | None, visitor: str) -> None:
        self.live.send(self.live.track("Demo Requested", who, visitor))

        def passing(passed: str) -> None:
            if passed == name:
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "failpoint", passing)
            patch.setattr(upkeep, "failpoint", passing)
            with pytest.raises(Killed):
                self.live.engine.step()
        self.live.restart()

    @invariant()
    def every_table_is_what_its_sql_gives(self) -> None:
        if not hasattr(self, "live"):
            return
        self.live.settle()
        assert self.live.wrong() == []
        sent = {entry.message_id for entry in self.live.entries}
        landed = self.live.rows(
            "select event_id from collected.events union all select event_id from collected.identifies"
            " union all select event_id from collected.aliases"
        )
        assert {row[0] for row in landed} == sent


def run(program: type[Program], home: Path, examples: int, steps: int) -> None:
    machine: Callable[[], Program] = type(program.__name__, (program,), {"home": home})  # type: ignore[assignment]
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_programs(live_home: Path) -> None:
    run(Program, live_home, examples=3, steps=7)


@pytest.mark.slow
@pytest.mark.timeout(7_200)
def test_many_programs(live_home: Path) -> None:
    run(Program, live_home, examples=150, steps=40)
