"""Which decision an outcome belongs to: examples, and a slow walk through every row that must give the same."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from learning_cases import START, Did, Made, happen, set_clock, write

from headwater.decisions import logged
from headwater.decisions.attribution import attribute
from headwater.decisions.settings import DecisionSettings, GoalSettings
from headwater.errors import DataError
from headwater.warehouse import Warehouse

SETTINGS = DecisionSettings()


@pytest.fixture(scope="module")
def warehouse():
    with Warehouse(":memory:") as made:
        yield made


@pytest.fixture(autouse=True)
def emptied(warehouse):
    for table in ("decision_log", "contact_ledger", "outcomes", "outcome_log", "outcome_attributions", "clock"):
        warehouse.execute(f"delete from headwater.{table}")


def rewards(warehouse) -> dict[str, float]:
    rows = warehouse.execute("select decision_id, value from headwater.outcome_log").fetchall()
    return {decision: float(value) for decision, value in rows}


def test_an_order_within_the_window_counts_once_and_later_ones_do_not(warehouse):
    write(warehouse, [Made("c1", "a"), Made("c2", "none")])
    happen(warehouse, [Did("c1", 3), Did("c1", 5), Did("c1", 14), Did("c2", 20), Did("c3", 1)])
    set_clock(warehouse, 30)
    done = attribute(warehouse, SETTINGS)
    assert rewards(warehouse) == {"d0": 1, "d1": 0}
    assert (done.attributed, done.waiting, done.unattributed) == (2, 0, 3)
    assert done.message == "2 windows have closed, 0 still open; 2 outcomes belong to them, 0 wait for an open window"


def test_an_open_window_keeps_its_outcomes_waiting(warehouse):
    write(warehouse, [Made("c1", "a")])
    happen(warehouse, [Did("c1", 3)])
    set_clock(warehouse, 13.9)
    done = attribute(warehouse, SETTINGS)
    assert rewards(warehouse) == {}
    assert (done.open, done.waiting) == (1, 1)
    set_clock(warehouse, 14)
    assert attribute(warehouse, SETTINGS).closed == 1
    assert rewards(warehouse) == {"d0": 1}


def test_what_arrives_late_counts_and_twice_is_as_once(warehouse):
    write(warehouse, [Made("c1", "a", goal="90d_clv")])
    set_clock(warehouse, 100)
    attribute(warehouse, SETTINGS)
    assert rewards(warehouse) == {"d0": 0}
    happen(warehouse, [Did("c1", 80, value=12.5), Did("c1", 81, value=-2.5)])
    first = attribute(warehouse, SETTINGS)
    before = warehouse.execute("from headwater.outcome_log").fetchall()
    assert attribute(warehouse, SETTINGS) == first
    assert warehouse.execute("from headwater.outcome_log").fetchall() == before
    assert rewards(warehouse) == {"d0": 10}


def test_decisions_inside_a_window_open_none_and_replaced_ones_do_not_count(warehouse):
    write(
        warehouse,
        [
            Made("c1", "none", 0, decision_id="replaced"),
            Made("c1", "a", 0.01, decision_id="opens"),
            Made("c1", "none", 5, decision_id="inside"),
            Made("c1", "a", 14.01, decision_id="next"),
            Made("c1", "none", 15, probabilities={"none": 1.0}, decision_id="no choice"),
        ],
    )
    happen(warehouse, [Did("c1", 6), Did("c1", 16)])
    set_clock(warehouse, 40)
    done = attribute(warehouse, SETTINGS)
    assert rewards(warehouse) == {"opens": 1, "next": 1}
    assert (done.replaced, done.inside, done.no_choice, done.closed) == (1, 1, 1, 2)


def test_a_decision_that_was_sent_at_once_counts_though_it_was_replaced_at_once(warehouse):
    write(warehouse, [Made("c1", "a", 0, decision_id="sent"), Made("c1", "none", 0.01, decision_id="after")])
    set_clock(warehouse, 40)
    attribute(warehouse, SETTINGS)
    assert set(rewards(warehouse)) == {"sent"}


def test_what_somebody_asked_for_is_carried_out_by_him_and_replaces_no_proposal(warehouse):
    write(
        warehouse,
        [
            Made("c1", "a", 0, sent=False, run_id="http", decision_id="asked"),
            Made("c1", "none", 0.01, run_id="http", decision_id="asked again"),
            Made("c2", "none", 0, decision_id="proposed"),
            Made("c2", "a", 0.01, run_id="http", sent=False, decision_id="asked meanwhile"),
        ],
    )
    set_clock(warehouse, 40)
    attribute(warehouse, SETTINGS)
    assert set(rewards(warehouse)) == {"asked", "proposed"}
    assert logged.read(warehouse, "conversion", 0.0).excluded == 0


def test_an_outcome_that_names_a_decision_or_a_campaign_belongs_to_that_or_to_none(warehouse):
    write(warehouse, [Made("c1", "a", goal="engagement"), Made("c2", "a", goal="engagement")])
    happen(
        warehouse,
        [
            Did("c1", 1, "open", decision_id="d0"),
            Did("c1", 1, "open", campaign="template_a"),
            Did("c1", 1, "click", campaign="campaign_a"),
            Did("c2", 1, "open", decision_id="d0"),
            Did("c2", 1, "open", campaign="another"),
        ],
    )
    set_clock(warehouse, 30)
    attribute(warehouse, SETTINGS)
    assert rewards(warehouse) == {"d0": 3, "d1": 0}


def test_guardrail_metrics_are_kept_beside_the_reward(warehouse):
    write(warehouse, [Made("c1", "a")])
    happen(warehouse, [Did("c1", 1), Did("c1", 2, "unsubscribe"), Did("c1", 3, "open")])
    set_clock(warehouse, 30)
    attribute(warehouse, SETTINGS)
    ((value, metrics),) = warehouse.execute("select value, metrics::varchar from headwater.outcome_log").fetchall()
    assert (float(value), metrics) == (1, '{"unsubscribe":1,"complaint":0}')


def test_without_a_clock_no_window_can_close(warehouse):
    with pytest.raises(DataError, match="the clock is not set, so no window can close: run `headwater seed` first"):
        attribute(warehouse, SETTINGS)


@st.composite
def stories(draw):
    goals = {
        "90d_clv": GoalSettings(outcomes=["order"], reward="value", window_days=draw(st.integers(1, 9))),
        "engagement": GoalSettings(
            outcomes=["open", "order"],
            reward="count",
            window_days=draw(st.integers(1, 9)),
            guardrail_metrics=["complaint"],
        ),
        "conversion": GoalSettings(outcomes=["order"], reward="any", window_days=draw(st.integers(1, 9))),
    }
    days = st.integers(0, 240).map(lambda quarter: quarter / 8 / 12)
    decisions = draw(
        st.lists(
            st.builds(
                Made,
                st.sampled_from(["c1", "c2"]),
                st.sampled_from(["a", "none"]),
                days,
                st.sampled_from(list(goals)),
                st.sampled_from([{"a": 0.5, "none": 0.5}, {"a": 0.9, "none": 0.1}]),
                st.sampled_from(["treatment", "treatment", "holdout", "business_as_usual"]),
                sent=st.booleans(),
            ),
            max_size=12,
            unique_by=lambda one: (one.customer, one.day),
        )
    )
    for number, one in enumerate(decisions):
        one.decision_id = f"d{number}"
    outcomes = draw(
        st.lists(
            st.builds(
                Did,
                st.sampled_from(["c1", "c2", "c3"]),
                days,
                st.sampled_from(["order", "open", "click", "complaint"]),
                st.sampled_from([1.0, 2.5, -1.0]),
                st.sampled_from([None, None, *(one.decision_id for one in decisions)]),
            ),
            max_size=12,
        )
    )
    return DecisionSettings(goals=goals), decisions, outcomes, draw(st.integers(0, 15))


def slowly(config, decisions, outcomes, today):
    """Rewards of closed decisions and who got each outcome, worked out by looking at everything one after the other."""
    windows, inside = [], {}
    for one in sorted(decisions, key=lambda d: (d.day, d.decision_id)):
        if one.group == "holdout":
            continue
        later = [d.day for d in decisions if (d.customer, d.goal) == (one.customer, one.goal) and d.day > one.day]
        sent = one.sent and one.action != "none"
        if not sent and later and min(later) < one.day + 1 / 24:
            continue
        end = one.day + config.goals[one.goal].window_days
        over = [w for w in windows if (w[0].customer, w[0].goal) == (one.customer, one.goal) and one.day < w[1]]
        if over:
            inside[one.decision_id] = over[0][0].decision_id
        else:
            windows.append((one, end))
    owner = {}
    for number, did in enumerate(outcomes):
        fits = []
        for one, end in windows:
            goal = config.goals[one.goal]
            named = did.decision_id is None or one.decision_id in (did.decision_id, inside.get(did.decision_id))
            counts = did.kind in {*goal.outcomes, *goal.guardrail_metrics}
            if one.customer == did.customer and one.day <= did.day < end and named and counts:
                fits.append((one.day, one.decision_id, end))
        if fits:
            owner[number] = max(fits)[1:]
    found = {}
    for one, end in windows:
        if end <= today:
            goal = config.goals[one.goal]
            mine = [outcomes[n] for n, (decision, _) in owner.items() if decision == one.decision_id]
            values = [did.value for did in mine if did.kind in goal.outcomes]
            made = sum(did.kind in goal.outcomes and not (did.kind == "order" and did.value < 0) for did in mine)
            found[one.decision_id] = {"value": sum(values), "count": made, "any": float(made > 0)}[goal.reward]
    closed = {f"o{n}": decision for n, (decision, end) in owner.items() if end <= today}
    return found, closed


@settings(max_examples=70, deadline=None)
@given(stories())
def test_every_story_is_told_as_the_slow_walk_tells_it(warehouse, story):
    config, decisions, outcomes, today = story
    for table in ("decision_log", "contact_ledger", "outcomes"):
        warehouse.execute(f"delete from headwater.{table}")
    if decisions:
        write(warehouse, decisions)
    if outcomes:
        happen(warehouse, outcomes)
    set_clock(warehouse, today)
    done = attribute(warehouse, config)
    expected, owners = slowly(config, decisions, outcomes, today)
    assert rewards(warehouse) == pytest.approx(expected)
    rows = warehouse.execute("select outcome_id, decision_id from headwater.outcome_attributions").fetchall()
    assert dict(rows) == owners
    assert len(rows) == len(owners), "an outcome belongs to one decision at most"
    assert done.decisions == done.no_choice + done.replaced + done.inside + done.closed + done.open == len(decisions)
    assert done.outcomes == done.attributed + done.waiting + done.unattributed == len(outcomes)


def test_a_window_is_as_long_as_the_goal_says(warehouse):
    write(warehouse, [Made("c1", "a", goal="retention")])
    set_clock(warehouse, 200)
    attribute(warehouse, SETTINGS)
    ends = warehouse.value("select window_end from headwater.outcome_log")
    assert ends == START + timedelta(days=90)


KILLED = """
import sys
from headwater.decisions.attribution import attribute
from headwater.decisions.settings import DecisionSettings
from headwater.warehouse import Warehouse
with Warehouse(sys.argv[1]) as warehouse:
    attribute(warehouse, DecisionSettings())
"""


def test_a_kill_before_the_commit_leaves_what_stood_and_the_next_time_makes_up_for_it(tmp_path):
    path = tmp_path / "shop.duckdb"
    with Warehouse(path) as warehouse:
        write(warehouse, [Made("c1", "a"), Made("c2", "a", 10)])
        happen(warehouse, [Did("c1", 3)])
        set_clock(warehouse, 20)
        attribute(warehouse, SETTINGS)
        set_clock(warehouse, 30)
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = subprocess.run(command, env={**os.environ, "HEADWATER_FAILPOINT": "outcomes.written"}, check=False)
    assert killed.returncode == 137
    with Warehouse(path) as warehouse:
        assert rewards(warehouse) == {"d0": 1}
    subprocess.run(command, check=True)
    with Warehouse(path) as warehouse:
        assert rewards(warehouse) == {"d0": 1, "d1": 0}
