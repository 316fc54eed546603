"""Train, judge, promote, take back: through the tables, as the commands do it."""

import json
from datetime import UTC, datetime

import numpy as np
import pytest
from learning_cases import Did, Made, happen, set_clock, write

from headwater.clock import FixedClock
from headwater.decisions import champion, experiment, logged, outcomes, watch
from headwater.decisions.attribution import attribute
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.evaluate import Constant, evaluate
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import InvalidValue, Refused
from headwater.warehouse import Warehouse

CLOCK = FixedClock(datetime(2026, 3, 1, tzinfo=UTC))
SETTINGS = DecisionSettings(goal="conversion", policy="champion", holdout_share=0.0)
EVEN = {"a": 1 / 3, "b": 1 / 3, "none": 1 / 3}


def tell(warehouse, best, n=3_000, seed=0, complaints=(), gain=0.25):
    """A log of n customers who answer to the action that `best` names for their standing, and complain after `complaints`."""
    draw = np.random.default_rng(seed)
    made, did = [], []
    for i in range(n):
        status = ["Active", "Dormant"][draw.integers(2)]
        action = ["a", "b", "none"][draw.integers(3)]
        made.append(Made(f"c{i}", action, probabilities=EVEN, features={"activity_status": status}))
        if draw.random() < (0.1 + gain if action == best[status] else 0.1):
            did.append(Did(f"c{i}", 2))
        if action in complaints and draw.random() < 0.2:
            did.append(Did(f"c{i}", 1, "complaint"))
    write(warehouse, made)
    happen(warehouse, did)
    set_clock(warehouse, 30)
    attribute(warehouse, SETTINGS)


@pytest.fixture
def warehouse():
    with Warehouse(":memory:") as made:
        yield made


PERSONAL = {"Active": "a", "Dormant": "b"}
SAME = {"Active": "a", "Dormant": "a"}


def test_a_challenger_that_beats_the_best_constant_becomes_the_champion_and_decides(warehouse):
    tell(warehouse, PERSONAL)
    trained = champion.train(warehouse, SETTINGS, CLOCK)
    assert (trained.alias, trained.row_count, trained.verdict) == ("challenger", 3_000, "trained")
    made, judgement = champion.promote(warehouse, SETTINGS, CLOCK)
    assert judgement.reasons == ()
    assert judgement.evaluation.difference.low > 0.05
    assert (made.alias, made.verdict, made.version) == ("champion", "promoted", 1)
    policy = champion.policy(warehouse, DEFAULT, SETTINGS)
    assert (policy.name, policy.version) == ("softmax", "conversion:1")
    champion.train(warehouse, SETTINGS, CLOCK)
    champion.promote(warehouse, SETTINGS, CLOCK)
    assert [(one.version, one.alias) for one in champion.versions(warehouse, "conversion")] == [
        (1, "previous"),
        (2, "champion"),
    ]
    left, back = champion.rollback(warehouse, CLOCK, "conversion")
    assert (left.version, back.version) == (2, 1)
    with pytest.raises(
        Refused, match="version 2 for conversion was taken out of use: Rolled back at 2026-03-01 00:00 UTC"
    ):
        champion.promote(warehouse, SETTINGS, CLOCK, version=2)
    left, back = champion.rollback(warehouse, CLOCK, "conversion")
    assert (left.version, back) == (1, None)
    assert champion.policy(warehouse, DEFAULT, SETTINGS).name == "epsilon_mixed"
    with pytest.raises(Refused, match="there is no champion for conversion to take back"):
        champion.rollback(warehouse, CLOCK, "conversion")


def test_where_one_action_is_best_for_all_nothing_is_promoted(warehouse):
    tell(warehouse, SAME)
    champion.train(warehouse, SETTINGS, CLOCK)
    with pytest.raises(Refused) as error:
        champion.promote(warehouse, SETTINGS, CLOCK)
    assert "is not shown to beat the best constant policy (always a)" in str(error.value)
    (one,) = champion.versions(warehouse, "conversion")
    assert (one.verdict, one.alias) == ("refused", "challenger")
    assert one.evaluation["difference"]["low"] <= 0
    assert champion.policy(warehouse, DEFAULT, SETTINGS).name == "epsilon_mixed"


