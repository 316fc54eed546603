"""Figures on real logs, and the mistakes by which an evaluation fools itself: each is put in, and must be caught."""

from dataclasses import replace
from math import sqrt

import numpy as np
import pytest
from sklearn.tree import DecisionTreeRegressor
from thompson_prior import CLICKS, MISSES

from headwater.decisions.evaluate import Constant, Fitted, Given, Greedy, Log, Uniform, evaluate
from headwater.decisions.health import sample_ratio
from headwater.errors import DataError, InvalidValue, Refused
from headwater.warehouse import Warehouse

ARMS = ("Mens E-Mail", "No E-Mail", "Womens E-Mail")
FULL_SET = {"visit": 0.1828, "conversion": 0.0125, "spend": 1.423}
"""Mens e-mail to everybody, on all 64,000 rows; the shared half must agree within two standard errors of a half."""


def columns(path) -> dict[str, np.ndarray]:
    with Warehouse(":memory:") as warehouse:
        return warehouse.execute(f"select * from read_csv('{path}')").fetchnumpy()


@pytest.fixture(scope="module")
def hillstrom(shared_data):
    """The three-armed e-mail test as a log per outcome."""
    found = columns(shared_data / "hillstrom_email" / "hillstrom_half.csv.gz")
    text = {name: np.asarray(found[name], dtype=str) for name in ("zip_code", "channel", "segment")}
    dummies = [text[name] == value for name in ("zip_code", "channel") for value in np.unique(text[name])[1:]]
    numbers = [found[name] for name in ("recency", "history", "mens", "womens", "newbie")]
    features = np.column_stack([*numbers, np.log1p(found["history"]), *dummies]).astype(float)
    n = len(features)
    action = np.searchsorted(ARMS, text["segment"]).astype(np.int64)
    units = np.arange(n).astype(str)
    return {
        outcome: Log(ARMS, action, found[outcome].astype(float), np.full(n, 1 / 3), features, units)
        for outcome in FULL_SET
    }


def overfitted(log: Log):
    """A tree per arm, grown on all rows: what a careless person would call a policy."""
    trees = []
    for arm in range(len(log.actions)):
        rows = log.action == arm
        trees.append(
            DecisionTreeRegressor(min_samples_leaf=200, random_state=0).fit(log.features[rows], log.reward[rows])
        )
    return lambda features, feasible: np.eye(3)[np.column_stack([t.predict(features) for t in trees]).argmax(axis=1)]


@pytest.mark.parametrize("outcome", FULL_SET)
def test_hillstrom_mens_to_all_is_the_bar(hillstrom, outcome):
    result = evaluate(hillstrom[outcome], Constant(0, ARMS[0]), "snips", baseline="logged")
    assert abs(result.value.value - FULL_SET[outcome]) < 2 * result.value.error / sqrt(2)
    assert result.trusted
    assert result.beats_baseline, "mens e-mail to all is better than a third each"


@pytest.mark.parametrize("outcome", ["visit", "spend"])
def test_hillstrom_honest_personalisation_ties_the_bar(hillstrom, outcome):
    result = evaluate(hillstrom[outcome], Greedy())
    assert result.difference.low < 0 < result.difference.high
    assert not result.beats_baseline
    assert result.sentence.startswith("greedy is not shown to beat the best constant policy (always Mens E-Mail): ")
    in_points = replace(result, unit="points").sentence
    assert f" {result.difference.value * 100:+.2f} points [{result.difference.low * 100:+.2f}, " in in_points
    in_money = replace(result, unit="of order value").sentence
    assert f" {result.difference.value:+.4g} of order value [" in in_money


