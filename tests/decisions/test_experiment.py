"""What deciding brought: groups that stay, a lift that is there is found, one that is not is not, and what must stop a report."""

from datetime import UTC, datetime
from math import sqrt

import numpy as np
import pytest
from learning_cases import Did, Made, happen, set_clock, write

from headwater.clock import FixedClock
from headwater.decisions import experiment
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.settings import DecisionSettings
from headwater.warehouse import Warehouse

SETTINGS = DecisionSettings(goal="conversion", holdout_share=0.1)
NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


@pytest.fixture
def warehouse():
    with Warehouse(":memory:") as made:
        yield made


def run(warehouse, n=6_000, lift=0.0, base=0.1, seed=0, held=0.1, usual=0.0):
    draw = np.random.default_rng(seed)
    made, did = [], []
    for i in range(n):
        u = draw.random()
        group = "holdout" if u < held else "business_as_usual" if u < held + usual else "treatment"
        none = {"none": 1.0} if group == "holdout" else {"a": 0.5, "none": 0.5}
        made.append(
            Made(f"c{i}", "none", probabilities=none, group=group, blocked_by="holdout" if group == "holdout" else None)
        )
        if draw.random() < base + (lift if group == "treatment" else 0):
            did.append(Did(f"c{i}", 3))
    write(warehouse, made)
    happen(warehouse, did)
    set_clock(warehouse, 30)


def test_a_lift_that_is_there_is_found(warehouse):
    run(warehouse, lift=0.12)
    found = experiment.report(warehouse, SETTINGS)
    assert found.trusted
    assert found.main.low < 0.12 < found.main.high
    assert found.main.shown
    assert found.message.startswith("conversion: treatment against holdout: +1")
    assert "told from chance at every look" in found.message
    assert "a difference below 3." in found.power
    assert "cannot be seen" in found.power


def test_where_there_is_none_none_is_reported(warehouse):
    run(warehouse, lift=0.0)
    found = experiment.report(warehouse, SETTINGS)
    assert not found.main.shown
    assert "not told from chance" in found.message
    assert found.main.safe_low < found.main.low < 0 < found.main.high < found.main.safe_high


@pytest.mark.long
def test_ordinary_intervals_cover_the_truth_mostly(warehouse):
    covered = 0
    for seed in range(25):
        for table in ("decision_log", "contact_ledger", "outcomes"):
            warehouse.execute(f"delete from headwater.{table}")
        run(warehouse, n=600, lift=0.1, seed=seed, held=0.3)
        main = experiment.report(warehouse, SETTINGS.changed(holdout_share=0.3)).main
        covered += main.low <= 0.1 <= main.high
    assert covered >= 20


def test_three_groups_give_three_comparisons(warehouse):
    config = SETTINGS.changed(business_as_usual_share=0.2 / 0.9)
    run(warehouse, lift=0.1, usual=0.2)
    found = experiment.report(warehouse, config)
    pairs = [(x.group_a, x.group_b) for x in found.lifts if (x.segment, x.metric) == ("all", "reward")]
    assert pairs == list(experiment.PAIRS)
    assert set(found.groups) == {"treatment", "holdout", "business_as_usual"}
    assert found.checks[0].ok


def test_a_split_that_was_not_meant_stops_the_report(warehouse):
    run(warehouse, lift=0.12, held=0.2)
    found = experiment.report(warehouse, SETTINGS)
    assert not found.trusted
    assert found.message.startswith(
        "nothing can be concluded: groups: treatment 4,758 (meant 5,400), holdout 1,242 (meant 600)"
    )
    assert "customers were lost or added on one side" in found.message


def test_a_message_to_the_holdout_stops_the_report(warehouse):
    run(warehouse, n=600)
    held = warehouse.value("select decision_id from headwater.decision_log where experiment_group = 'holdout'")
    warehouse.execute(
        "insert into headwater.contact_ledger values ('k', 'c', 'email', 'x', ?, timestamp '2026-01-01')", [held]
    )
    found = experiment.report(warehouse, SETTINGS)
    assert not found.trusted
    assert "1 message went to customers in the holdout; it must be none" in found.message


def test_before_anything_has_closed_only_what_can_be_seen_is_said(warehouse):
    run(warehouse, n=1_468)
    set_clock(warehouse, 2)
    found = experiment.report(warehouse, SETTINGS)
    assert found.closed == {}
    assert found.message.startswith(
        "no customer's 14 days are over yet. With 1,468 customers and a holdout of 10%, a difference below 5.3"
    )


def test_a_goal_without_a_result_is_told_from_one_that_has_one(warehouse):
    run(warehouse)
    assert experiment.goals_with_result(warehouse, SETTINGS) == ["conversion"]
    assert not experiment.report(warehouse, SETTINGS, "90d_clv").has_result
    set_clock(warehouse, 2)
    assert experiment.goals_with_result(warehouse, SETTINGS) == []