def test_a_gain_that_people_complain_about_is_not_promoted(warehouse):
    tell(warehouse, PERSONAL, complaints=("a", "b"))
    champion.train(warehouse, SETTINGS, CLOCK)
    with pytest.raises(
        Refused, match=r"is not promoted: guardrail: complaint: \+0\.0\d+ .*more than 0.002 worse than what was done"
    ):
        champion.promote(warehouse, SETTINGS, CLOCK)
    judgement = champion.judge(warehouse, SETTINGS)
    assert judgement.evaluation.beats_baseline
    assert [guard.ok for guard in judgement.guards] == [True, False]
    assert judgement.sentence.endswith("more than 0.002 worse than what was done)")
    assert " points [" in judgement.evaluation.sentence, "a share is told in points"


def test_too_little_and_a_log_that_says_nothing_are_refused(warehouse):
    tell(warehouse, PERSONAL, n=60)
    with pytest.raises(
        Refused, match=r"there are 60 closed decisions for the goal 'conversion', fewer than .*least_rows \(500\)"
    ):
        champion.train(warehouse, SETTINGS, CLOCK)
    with pytest.raises(InvalidValue, match="there is no challenger for conversion to promote; versions: none"):
        champion.promote(warehouse, SETTINGS, CLOCK)
    warehouse.execute(
        'update headwater.decision_log set probabilities = \'{"a": 1.0, "b": 0.0, "none": 0.0}\', propensity = 1'
    )
    with pytest.raises(
        Refused, match=r"Set `decisions.policy: epsilon_mixed` \(or `champion`\) and gather a log first"
    ):
        champion.train(warehouse, SETTINGS.changed(learning={"least_rows": 20}), CLOCK)


def test_the_champion_decides_in_a_batch_and_is_named_in_the_log(shop):
    config = DecisionSettings(goal="90d_clv", policy="champion", learning={"least_rows": 20})
    customers = [
        Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True, features={"activity_status": "Dormant"})
        for i in range(400)
    ]
    shop.fill(customers)
    decide_batch(shop.warehouse, config, CLOCK, "r1")
    assert {row[0] for row in shop.warehouse.execute("select policy from headwater.decision_log").fetchall()} == {
        "epsilon_mixed"
    }
    shop.warehouse.execute(
        """insert into headwater.contact_ledger select decision_id, customer_id, channel, template, decision_id, decided_at
           from headwater.decision_log where action <> 'none'"""
    )
    shop.set_clock(datetime(2026, 7, 1))  # noqa: DTZ001
    attribute(shop.warehouse, config)
    champion.train(shop.warehouse, config, CLOCK)
    shop.warehouse.execute(
        "update headwater.policy_registry set alias = 'champion', promoted_at = timestamp '2026-06-01'"
    )
    later = FixedClock(datetime(2026, 7, 1, 12, tzinfo=UTC))
    batch = decide_batch(shop.warehouse, config, later, "r2")
    assert (batch.policy, batch.policy_version) == ("softmax", "90d_clv:1")
    again = decide_batch(shop.warehouse, config, later, "r3")
    assert (again.decided, again.known) == (0, 400)
    rows = shop.warehouse.execute(
        "select distinct policy, policy_version from headwater.decision_log where run_id = 'r2'"
    ).fetchall()
    assert rows == [("softmax", "90d_clv:1")]


def champions_decisions(warehouse, complained, usual=0, n=2_000):
    """A promoted champion, and decisions of it that some customers complain about."""
    tell(warehouse, PERSONAL)
    champion.train(warehouse, SETTINGS, CLOCK)
    warehouse.execute("update headwater.policy_registry set alias = 'champion', promoted_at = timestamp '2026-02-01'")
    made = [
        Made(f"n{i}", "a", 40 + i / 10_000, probabilities=EVEN, policy="softmax", version="conversion:1", decision_id=f"n{i}",
             group="business_as_usual" if i < usual else "treatment")
        for i in range(n)
    ]  # fmt: skip
    write(warehouse, made)
    warehouse.execute("delete from headwater.outcomes")
    happen(warehouse, [Did(f"n{i}", 42, "complaint") for i in range(usual, n) if i % 100 < complained])
    set_clock(warehouse, 60)