def test_training_row_evaluation_looks_splendid_and_is_refused(hillstrom):
    log = hillstrom["spend"]
    policy = overfitted(log)
    cheat = evaluate(log, Given("tree", policy), "ips", baseline="logged")
    bar = evaluate(log, Constant(0, ARMS[0]), "ips", baseline="logged")
    assert cheat.value.value / bar.value.value - 1 > 0.5, (
        "the mistake: judged on its own rows it seems half as good again"
    )
    with pytest.raises(Refused) as error:
        evaluate(log, Fitted("tree", policy, frozenset(log.units.tolist())))
    assert str(error.value) == (
        "tree was fitted on 32,030 of the customers it is to be judged on; on its own training rows any policy looks good. "
        "Give the learner instead of the fitted policy (it is then fitted on other folds), or other customers"
    )
    with pytest.raises(Refused):
        evaluate(log, Greedy().fit(log.rows(np.arange(len(log)) < 10)))


def test_a_fitted_policy_is_judged_on_other_customers(hillstrom):
    log = hillstrom["spend"]
    half = np.arange(len(log)) % 2 == 0
    result = evaluate(log.rows(~half), Greedy().fit(log.rows(half)))
    assert not result.beats_baseline


def covered(log: Log, rewards: np.ndarray) -> int:
    count = 0
    for seed in range(100):
        shuffled = np.random.default_rng(seed).permutation(rewards)
        null = Log(log.actions, log.action, shuffled, log.propensity, log.features, log.units)
        result = evaluate(null, Greedy(), seed=seed)
        count += result.difference.low <= 0 <= result.difference.high
    return count


def test_shuffled_rewards_show_no_lift(hillstrom):
    every_eighth = hillstrom["visit"].rows(np.arange(32_030) % 8 == 0)
    assert covered(every_eighth, every_eighth.reward) >= 93


def test_open_bandit_value_of_thompson_sampling_from_the_random_log(shared_data):
    found = columns(shared_data / "open_bandit_small" / "random_all.csv.gz")
    draws = np.random.RandomState(12345)
    shown = np.zeros((80, 3))
    for _ in range(5):
        sampled = draws.beta(np.array(CLICKS.split(), float), np.array(MISSES.split(), float), size=(20_000, 80))
        best = np.argsort(-sampled, axis=1)[:, :3]
        for position in range(3):
            shown[:, position] += np.bincount(best[:, position], minlength=80)
    position = (found["position"] - found["position"].min()).astype(int)
    log = Log(
        tuple(f"item {i}" for i in range(80)),
        found["item_id"].astype(np.int64),
        found["click"].astype(float),
        found["propensity_score"].astype(float),
        np.eye(3)[position],
        np.arange(len(position)).astype(str),
    )
    thompson = Given("Thompson sampling", lambda features, feasible: features @ (shown / 100_000).T)
    result = evaluate(log, thompson, "ips", baseline="logged")
    assert result.relative == pytest.approx(1.198, abs=0.0005)
    assert result.trusted
    assert not result.beats_baseline, "38 clicks in 10,000 prove nothing"


@pytest.fixture
def guarded():
    """20,000 decisions of a policy with 5 actions of which guardrails leave some; the rewards of each action are known."""
    draw = np.random.default_rng(5)
    n, worth = 20_000, np.array([0.02, 0.05, 0.10, 0.20, 0.30])
    before = np.array([0.15, 0.15, 0.2, 0.2, 0.3])
    feasible = draw.random((n, 5)) < np.array([1.0, 0.9, 0.7, 0.5, 0.4])
    after = np.where(feasible, before, 0.0)
    after /= after.sum(axis=1, keepdims=True)
    action = (after.cumsum(axis=1) < draw.random((n, 1))).sum(axis=1)
    reward = (draw.random(n) < worth[action]).astype(float)
    taken = (np.arange(n), action)
    true_value = float((feasible / feasible.sum(axis=1, keepdims=True) @ worth).mean())

    def log(propensity):
        names = tuple("abcde")
        return Log(names, action, reward, propensity, np.zeros((n, 1)), np.arange(n).astype(str), feasible)

    return log, true_value, {"after": after[taken], "before": before[action], "1/K": np.full(n, 0.2)}


def test_propensities_after_the_guardrails_give_the_true_value(guarded):
    log, true_value, propensity = guarded
    result = evaluate(log(propensity["after"]), Uniform(), "ips", baseline="logged")
    assert result.value.low < true_value < result.value.high
    assert result.trusted


