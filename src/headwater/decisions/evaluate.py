"""What another policy would have brought, worked out from a log, and how sure that is.

    ips     importance weights: unbiased, wide
    snips   the same, normalised by the weights' sum
    dm      a reward model alone: narrow, and biased where the model is wrong
    dr      the model, corrected by weights where the log can correct it

Everything that learns does so on other rows than it is judged on, and the rows of one customer stay together. Customers are
dealt into folds. The reward model learns on all other folds. What chooses (a learning target, the best constant) learns on the
folds **before** the one it is judged on, so the first fold only teaches. Were it to learn on the folds after as well, each half
of the data would have picked the winner for the other, the folds' errors would add up instead of cancelling, and an interval
that claims 95 % would cover 88 % where there is nothing to find. (Luedtke and van der Laan 2016 show the same for the value of
an optimal rule.)

A policy that was fitted on rows of the log is refused: on its own training rows anything looks good. The gain is a **paired**
difference to the best constant policy, because that is what an honest personalisation has to beat.

Doubly robust scores as in Dudík, Langford, Li (2011); cross-fitting as in Chernozhukov et al. (2018).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import reduce
from math import sqrt
from operator import add

import numpy as np

from headwater.decisions.hashing import unit
from headwater.decisions.health import Check, effective_rows, mean_weight
from headwater.errors import DataError, InvalidValue, Refused

ESTIMATORS = ("ips", "snips", "dm", "dr")
BASELINES = ("best_constant", "logged")
BEST_CONSTANT = "the best constant policy"
Z = 1.959963984540054
RIDGE = 1.0
SMALL = 1e-12


@dataclass(frozen=True)
class Log:
    """n logged decisions between k actions.

    `actions`: k names. `action` (n,) int64, index of the action taken. `reward` (n,) float64, no nulls. `propensity` (n,) float64
    in (0, 1], of the action taken. `features` (n, d) float64, no nulls. `units` (n,) str, the customer; row i of each array is
    decision i. `feasible` (n, k) bool, all true when left out. `checks`: what the reader of the log has found already.
    `excluded`: decisions left out because a step after the draw had changed them. `columns`: names of the features, where
    something is to be learned from them that is asked again later.
    """

    actions: tuple[str, ...]
    action: np.ndarray
    reward: np.ndarray
    propensity: np.ndarray
    features: np.ndarray
    units: np.ndarray
    feasible: np.ndarray = field(default_factory=lambda: np.empty((0, 0), dtype=bool))
    checks: tuple[Check, ...] = ()
    excluded: int = 0
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        n, k = len(self.action), len(self.actions)
        if not self.feasible.size:
            object.__setattr__(self, "feasible", np.ones((n, k), dtype=bool))
        problems = [
            f"{name} has the shape {array.shape}, expected {shape}"
            for name, array, shape in (
                ("reward", self.reward, (n,)),
                ("propensity", self.propensity, (n,)),
                ("units", self.units, (n,)),
                ("feasible", self.feasible, (n, k)),
            )
            if array.shape != shape
        ]
        if self.features.ndim != 2 or len(self.features) != n:
            problems.append(f"features has the shape {self.features.shape}, expected ({n}, d)")
        if not problems:
            problems += [
                f"{name} has values that are not finite"
                for name, array in (("reward", self.reward), ("features", self.features))
                if not np.isfinite(array).all()
            ]
            if not ((self.propensity > 0) & (self.propensity <= 1)).all():
                problems.append("propensity has values outside (0, 1]")
            if n and not self.feasible[np.arange(n), self.action].all():
                problems.append("feasible excludes an action that was taken")
        if n < 2:
            problems.append(f"it has {n} rows, at least 2 are needed")
        if problems:
            raise DataError("the log cannot be evaluated: " + "; ".join(problems))

    def __len__(self) -> int:
        return len(self.action)

    def rows(self, which: np.ndarray) -> "Log":
        """The rows that a boolean mask (n,) selects."""
        return Log(
            self.actions,
            self.action[which],
            self.reward[which],
            self.propensity[which],
            self.features[which],
            self.units[which],
            self.feasible[which],
            columns=self.columns,
        )


class Target(ABC):
    """A policy to be judged. `fitted_on`: the customers it has learned from."""

    name: str
    fitted_on: frozenset[str] = frozenset()

    def probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        """(n, k) float64: probabilities over the feasible actions, each row summing to 1."""
        given = np.where(feasible, self._probs(features, feasible), 0.0)
        total = given.sum(axis=1, keepdims=True)
        if (given < 0).any() or not (total > 0).all():
            raise InvalidValue(f"policy {self.name!r}: a row has no feasible action of positive probability")
        return given / total

    @abstractmethod
    def _probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        """The idea: non-negative numbers (n, k); what is not feasible is set to 0 and the rest scaled to 1."""


class Constant(Target):
    """Always the same action; where it is not feasible, an even draw over what is."""

    def __init__(self, action: int, name: str) -> None:
        self.name = f"always {name}"
        self._action = action

    def _probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        chosen = np.zeros(feasible.shape)
        chosen[:, self._action] = 1.0
        return np.where(feasible[:, [self._action]], chosen, feasible)


class Uniform(Target):
    """An even draw over what is feasible."""

    name = "uniform"

    def _probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        return feasible.astype(float)


class Given(Target):
    """A policy that is known, not learned from this log. `function`: (features, feasible) → (n, k)."""

    def __init__(self, name: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
        self.name = name
        self._function = function

    def _probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        return self._function(features, feasible)


class Fitted(Given):
    """What a learner has made of some rows; it remembers whose rows they were."""

    def __init__(
        self, name: str, function: Callable[[np.ndarray, np.ndarray], np.ndarray], fitted_on: frozenset[str]
    ) -> None:
        super().__init__(name, function)
        self.fitted_on = fitted_on


class Learner(ABC):
    """Something that makes a policy from a log. `fit` notes whose rows were used; `_fit` is the idea."""

    name: str

    def fit(self, log: Log) -> Fitted:
        """A policy fitted on these rows."""
        return Fitted(self.name, self._fit(log), frozenset(log.units.tolist()))

    @abstractmethod
    def _fit(self, log: Log) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        """A function (features, feasible) → (n, k) of non-negative numbers."""


class Greedy(Learner):
    """The action of the highest expected reward, by one ridge regression per action."""

    name = "greedy"

    def _fit(self, log: Log) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        model = RewardModel(log)

        def choose(features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
            expected = np.where(feasible, model.expected(features), -np.inf)
            return np.eye(feasible.shape[1])[expected.argmax(axis=1)]

        return choose


@dataclass(frozen=True)
class Moments:
    """Sums over rows by action, enough for a regression of the reward on the features; those of disjoint rows add up.

    Over k actions and d features: `n` (k,), `x` (k, d), `xx` (k, d, d), `y` (k,), `xy` (k, d), all float64.
    """

    n: np.ndarray
    x: np.ndarray
    xx: np.ndarray
    y: np.ndarray
    xy: np.ndarray

    @classmethod
    def of(cls, log: Log) -> "Moments":
        """The sums over all rows of a log."""
        parts = [(log.features[rows], log.reward[rows]) for rows in (log.action == a for a in range(len(log.actions)))]
        return cls(
            np.array([len(y) for _, y in parts], dtype=float),
            np.array([x.sum(axis=0) for x, _ in parts]),
            np.array([x.T @ x for x, _ in parts]),
            np.array([y.sum() for _, y in parts]),
            np.array([x.T @ y for x, y in parts]),
        )

    def without(self, other: "Moments") -> "Moments":
        """The sums over the rows that `other` does not have."""
        return Moments(self.n - other.n, self.x - other.x, self.xx - other.xx, self.y - other.y, self.xy - other.xy)

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.n + other.n, self.x + other.x, self.xx + other.xx, self.y + other.y, self.xy + other.xy)


class RewardModel:
    """Expected reward of each action, (n, k): one ridge regression per action on standardised features; the mean of all rows
    for an action that was hardly taken."""

    def __init__(self, rows: "Log | Moments") -> None:
        told = rows if isinstance(rows, Moments) else Moments.of(rows)
        total, d = told.n.sum(), told.x.shape[1]
        self._center = told.x.sum(axis=0) / total
        variance = np.diagonal(told.xx.sum(axis=0)) / total - self._center**2
        self._scale = np.where(variance > SMALL * (1 + self._center**2), np.sqrt(np.maximum(variance, 0)), 1.0)
        overall = np.zeros(d + 1)
        overall[0] = told.y.sum() / total
        penalty = RIDGE * np.eye(d + 1)
        penalty[0, 0] = 0.0
        weights = []
        for n, x, xx, y, xy in zip(told.n, told.x, told.xx, told.y, told.xy, strict=True):
            if n <= d + 1:
                weights.append(overall)
                continue
            c, s = self._center, self._scale
            gram = np.empty((d + 1, d + 1))
            gram[0, 0] = n
            gram[0, 1:] = gram[1:, 0] = (x - n * c) / s
            gram[1:, 1:] = (xx - np.outer(c, x) - np.outer(x, c) + n * np.outer(c, c)) / np.outer(s, s)
            aim = np.concatenate([[y], (xy - c * y) / s])
            weights.append(np.linalg.solve(gram + penalty, aim))
        self._weights = np.array(weights).T

    def expected(self, features: np.ndarray) -> np.ndarray:
        design = np.column_stack([np.ones(len(features)), (features - self._center) / self._scale])
        return design @ self._weights


@dataclass(frozen=True)
class Estimate:
    """A mean with its standard error (clustered by customer) and 95 % interval."""

    value: float
    error: float

    @property
    def low(self) -> float:
        return self.value - Z * self.error

    @property
    def high(self) -> float:
        return self.value + Z * self.error


@dataclass(frozen=True)
class Evaluation:
    """`difference` is target minus baseline, paired row by row. `trusted` is false when any check failed: then no number here
    is to be used, and `beats_baseline` is false whatever it says. `bar`: the constant policy that is best on all rows. `unit`: what
    the reward is counted in, for the sentence; `points` where it is a share."""

    target: str
    estimator: str
    baseline: str
    bar: str
    rows: int
    excluded: int
    value: Estimate
    baseline_value: Estimate
    difference: Estimate
    logged_value: float
    checks: tuple[Check, ...]
    unit: str = ""

    @property
    def trusted(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def beats_baseline(self) -> bool:
        """Whether the lower bound of the paired difference is above 0 and every check passed; never by a model alone, whose
        interval knows nothing of the model's own error."""
        return self.trusted and self.estimator != "dm" and self.difference.low > 0

    @property
    def relative(self) -> float:
        """The target's value over the mean reward in the log."""
        return self.value.value / self.logged_value if self.logged_value else float("nan")

    @property
    def sentence(self) -> str:
        """The result in one sentence, or why there is none."""
        failed = [check.sentence for check in self.checks if not check.ok]
        if failed:
            return f"{self.target} cannot be judged on this log: " + "; ".join(failed)
        verdict = "beats" if self.beats_baseline else "is not shown to beat"
        against = f"{self.baseline} ({self.bar})" if self.baseline == BEST_CONSTANT else self.baseline
        value, low, high = (
            f"{number * 100:+.2f}" if self.unit == "points" else f"{number:+.4g}"
            for number in (self.difference.value, self.difference.low, self.difference.high)
        )
        counted_in = f" {self.unit}" if self.unit else ""
        return (
            f"{self.target} {verdict} {against}: {value}{counted_in} [{low}, {high}] per decision "
            f"over {self.rows:,} rows ({self.estimator})"
        )


