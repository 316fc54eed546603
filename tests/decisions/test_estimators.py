"""The estimators against a second implementation that shares nothing with ours: row by row, in plain Python and scikit-learn."""

import hashlib
from math import sqrt

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from headwater.decisions.evaluate import Given, Log, evaluate

N, K, D, FOLDS, SEED = 1_200, 4, 3, 4, 7


@pytest.fixture(scope="module")
def world():
    """Decisions of a policy with guardrails, several for some customers; the target prefers what its features say."""
    draw = np.random.default_rng(11)
    features = draw.normal(size=(N, D))
    feasible = draw.random((N, K)) < 0.8
    feasible[:, K - 1] = True
    logging = np.where(feasible, draw.uniform(0.2, 1, (N, K)), 0)
    logging /= logging.sum(axis=1, keepdims=True)
    action = np.array([draw.choice(K, p=row) for row in logging])
    reward = features[:, 0] * (action == 1) + 0.3 * action + draw.normal(size=N)
    units = np.array([f"customer {i}" for i in draw.integers(0, 900, N)])
    log = Log(tuple("wxyz"), action, reward, logging[np.arange(N), action], features, units, feasible)
    wish = np.exp(features @ draw.normal(size=(D, K)))
    return log, wish


def told(log: Log, wish: np.ndarray) -> dict[str, tuple[float, float, float, float]]:
    """Estimator → value, its standard error, difference to the best constant, its standard error."""

    def hashed(name: str) -> int:
        text = "\x1f".join(("fold", str(SEED), name))
        return int.from_bytes(hashlib.md5(text.encode()).digest()[8:], "little") >> 11

    names = sorted(set(log.units), key=hashed)
    fold = {name: place % FOLDS for place, name in enumerate(names)}
    where = [fold[name] for name in log.units]

    def target(i: int) -> list[float]:
        row = [wish[i, a] if log.feasible[i, a] else 0.0 for a in range(K)]
        return [value / sum(row) for value in row]

    def constant(i: int, chosen: int) -> list[float]:
        if log.feasible[i, chosen]:
            return [float(a == chosen) for a in range(K)]
        return [float(log.feasible[i, a]) / log.feasible[i].sum() for a in range(K)]

    expected = np.zeros((N, K))
    for f in range(FOLDS):
        others = [i for i in range(N) if where[i] != f]
        here = [i for i in range(N) if where[i] == f]
        center, scale = log.features[others].mean(axis=0), log.features[others].std(axis=0)
        for a in range(K):
            rows = [i for i in others if log.action[i] == a]
            model = Ridge(alpha=1.0).fit((log.features[rows] - center) / scale, log.reward[rows])
            # the intercept of Ridge is not shrunk, as ours is not
            expected[here, a] = model.predict((log.features[here] - center) / scale)
    best = {}
    for f in range(1, FOLDS):
        rows = [i for i in range(N) if where[i] < f]
        worth = []
        for a in range(K):
            weights = [constant(i, a)[log.action[i]] / log.propensity[i] for i in rows]
            worth.append(sum(w * log.reward[i] for w, i in zip(weights, rows, strict=True)) / sum(weights))
        best[f] = int(np.argmax(worth))
    compared = [i for i in range(N) if where[i] > 0]

    def scores(kind: str, policy: dict[int, list[float]]) -> dict[int, float]:
        weight = {i: pi[log.action[i]] / log.propensity[i] for i, pi in policy.items()}
        if kind == "ips":
            return {i: w * log.reward[i] for i, w in weight.items()}
        if kind == "snips":
            mean = sum(weight.values()) / len(weight)
            value = sum(w * log.reward[i] for i, w in weight.items()) / sum(weight.values())
            return {i: value + w * (log.reward[i] - value) / mean for i, w in weight.items()}
        found = {i: sum(p * expected[i, a] for a, p in enumerate(pi)) for i, pi in policy.items()}
        if kind == "dr":
            found = {i: m + weight[i] * (log.reward[i] - expected[i, log.action[i]]) for i, m in found.items()}
        return found

    def mean(values: dict[int, float]) -> tuple[float, float]:
        center = sum(values.values()) / len(values)
        sums: dict[str, float] = {}
        for i, value in values.items():
            sums[log.units[i]] = sums.get(log.units[i], 0.0) + value - center
        m = len(sums)
        return center, sqrt(sum(s * s for s in sums.values()) * m / (m - 1)) / len(values)

    answers = {}
    for kind in ("ips", "snips", "dm", "dr"):
        whole = scores(kind, {i: target(i) for i in range(N)})
        ours = scores(kind, {i: target(i) for i in compared})
        bar = scores(kind, {i: constant(i, best[where[i]]) for i in compared})
        answers[kind] = (*mean(whole), *mean({i: ours[i] - bar[i] for i in compared}))
    return answers


@pytest.mark.parametrize("kind", ["ips", "snips", "dm", "dr"])
def test_each_estimator_equals_the_second_implementation(world, kind):
    log, wish = world
    found = evaluate(
        log, Given("wish", lambda features, feasible: wish_of(features, log, wish)), kind, folds=FOLDS, seed=SEED
    )
    value, error, difference, spread = told(log, wish)[kind]
    assert found.value.value == pytest.approx(value, abs=1e-9)
    assert found.value.error == pytest.approx(error, abs=1e-9)
    assert found.difference.value == pytest.approx(difference, abs=1e-9)
    assert found.difference.error == pytest.approx(spread, abs=1e-9)


def wish_of(features, log, wish):
    place = {row.tobytes(): i for i, row in enumerate(log.features)}
    return np.array([wish[place[row.tobytes()]] for row in features])
