"""From decisions and outcomes back to a judgement: the loop closes in tables."""

from datetime import UTC, datetime

import pytest

from headwater.clock import FixedClock
from headwater.decisions import logged
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.evaluate import Constant, evaluate
from headwater.decisions.settings import DecisionSettings
from headwater.errors import InvalidValue, Refused

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


def close_windows(shop, where="true"):
    """What was decided is sent, and brings 10 for a winback with an offer, 1 for anything else."""
    send(shop)
    shop.warehouse.execute(
        f"""insert into headwater.outcome_log
            select 'o' || decision_id, decision_id, customer_id, goal, if(action = 'winback_soft', 10, 1), decided_at, decided_at, decided_at,
                json_object('complaint', (action = 'winback_soft')::integer)
            from headwater.decision_log where experiment_group <> 'holdout' and {where}"""
    )


def send(shop, where="true"):
    shop.warehouse.execute(
        f"""insert into headwater.contact_ledger
            select 'k' || decision_id, customer_id, channel, template, decision_id, decided_at
            from headwater.decision_log where action <> 'none' and {where}"""
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
        "carried_out",
        "mean_weight:always winback_soft",
        "mean_weight:uniform",
        "effective_rows",
    ]


def test_lost_holdout_rows_fail_the_report(explored):
    close_windows(explored)
    explored.warehouse.execute(
        "delete from headwater.decision_log where experiment_group = 'holdout' and customer_id > 'c3'"
    )
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
    result = evaluate(log, Constant(1, "winback_soft"), baseline="logged")
    assert not result.trusted, "a seventh was left out: what remains is no fair sample"
    assert "closed decisions were not carried out as drawn (budget, final check, never sent)" in result.sentence


def test_what_was_never_sent_is_left_out_and_counted(explored):
    close_windows(explored)
    explored.warehouse.execute("delete from headwater.contact_ledger where customer_id < 'c15'")
    unsent = explored.count(
        "decision_log", "action <> 'none' and decision_id not in (select decision_id from headwater.contact_ledger)"
    )
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    assert log.excluded == unsent > 0
    assert dict(zip([c.name for c in log.checks], [c.ok for c in log.checks], strict=True))["carried_out"]


def test_a_guardrail_metric_is_read_on_the_same_rows(explored):
    close_windows(explored)
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    complaints = logged.read(explored.warehouse, "90d_clv", 0.10, metric="complaint")
    assert (complaints.action == log.action).all()
    assert (complaints.reward == (log.reward == 10)).all()
    assert logged.read(explored.warehouse, "90d_clv", 0.10, metric="unsubscribe").reward.sum() == 0


def test_what_a_deterministic_policy_logged_before_is_left_out(explored):
    close_windows(explored)
    before = len(logged.read(explored.warehouse, "90d_clv", 0.10))
    explored.warehouse.execute(
        """insert into headwater.decision_log by name select * replace (
               'sure' || decision_id as decision_id, '{"winback_soft":1.0,"none":0.0}' as probabilities, 1.0 as propensity)
           from headwater.decision_log where action = 'winback_soft'"""
    )
    close_windows(explored, "decision_id like 'sure%'")
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    assert len(log) == before
    assert log.excluded == 0


def test_features_are_named_as_they_will_be_asked_again(explored):
    close_windows(explored)
    log = logged.read(explored.warehouse, "90d_clv", 0.10)
    assert log.columns == ("nps_band=promoter", "segment=high_value_lapse_risk")
    assert (log.features == 1).all()


def test_open_windows_are_waited_for_and_goals_are_checked(explored):
    with pytest.raises(Refused, match="there are 0 closed decisions for the goal '90d_clv', at least 2 are needed"):
        logged.read(explored.warehouse, "90d_clv", 0.10)
    with pytest.raises(InvalidValue, match="goal: found 'profit'"):
        logged.read(explored.warehouse, "profit", 0.10)


def test_the_default_table_says_that_it_cannot_be_judged(shop):
    shop.fill([Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True) for i in range(50)])
    decide_batch(shop.warehouse, DecisionSettings(), NOON, "r")
    close_windows(shop)
    with pytest.raises(Refused, match="the log is of a deterministic policy"):
        evaluate(logged.read(shop.warehouse, "90d_clv", 0.10), Constant(1, "winback_soft"))