def test_a_guardrail_metric_that_turns_worse_takes_the_champion_back(warehouse):
    champions_decisions(warehouse, complained=5)
    (unsubscribes, complaints) = watch.watch(warehouse, SETTINGS, "conversion")
    assert not unsubscribes.worse
    assert complaints.worse
    assert complaints.sentence.startswith(
        "complaint after 5.00% of 2,000 decisions of version 1, 0.00% of 3,000 before it"
    )


def test_business_as_usual_in_the_same_weeks_is_what_the_champion_is_compared_with(warehouse):
    champions_decisions(warehouse, complained=5, usual=500)
    complaints = watch.watch(warehouse, SETTINGS, "conversion")[1]
    assert (complaints.compared_with, complaints.others, complaints.worse) == ("of business as usual", 500, True)


def test_a_few_complaints_take_nobody_back(warehouse):
    champions_decisions(warehouse, complained=1, n=300)
    assert not any(one.worse for one in watch.watch(warehouse, SETTINGS, "conversion"))


@pytest.mark.long
def test_hillstrom_through_the_tables_mens_to_all_is_the_bar_and_nothing_is_promoted(warehouse, shared_data, tmp_path):
    """64,000 customers were mailed at random; half of them are here, as a decision log and a file of what they did."""
    source = f"read_csv('{shared_data / 'hillstrom_email' / 'hillstrom_half.csv.gz'}')"
    warehouse.execute(f"create temp table mailed as select row_number() over () as i, * from {source}")
    warehouse.execute(
        """insert into headwater.decision_log by name
           select 'd' || i as decision_id, 'd' || i as idempotency_key, timestamp '2026-01-01' as decided_at, 'c' || i as customer_id,
               'treatment' as experiment_group, 'high_value_lapse_risk' as segment, 'conversion' as goal, 'epsilon_mixed' as policy,
               '1' as policy_version,
               json_object('ml_segment', zip_code, 'activity_status', channel, 'recency_bucket', (recency // 4)::varchar,
                   'revenue_band', history_segment[1:1], 'nps_band', mens || '/' || womens) as features,
               '[{"action":"mens"},{"action":"womens"},{"action":"none"}]' as feasible_actions,
               '{"mens":0.3333333333333333,"womens":0.3333333333333333,"none":0.3333333333333333}' as probabilities,
               case segment when 'Mens E-Mail' then 'mens' when 'Womens E-Mail' then 'womens' else 'none' end as action,
               1 / 3.0 as propensity, timestamp '2026-01-01' as as_of
           from mailed"""
    )
    warehouse.execute(
        """insert into headwater.contact_ledger select 'k' || i, 'c' || i, 'email', 'x', 'd' || i, timestamp '2026-01-01'
           from mailed where segment <> 'No E-Mail'"""
    )
    path = tmp_path / "visits.parquet"
    warehouse.execute(
        f"""copy (select 'v' || i as outcome_id, 'd' || i as decision_id, 'visit' as kind, timestamp '2026-01-08' as occurred_at
                  from mailed where visit = 1) to '{path}' (format parquet)"""
    )
    config = SETTINGS.changed(goals={"conversion": {"outcomes": ["visit"]}})
    done = outcomes.take_in(warehouse, path, config, CLOCK)
    assert done.rejected == 0
    set_clock(warehouse, 30)
    attribute(warehouse, config)
    log = logged.read(warehouse, "conversion", 0.0)
    bar = evaluate(log, Constant(log.actions.index("mens"), "mens"), "snips", baseline="logged")
    assert bar.value.value == pytest.approx(0.1828, abs=0.006)
    champion.train(warehouse, config, CLOCK)
    judgement = champion.judge(warehouse, config)
    assert judgement.evaluation.bar == "always mens"
    assert judgement.evaluation.difference.low < 0 < judgement.evaluation.difference.high
    with pytest.raises(
        Refused, match=r"is not shown to beat the best constant policy \(always mens\): [+-]0.\d+ points \["
    ):
        champion.promote(warehouse, config, CLOCK)
    found = experiment.report(warehouse, config, "conversion")
    assert found.message.endswith("none is held out, so no effect can be measured")
    assert json.loads(json.dumps(judgement.as_json()))["bar"] == "always mens"