@pytest.mark.parametrize(("mistake", "bias"), [("before", 0.25), ("1/K", 0.25)])
def test_wrong_propensities_bias_the_value_and_the_mean_weight_tells(guarded, mistake, bias):
    log, true_value, propensity = guarded
    result = evaluate(log(propensity[mistake]), Uniform(), "ips", baseline="logged")
    assert result.value.value / true_value - 1 > bias
    assert not result.trusted
    assert not result.beats_baseline
    failed = {check.name for check in result.checks if not check.ok}
    assert failed == {"mean_weight:uniform"}
    assert "log the probability after the guardrails" in result.sentence


def test_a_lost_side_of_an_experiment_fails_the_report(hillstrom):
    good = sample_ratio({"treatment": 1_321, "holdout": 147}, {"treatment": 0.9, "holdout": 0.1})
    assert good.ok
    bad = sample_ratio({"treatment": 1_321, "holdout": 97}, {"treatment": 0.9, "holdout": 0.1})
    assert bad.value < 0.001
    assert bad.sentence.startswith("groups: treatment 1,321 (meant 1,276), holdout 97 (meant 142), p = 7.")
    log = hillstrom["visit"]
    failing = Log(log.actions, log.action, log.reward, log.propensity, log.features, log.units, checks=(bad,))
    result = evaluate(failing, Constant(0, ARMS[0]), baseline="logged")
    assert result.difference.low > 0
    assert not result.trusted
    assert not result.beats_baseline
    assert result.sentence.startswith("always Mens E-Mail cannot be judged on this log: groups: ")


def test_a_model_alone_never_beats_anything(hillstrom):
    result = evaluate(hillstrom["visit"], Greedy(), "dm")
    assert result.difference.low > 0, "the model believes in itself"
    assert not result.beats_baseline


def test_a_deterministic_log_is_refused_with_what_to_do(hillstrom):
    log = hillstrom["visit"]
    sure = Log(log.actions, log.action, log.reward, np.ones(len(log)), log.features, log.units)
    with pytest.raises(Refused, match=r"every propensity is 1.*Set `decisions.policy: epsilon_mixed`"):
        evaluate(sure, Uniform())


def test_bad_input_is_told_all_at_once():
    two = np.zeros(2)
    with pytest.raises(DataError) as error:
        Log(("a",), np.zeros(2, np.int64), np.array([np.nan, 0]), np.array([0.0, 1]), np.zeros((2, 1)), two.astype(str))
    assert str(error.value) == (
        "the log cannot be evaluated: reward has values that are not finite; propensity has values outside (0, 1]"
    )
    log = Log(("a", "b"), np.array([0, 1]), two, np.full(2, 0.5), np.zeros((2, 1)), np.array(["x", "y"]))
    with pytest.raises(InvalidValue, match="estimator: found 'magic'; allowed: ips, snips, dm, dr"):
        evaluate(log, Uniform(), "magic")
    with pytest.raises(InvalidValue, match="baseline: found 'zero'; allowed: best_constant, logged"):
        evaluate(log, Uniform(), baseline="zero")
    with pytest.raises(Refused, match="the log has 2 customers, fewer than the 5 folds"):
        evaluate(log, Uniform())


def test_rows_of_one_customer_count_as_one():
    draw = np.random.default_rng(0)
    action, reward = draw.integers(0, 2, 500), draw.random(500)
    features, half = draw.random((500, 2)), np.full(500, 0.5)
    once = Log(("a", "b"), action, reward, half, features, np.arange(500).astype(str))
    repeated = Log(
        ("a", "b"),
        np.repeat(action, 4),
        np.repeat(reward, 4),
        np.repeat(half, 4),
        np.repeat(features, 4, axis=0),
        np.repeat(once.units, 4),
    )
    one, four = (evaluate(log, Constant(0, "a"), "ips", baseline="logged") for log in (once, repeated))
    assert four.value.value == pytest.approx(one.value.value)
    assert four.value.error == pytest.approx(one.value.error)
