"""Policies that learn: exact probabilities, what they keep, and that they find what is to be found."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.clock import FixedClock
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.evaluate import Log
from headwater.decisions.learned import LEARNERS, Learned, Linear, learner, text_of
from headwater.decisions.logged import encode
from headwater.decisions.policy import Context
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Action, Table
from headwater.errors import ConfigError

SEGMENTS = ("high_value_lapse_risk", "new_users_first_week_intent")
TABLE = Table(
    tuple(
        Action(f"{segment[:3]}_{i}", ("email",), f"t{i}", (segment,), 5.0 * i) for segment in SEGMENTS for i in range(3)
    ),
    {"conversion": {segment: f"{segment[:3]}_0" for segment in SEGMENTS}},
)
STATUS = ("Active", "Recent", "Dormant")
NUMPY_LEARNERS = ("softmax", "thompson")


def linear(rule="thompson", means=(0.1, 0.2, 0.15), spreads=(0.05, 0.08, 0.02), floor=0.0):
    covariance = np.array([[[spread**2]] for spread in spreads])
    actions = tuple("abcdef"[: len(means)])
    return Linear(actions, (), np.array(means)[:, None], covariance, rule, 0.05, floor)


def test_thompson_probabilities_are_those_of_its_draws():
    model = linear()
    (given_,) = model.probs(np.zeros((1, 0)), np.ones((1, 3), bool))
    draws = np.random.default_rng(0).normal(model.mean[:, 0], np.sqrt(model.covariance[:, 0, 0]), (400_000, 3))
    counted = np.bincount(draws.argmax(axis=1), minlength=3) / 400_000
    assert given_ == pytest.approx(counted, abs=0.003)
    two = model.probs(np.zeros((1, 0)), np.array([[True, True, False]]))[0]
    from scipy.stats import norm

    exact = norm.cdf((0.1 - 0.2) / np.hypot(0.05, 0.08))
    assert two == pytest.approx([exact, 1 - exact, 0], abs=1e-6)


def test_softmax_probabilities_are_its_formula():
    (given_,) = linear("softmax").probs(np.zeros((1, 0)), np.ones((1, 3), bool))
    weights = np.exp(np.array([0.1, 0.2, 0.15]) / 0.05)
    assert given_ == pytest.approx(weights / weights.sum())


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NUMPY_LEARNERS),
    st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=6),
    st.floats(1e-6, 1e5),
    st.floats(0, 0.2),
    st.data(),
)
def test_probabilities_sum_to_one_over_what_is_feasible_and_keep_the_floor(rule, means, spread, floor, data):
    model = linear(rule, means, [spread * (1 + i) for i in range(len(means))], floor)
    feasible = np.array([data.draw(st.lists(st.booleans(), min_size=len(means), max_size=len(means)).filter(any))])
    (given_,) = model.probs(np.zeros((1, 0)), feasible)
    assert given_.sum() == pytest.approx(1)
    assert (given_[~feasible[0]] == 0).all()
    assert given_[feasible[0]].min() >= min(floor, 1 / feasible.sum()) - 1e-12


def a_log(n=4_000, seed=0, columns=("activity_status=Active", "segment=s")):
    draw = np.random.default_rng(seed)
    features = draw.integers(0, 2, (n, 2)).astype(float)
    action = draw.integers(0, 3, n)
    best = np.where(features[:, 0] == 1, 1, 2)
    reward = (draw.random(n) < np.where(action == best, 0.3, 0.1)).astype(float)
    return Log(
        ("a", "b", "none"), action, reward, np.full(n, 1 / 3), features, np.arange(n).astype(str), columns=columns
    )


@pytest.mark.parametrize("name", NUMPY_LEARNERS)
def test_what_is_stored_answers_as_what_was_trained(name):
    log = a_log()
    one = learner(name, 0.02)
    trained = one.train(log)
    restored = one.restore(json.loads(text_of(trained)))
    rows, feasible = log.features[:50], np.ones((50, 3), bool)
    assert (restored.probs(rows, feasible) == trained.probs(rows, feasible)).all()
    assert text_of(one.train(log)) == text_of(trained), "the same log gives the same model"
    best = trained.probs(np.array([[1.0, 0], [0.0, 0]]), np.ones((2, 3), bool)).argmax(axis=1)
    assert best.tolist() == [1, 2]


@pytest.mark.parametrize("name", NUMPY_LEARNERS)
def test_one_customer_and_a_table_of_them_get_the_same(name):
    log = a_log()
    model = learner(name, 0.02).train(log)
    rows = model.probs(log.features[:30], log.feasible[:30])
    for i in range(30):
        assert model.probs(log.features[[i]], log.feasible[[i]])[0] == pytest.approx(rows[i], abs=1e-12)


@pytest.mark.parametrize("name", NUMPY_LEARNERS)
def test_a_learned_policy_answers_for_exactly_what_is_feasible(name):
    model = learner(name, 0.02).train(a_log())
    policy = Learned(TABLE, DecisionSettings(), model, ("a", "b", "none"), name, "conversion:1")
    assert policy.features == ("activity_status",)
    context = Context("conversion", "s", {"activity_status": "Active"})
    assert max(policy.probs(context, ["a", "b", "none"]).items(), key=lambda x: x[1])[0] == "b"
    new = policy.probs(context, ["b", "unseen", "none"])
    assert list(new) == ["b", "unseen", "none"]
    assert new["unseen"] == pytest.approx(0.02), "what was never tried is tried now and then"
    assert policy.probs(context, ["unseen", "other"]) == {"unseen": 0.5, "other": 0.5}
    unknown = policy.probs(Context("conversion", None, {"activity_status": "never seen"}), ["a", "none"])
    assert sum(unknown.values()) == pytest.approx(1)


def test_an_unknown_learner_names_the_known_ones():
    with pytest.raises(ConfigError, match=f"there is no learner named 'magic'; known: {', '.join(sorted(LEARNERS))}"):
        learner("magic", 0.1)


class World:
    """Customers of two segments and three standings, whose answer to each action is known."""

    def __init__(self, seed: int = 3) -> None:
        self.draw = np.random.default_rng(seed)
        self.names = (*(action.action_id for action in TABLE.actions), "none")
        self.worth = {
            (segment, status): dict(zip(self.names, self.draw.uniform(0.02, 0.35, len(self.names)), strict=True))
            for segment, status in product(SEGMENTS, STATUS)
        }

    def customers(self, count: int, start: int) -> list[Customer]:
        return [
            Customer(
                f"c{start + i}", SEGMENTS[self.draw.integers(2)], True, True, bool(self.draw.random() < 0.8), True,
                features={"activity_status": STATUS[self.draw.integers(3)]},
            )
            for i in range(count)
        ]  # fmt: skip

    def reward(self, customer: Customer, action: str) -> float:
        return float(self.draw.random() < self.worth[customer.segment, customer.features["activity_status"]][action])

    def value(self, policy) -> float:
        """Expected reward of a customer for whom everything of the segment is feasible."""
        found = []
        for (segment, status), worth in self.worth.items():
            feasible = [a.action_id for a in TABLE.actions if segment in a.segments] + ["none"]
            found.append(sum(p * worth[a] for a, p in policy(segment, status, feasible).items()))
        return float(np.mean(found))


@pytest.mark.parametrize("name", ["softmax", pytest.param("thompson", marks=pytest.mark.long)])
def test_the_bandit_gets_nine_tenths_of_what_an_oracle_gains(name):
    """50,000 decisions through every guardrail, 10 % held out, refitted five times."""
    world = World()
    config = DecisionSettings(goal="conversion", policy="epsilon_mixed", epsilon=1.0, suppress_hours=24)
    clock = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
    rows: list[tuple] = []
    policy = None
    held = 0
    for turn in range(5):
        decider = Decider(config, clock, table=TABLE)
        decider.setup = replace(decider.setup, policy=policy or decider.setup.policy)
        customers = world.customers(10_000, turn * 10_000)
        for customer, decision in zip(customers, decider.decide_many(customers), strict=True):
            if decision.experiment_group == "holdout":
                held += 1
                assert decision.action == "none"
            elif len(decision.probabilities) > 1:
                look = {"activity_status": customer.features["activity_status"], "segment": customer.segment}
                reward = world.reward(customer, decision.action)
                rows.append((look, decision.action, reward, decision.propensity, decision.probabilities))
        columns, features = encode([row[0] for row in rows])
        log = Log(
            world.names,
            np.array([world.names.index(row[1]) for row in rows]),
            np.array([row[2] for row in rows]),
            np.array([row[3] for row in rows]),
            features,
            np.arange(len(rows)).astype(str),
            np.array([[name in row[4] for name in world.names] for row in rows]),
            columns=columns,
        )
        policy = Learned(TABLE, config, learner(name, 0.01).train(log), world.names, name, f"conversion:{turn}")
    assert 4_500 < held < 5_500

    def learned(segment, status, feasible):
        return policy.probs(Context("conversion", segment, {"activity_status": status}), feasible)

    uniform = world.value(lambda _s, _a, feasible: dict.fromkeys(feasible, 1 / len(feasible)))
    oracle = world.value(lambda s, a, feasible: {max(feasible, key=world.worth[s, a].__getitem__): 1.0})
    gain = (world.value(learned) - uniform) / (oracle - uniform)
    assert gain >= 0.9, f"{gain:.1%} of the oracle's gain"