def evaluate(
    log: Log,
    target: Target | Learner,
    estimator: str = "dr",
    baseline: str = "best_constant",
    folds: int = 5,
    seed: int = 1,
    *,
    metric: np.ndarray | None = None,
) -> Evaluation:
    """Judge a policy on a log; a `Learner` is fitted anew for each fold, on the folds before it.

    `baseline`: `best_constant` (chosen on the folds before) or `logged` (what was done). `metric` (n,) float64: what is judged
    in place of the reward; what learns still learns from the reward. Raises Refused when the target was
    fitted on customers of this log, or when the log is of a deterministic policy and so says nothing of other actions;
    InvalidValue for an unknown estimator or baseline, or fewer than two folds.
    """
    if estimator not in ESTIMATORS:
        raise InvalidValue(f"estimator: found {estimator!r}; allowed: {', '.join(ESTIMATORS)}")
    if baseline not in BASELINES:
        raise InvalidValue(f"baseline: found {baseline!r}; allowed: {', '.join(BASELINES)}")
    _refuse(log, target)
    names, which = np.unique(log.units, return_inverse=True)
    fold = _folds(names, folds, seed)[which]
    n = len(log)
    judging = log if metric is None else replace(log, reward=metric)
    learns = isinstance(target, Learner)
    compares = baseline == "best_constant"
    pi, pi_base, expected = (np.zeros((n, len(log.actions))) for _ in range(3))
    sums = [Moments.of(judging.rows(fold == number)) for number in range(folds)]
    total = reduce(add, sums)
    for number in range(folds):
        here = fold == number
        features, feasible = log.features[here], log.feasible[here]
        expected[here] = RewardModel(total.without(sums[number])).expected(features)
        before = log.rows(fold < number) if number and (learns or compares) else None
        if isinstance(target, Target):
            pi[here] = target.probs(features, feasible)
        elif before is not None:
            pi[here] = target.fit(before).probs(features, feasible)
        if compares and before is not None:
            pi_base[here] = best_constant(before).probs(features, feasible)
    judged = fold > 0 if learns else np.ones(n, dtype=bool)
    compared = fold > 0 if learns or compares else judged
    weights = (pi[np.arange(n), log.action] / log.propensity)[judged]
    base_scores = judging.reward
    if compares:
        base_scores = _scores(estimator, judging, pi_base, expected, compared)
    even = Uniform().probs(log.features, log.feasible)[np.arange(n), log.action] / log.propensity
    checks = (*log.checks, mean_weight(target.name, weights), mean_weight("uniform", even), effective_rows(weights))
    scores = _scores(estimator, judging, pi, expected, judged)
    paired = scores if (judged == compared).all() else _scores(estimator, judging, pi, expected, compared)
    return Evaluation(
        target.name,
        estimator,
        BEST_CONSTANT if compares else "what was done",
        best_constant(log).name,
        int(compared.sum()),
        log.excluded,
        _mean(scores[judged], which[judged]),
        _mean(base_scores[compared], which[compared]),
        _mean((paired - base_scores)[compared], which[compared]),
        float(judging.reward.mean()),
        checks,
    )


