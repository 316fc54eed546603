"""From decisions and outcomes back to a judgement: the loop closes in tables."""

from datetime import UTC, datetime

import pytest

from headwater.clock import FixedClock
from headwater.decisions import logged
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.evaluate import Constant, evaluate
from headwater.decisions.settings import DecisionSettings
from headwater.errors import DataError, InvalidValue, Refused

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


def close_windows(shop, where="true"):
    """An outcome for each decision: 10 for a winback with an offer, 1 for anything else."""
    shop.warehouse.execute(
        f"""insert into headwater.outcome_log
            select 'o' || decision_id, decision_id, customer_id, goal, if(action = 'winback_soft', 10, 1), decided_at, decided_at, decided_at
            from headwater.decision_log where {where}"""
    )


@pytest.fixture
def explored(shop):
    shop.fill(
        [
            Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True, features={"nps_band": "promoter"})
            for i in range(900)
        ]
    )
    decide_batch(shop.warehouse, DecisionSettings(policy="epsilon_mixed", epsilon=0.9), NOON, "r")
    return shop


def test_an_explored_log_shows_what_works(explored):
    close_windows(explored)
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    assert log.actions == ("none", "winback_soft", "winback_soft_no_offer")
    assert len(log) == 900 - explored.count("decision_log", "experiment_group = 'holdout'")
    result = evaluate(log, Constant(1, "winback_soft"), baseline="logged")
    assert result.value.value == pytest.approx(10)
    assert result.beats_baseline
    assert [check.name for check in result.checks] == [
        "sample_ratio",
        "mean_weight:always winback_soft",
        "mean_weight:uniform",
        "effective_rows",
    ]


def test_lost_holdout_rows_fail_the_report(explored):
    close_windows(explored, "experiment_group = 'treatment' or customer_id < 'c3'")
    result = evaluate(logged.read(explored.warehouse, "90d_clv", 0.10), Constant(1, "winback_soft"), baseline="logged")
    assert not result.trusted
    assert "Look for rows dropped after the draw" in result.sentence


def test_a_decision_that_was_changed_after_the_draw_is_left_out_and_counted(explored):
    explored.warehouse.execute(
        "update headwater.decision_log set propensity = null where customer_id < 'c2' and experiment_group = 'treatment'"
    )
    close_windows(explored)
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    assert log.excluded == explored.count("decision_log", "propensity is null") > 0
    assert len(log) + log.excluded == explored.count("decision_log", "experiment_group = 'treatment'")


def test_open_windows_are_waited_for_and_goals_are_checked(explored):
    with pytest.raises(DataError, match="there are 0 closed decisions for the goal '90d_clv', at least 2 are needed"):
        logged.read(explored.warehouse, "90d_clv", 0.10)
    with pytest.raises(InvalidValue, match="goal: found 'profit'"):
        logged.read(explored.warehouse, "profit", 0.10)


def test_the_default_table_says_that_it_cannot_be_judged(shop):
    shop.fill([Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True) for i in range(50)])
    decide_batch(shop.warehouse, DecisionSettings(), NOON, "r")
    close_windows(shop)
    with pytest.raises(Refused, match="the log is of a deterministic policy"):
        evaluate(logged.read(shop.warehouse, "90d_clv", 0.10), Constant(1, "winback_soft"))