def test_before_the_start_the_base_is_who_could_get_something_now(shop):
    shop.fill(
        [
            Customer(f"c{i}", "high_value_lapse_risk" if i < 1_468 else None, True, True, i % 2 == 0, i % 2 == 1)
            for i in range(2_000)
        ]
        + [Customer("no", "high_value_lapse_risk", True, True, False, False)]
    )
    found = experiment.report(shop.warehouse, SETTINGS)
    assert found.message.startswith(
        "nothing was decided for conversion yet. With 1,468 customers and a holdout of 10%, a difference below 5.3 percentage points cannot be seen"
    )


def test_when_there_was_nothing_to_do_for_anybody_that_is_said(warehouse):
    run(warehouse, n=400)
    warehouse.execute("update headwater.decision_log set segment = null, action = 'none'")
    found = experiment.report(warehouse, SETTINGS)
    assert found.groups == {}
    assert found.message.startswith(
        "conversion: the decision for each of the 400 customers was to do nothing (no segment, no consent or a kill switch)"
    )


def test_of_money_the_smallest_difference_is_said_in_money(warehouse):
    run(warehouse, lift=0.1)
    warehouse.execute("update headwater.decision_log set goal = '90d_clv'")
    warehouse.execute("update headwater.outcomes set value = 40")
    assert experiment.report(warehouse, SETTINGS, "90d_clv").message.startswith(
        "no customer's 90 days are over yet. With 6,000"
    )
    set_clock(warehouse, 120)
    found = experiment.report(warehouse, SETTINGS, "90d_clv")
    assert found.power.endswith("of reward a customer cannot be seen (power 80%, level 5%).")
    assert f"a difference below {found.main.detectable:.2f} of reward" in found.power, "the same number as in the row"


def test_a_holdout_in_which_nobody_did_anything_shows_no_more_than_its_size(warehouse):
    """Judged by the variance of its own, which is nought, it would seem to show far smaller differences than it can."""
    customers = [Made(f"t{i}") for i in range(300)] + [Made(f"h{i}", group="holdout") for i in range(40)]
    write(warehouse, customers)
    happen(warehouse, [Did(f"t{i}", 3) for i in range(30)])
    set_clock(warehouse, 60)
    main = experiment.report(warehouse, SETTINGS).main
    share = 30 / 300
    assert main.mean_b == 0
    assert main.detectable == pytest.approx(2.8 * sqrt(share * (1 - share) * (1 / 300 + 1 / 40)), rel=0.02)


def test_those_who_could_get_nothing_are_in_no_group(warehouse):
    write(
        warehouse,
        [
            Made("c1", segment=None),
            Made("c2", blocked_by="consent"),
            Made("c3", blocked_by="frequency"),
            Made("c4", group="holdout", blocked_by="holdout", probabilities={"none": 1.0}),
        ],
    )
    set_clock(warehouse, 30)
    assert experiment.report(warehouse, SETTINGS).groups == {"holdout": 1, "treatment": 1}


def test_what_is_written_is_what_was_found(warehouse):
    run(warehouse, lift=0.1)
    found = experiment.report(warehouse, SETTINGS)
    experiment.write(warehouse, found)
    experiment.write(warehouse, found)
    rows = warehouse.rows("select * from headwater.experiment_results where metric = 'reward' and segment = 'all'")
    assert len(rows) == 1
    assert rows[0]["lift"] == found.main.lift
    assert rows[0]["sentence"] == found.main.sentence("points")


GROUPS = DecisionSettings(policy="epsilon_mixed", epsilon=1.0, holdout_share=0.1, business_as_usual_share=0.25)


def test_groups_are_sticky_and_business_as_usual_gets_the_table(shop):
    customers = [Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True) for i in range(3_000)]
    shop.fill(customers)
    decide_batch(shop.warehouse, GROUPS, NOON, "r1")
    rows = shop.warehouse.execute(
        "select experiment_group, policy, count(*), count(distinct action), min(propensity) from headwater.decision_log group by all order by 1"
    ).fetchall()
    assert [(group, policy) for group, policy, *_ in rows] == [
        ("business_as_usual", "default_table"),
        ("holdout", "epsilon_mixed"),
        ("treatment", "epsilon_mixed"),
    ]
    usual, held, treated = rows
    assert 0.2 * 3_000 < usual[2] < 0.25 * 3_000
    assert (usual[3], usual[4], held[3], treated[3]) == (1, 1.0, 1, 3)
    before = dict(shop.warehouse.execute("select customer_id, experiment_group from headwater.decision_log").fetchall())
    shop.empty_ledgers()
    decide_batch(shop.warehouse, GROUPS.changed(holdout_share=0.2, epsilon=0.5), NOON, "r2")
    after = dict(shop.warehouse.execute("select customer_id, experiment_group from headwater.decision_log").fetchall())
    assert all(after[c] == "holdout" for c, group in before.items() if group == "holdout")
    assert all(
        after[c] in ("holdout", "business_as_usual") for c, group in before.items() if group == "business_as_usual"
    )
    one_by_one = {d.customer_id: d for d in Decider(GROUPS, NOON).decide_many(customers[:300])}
    assert all(before[c] == d.experiment_group for c, d in one_by_one.items())
    assert all(d.policy == "default_table" for d in one_by_one.values() if d.experiment_group == "business_as_usual")
