"""Whatever happens to model, plans and calls, in the end the destination holds what the model says, and every row is accounted for.

Hypothesis changes the model, plans, delivers with faults, and kills the process in the middle (an exception that nothing
catches, which leaves the warehouse as a kill would: what was committed stays, the rest is gone; `test_kill.py` kills for real).
"""

import shutil
import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import stamina
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from headwater.activation import deliver as deliver_module
from headwater.activation.deliver import Delivery, deliver
from headwater.activation.destinations import Limits
from headwater.activation.plan import plan
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.errors import Refused
from headwater.testing.fake_destination import SHELVES, Shelf
from headwater.warehouse import Warehouse

KEYS = [f"k{number}" for number in range(6)]
VALUES = [None, "a", "b"]
POINTS = [
    "activate.planned",
    "activate.claimed",
    "activate.answered",
    "activate.sent",
    "activate.recorded",
    "activate.finished",
]
FAULTS = ["ok", "ok", "later", "lost_answer", "lost_request", "wrong_count", "unusable"]
NAMES = count()

models = st.dictionaries(st.sampled_from(KEYS), st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), max_size=6)


class Killed(BaseException):
    """The process ends here."""


class Truth(RuleBasedStateMachine):
    """One sync to one shelf."""

    mode: str
    write_nulls: bool

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.shelf_name = f"truth{next(NAMES)}"
        self.shelf = SHELVES[self.shelf_name] = Shelf(limits=Limits(max_rows=2))
        self.warehouse = Warehouse(":memory:")
        self.clock = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
        self.destination = DestinationSettings(
            type="headwater.testing.fake_destination:FakeDestination", options={"shelf": self.shelf_name}, attempts=2
        )
        self.model: dict[str, tuple[Any, Any]] = {}
        self.ever: set[str] = set()
        self.held_now: set[str] = set()

    def teardown(self) -> None:
        self.warehouse.close()
        shutil.rmtree(self.folder)
        del SHELVES[self.shelf_name]

    @initialize(mode=st.sampled_from(["upsert", "update", "insert", "mirror"]), write_nulls=st.booleans())
    def start(self, mode: str, write_nulls: bool) -> None:
        self.mode, self.write_nulls = mode, write_nulls
        self.sync = SyncSettings(
            name="people",
            model="people",
            destination="shelf",
            key="id",
            fields={"name": "name", "city": "city"},
            mode=self.mode,
            write_nulls=self.write_nulls,
            max_removal_share=1,
            max_failed_share=1,
        )
        self.change({})

    @rule(model=models)
    def change(self, model: dict[str, tuple[Any, Any]]) -> None:
        self.model = model
        self.ever |= set(model)
        self.warehouse.execute("create or replace table main.people (id varchar, name varchar, city varchar)")
        for key, (name, city) in model.items():
            self.warehouse.execute("insert into main.people values (?, ?, ?)", [key, name, city])

    @rule(
        faults=st.lists(st.sampled_from(FAULTS), max_size=6),
        refused=st.sets(st.sampled_from(KEYS), max_size=2),
        poison=st.sets(st.sampled_from(KEYS), max_size=2),
        held=st.sets(st.sampled_from(KEYS), max_size=2),
    )
    def deliver_badly(self, faults: list[Any], refused: set[str], poison: set[str], held: set[str]) -> None:
        self.shelf.faults, self.shelf.refused, self.shelf.poison, self.held_now = list(faults), refused, poison, held
        self.check_counts(self.deliver())

    @rule(
        point=st.sampled_from(POINTS),
        nth=st.integers(1, 3),
        faults=st.lists(st.sampled_from(FAULTS), max_size=3),
    )
    def die(self, point: str, nth: int, faults: list[Any]) -> None:
        self.shelf.faults, self.shelf.refused, self.shelf.poison, self.held_now = list(faults), set(), set(), set()
        passed = count(1)

        def failpoint(name: str) -> None:
            if name == point and next(passed) == nth:
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(deliver_module, "failpoint", failpoint)
            with suppress(Killed):
                self.deliver()

    @rule(model=models)
    def stale_plan(self, model: dict[str, tuple[Any, Any]]) -> None:
        """A plan made before a change is sent as reviewed, or refused: never something else."""
        self.shelf.faults, self.shelf.refused, self.shelf.poison, self.held_now = [], set(), set(), set()
        reviewed = plan(self.warehouse, self.sync, self.destination, self.clock, folder=self.folder)
        wanted = {operation.operation_id for operation in reviewed.operations()}
        self.change(model)
        before = len(self.shelf.calls)
        try:
            self.check_counts(self.deliver(reviewed))
        except Refused:
            assert len(self.shelf.calls) == before
        else:
            assert {sent for call in self.shelf.calls[before:] for sent in call} == wanted

    @rule()
    def settle(self) -> None:
        """An undisturbed run brings the destination to what the model says, and the next one has nothing to do."""
        self.shelf.faults, self.shelf.refused, self.shelf.poison, self.held_now = [], set(), set(), set()
        first = self.deliver()
        self.check_counts(first)
        assert first.failed == first.held == first.left == 0
        self.check_destination()
        calls = len(self.shelf.calls)
        assert self.deliver().status == "nothing"
        assert len(self.shelf.calls) == calls

    def deliver(self, reviewed: Any = None) -> Delivery:
        return deliver(
            self.warehouse,
            reviewed,
            self.sync,
            self.destination,
            self.clock,
            False,
            recheck=self.recheck,
            folder=self.folder,
        )

    def recheck(self, relation: str) -> list[tuple[str, str, str]]:
        rows = self.warehouse.rows(f"select operation_id, key from {relation}")
        return [(row["operation_id"], "consent", "said no") for row in rows if row["key"] in self.held_now]

    def check_counts(self, delivery: Delivery) -> None:
        assert delivery.planned == delivery.confirmed + delivery.failed + delivery.held + delivery.left
        run = self.warehouse.rows("from headwater.sync_runs where sync_run_id = ?", [delivery.sync_run_id])[0]
        assert (run["confirmed"], run["failed"], run["held"]) == (delivery.confirmed, delivery.failed, delivery.held)
        assert self.warehouse.value("select count(*) from headwater.outbox where state = 'claimed'") == 0

    def check_destination(self) -> None:
        wanted = {
            key: {name: value for name, value in zip(("name", "city"), row, strict=True) if value is not None}
            for key, row in self.model.items()
        }
        for key, row in wanted.items():
            there = self.shelf.rows[key]
            if self.write_nulls and self.mode != "insert":
                assert there == dict(zip(("name", "city"), self.model[key], strict=True))
            elif self.mode != "insert":
                assert there == there | row
        if self.mode == "mirror":
            assert set(self.shelf.rows) == set(wanted)
        else:
            assert set(wanted) <= set(self.shelf.rows) <= self.ever

    @invariant()
    def confirmed_is_true(self) -> None:
        """A row counts as delivered only if the destination has it; a key has at most one open operation."""
        if self.warehouse.exists("delivered.people"):
            for row in self.warehouse.rows("from delivered.people"):
                assert row["_headwater_key"] in self.shelf.rows or self.in_doubt(row["_headwater_key"])
        repeated = "select key from headwater.outbox where state in ('ready', 'claimed', 'failed', 'held') group by key having count(*) > 1"
        assert self.warehouse.rows(repeated) == []
        assert self.warehouse.rows("select operation_id from headwater.outbox group by 1 having count(*) > 1") == []

    def in_doubt(self, key: str) -> bool:
        return bool(
            self.warehouse.value(
                "select count(*) from headwater.outbox where key = ? and (in_doubt or state = 'claimed')", [key]
            )
        )


@pytest.fixture(autouse=True)
def quick():
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


def test_the_destination_comes_to_hold_what_the_model_says():
    run_state_machine_as_test(Truth, settings=settings(max_examples=10, stateful_step_count=8, deadline=None))


def test_a_removal_that_was_lost_and_then_refused_stays_in_doubt():
    """Else the row would count as delivered, and would not be sent when the model asks for it again."""
    state = Truth()
    try:
        state.start(mode="mirror", write_nulls=False)
        state.change({"k1": ("a", None), "k2": ("b", None)})
        state.settle()
        state.change({"k1": ("a", None)})
        state.die(faults=["ok"], nth=1, point="activate.sent")
        state.deliver_badly(faults=[], refused={"k2"}, poison=set(), held=set())
        state.confirmed_is_true()
        state.change({"k1": ("a", None), "k2": ("b", None)})
        state.settle()
    finally:
        state.teardown()


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_the_destination_comes_to_hold_what_the_model_says_for_long():
    run_state_machine_as_test(Truth, settings=settings(max_examples=200, stateful_step_count=25, deadline=None))