def best_constant(log: Log) -> Constant:
    """The constant policy of the highest normalised value on these rows."""
    values = []
    for number, name in enumerate(log.actions):
        policy = Constant(number, name)
        weights = policy.probs(log.features, log.feasible)[np.arange(len(log)), log.action] / log.propensity
        total = weights.sum()
        values.append((float((weights * log.reward).sum() / total) if total > 0 else -np.inf, -number))
    return Constant(-max(values)[1], log.actions[-max(values)[1]])


def _refuse(log: Log, target: Target | Learner) -> None:
    if isinstance(target, Target) and target.fitted_on:
        shared = len(target.fitted_on.intersection(log.units.tolist()))
        if shared:
            raise Refused(
                f"{target.name} was fitted on {shared:,} of the customers it is to be judged on; on its own training rows any policy "
                "looks good. Give the learner instead of the fitted policy (it is then fitted on other folds), or other customers"
            )
    if (log.propensity == 1).all() and (log.feasible.sum(axis=1) > 1).any():
        raise Refused(
            "the log is of a deterministic policy (every propensity is 1), so it says nothing of what another action would have brought. "
            "Set `decisions.policy: epsilon_mixed` and gather a log first"
        )


def _folds(names: np.ndarray, folds: int, seed: int) -> np.ndarray:
    """(customers,) int64: the fold of each customer, by a hash, all folds of the same size."""
    if folds < 2:
        raise InvalidValue(f"folds: found {folds}; allowed: 2 or more")
    if len(names) < folds:
        raise Refused(
            f"the log has {len(names)} customers, fewer than the {folds} folds; gather more or use fewer folds"
        )
    order = np.argsort([unit("fold", str(seed), str(name)) for name in names])
    place = np.empty(len(names), dtype=np.int64)
    place[order] = np.arange(len(names)) % folds
    return place


def _scores(estimator: str, log: Log, pi: np.ndarray, expected: np.ndarray, judged: np.ndarray) -> np.ndarray:
    """(n,) float64 whose mean over the `judged` rows is the estimate and whose spread is its error."""
    taken = (np.arange(len(log)), log.action)
    weights = pi[taken] / log.propensity
    if estimator == "ips":
        return weights * log.reward
    if estimator == "snips":
        mean = weights[judged].mean() or 1.0
        value = (weights * log.reward)[judged].mean() / mean
        return value + weights * (log.reward - value) / mean
    modelled = (pi * expected).sum(axis=1)
    if estimator == "dm":
        return modelled
    return modelled + weights * (log.reward - expected[taken])


def _mean(scores: np.ndarray, which: np.ndarray) -> Estimate:
    """Mean of the scores; the error sums the deviations of one customer before squaring."""
    n = len(scores)
    mean = float(scores.mean())
    per_unit = np.bincount(which, weights=scores - mean)
    groups = len(np.unique(which))
    correction = groups / (groups - 1) if groups > 1 else 1.0
    return Estimate(mean, sqrt(float((per_unit**2).sum()) * correction) / n)
