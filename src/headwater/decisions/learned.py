"""Policies that learn: what a log of decisions and rewards says of each action, and how that becomes probabilities.

One model for both rules: for each action a Bayesian linear regression of the reward on the customer's buckets (one column of 0
and 1 per bucket and value), shrunk towards the mean of all rows. It gives an expected reward and how unsure that is.

    softmax     actions in proportion to exp(expected reward / temperature); the temperature is the mean uncertainty of the
                expectations, so the policy explores as long as the log is thin and settles as it grows
    thompson    an action as often as it would be the best in draws from the posterior (linear Thompson sampling). The
                probability is integrated, not counted from draws, so what is logged is exactly what was drawn from

Both keep a floor under every feasible action. A model is a few hundred numbers and is kept as JSON in `policy_registry`.
"""

import json
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy.special import ndtr

from headwater.decisions.customer import FEATURES
from headwater.decisions.evaluate import Learner, Log
from headwater.decisions.logged import encode
from headwater.decisions.policy import Context, Policy
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Table
from headwater.errors import DataError
from headwater.registry import load

LEARNERS: dict[str, str] = {
    "softmax": "headwater.decisions.learned:Softmax",
    "thompson": "headwater.decisions.learned:Thompson",
    "vowpal_wabbit": "headwater.decisions.vowpal_wabbit:VowpalWabbit",
}

PRIOR_ROWS = 1.0
"""How many rows the prior of a coefficient weighs."""

LEAST_SPREAD = 1e-9
GRID = 401


class Model(Protocol):
    """What a learner leaves behind."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the features, `name=value`."""
        ...

    @property
    def floor(self) -> float:
        """Least probability of a feasible action."""
        ...

    def probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        """(n, k) float64 over `actions`, 0 where not feasible, each row summing to 1 (0 when nothing is feasible)."""
        ...

    def as_json(self) -> dict[str, Any]:
        """All of it, for `restore` of its learner."""
        ...


class StoredLearner(Learner):
    """A learner whose models can be kept and asked again. Its author writes `train` and `restore`."""

    def __init__(self, floor: float) -> None:
        self.floor = floor

    @abstractmethod
    def train(self, log: Log) -> Model:
        """A model of these rows."""

    @abstractmethod
    def restore(self, stored: Mapping[str, Any]) -> Model:
        """The model that `as_json` described."""

    def _fit(self, log: Log) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
        return self.train(log).probs


def learner(name: str, floor: float) -> StoredLearner:
    """The learner of that name, of LEARNERS or an import string. Raises ConfigError when there is none."""
    return load("learner", name, LEARNERS)(floor)


@dataclass(frozen=True)
class Linear:
    """`mean` (k, d + 1) float64: coefficients, the first is the intercept. `covariance` (k, d + 1, d + 1). Row i of each is
    `actions[i]`. `rule`: softmax or thompson."""

    actions: tuple[str, ...]
    columns: tuple[str, ...]
    mean: np.ndarray
    covariance: np.ndarray
    rule: str
    temperature: float
    floor: float

    def expected(self, features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Expected reward and its standard deviation, (n, k) each."""
        x = np.column_stack([np.ones(len(features)), features])
        spread = np.stack([((x @ one) * x).sum(axis=1) for one in self.covariance], axis=1)
        return x @ self.mean.T, np.sqrt(np.maximum(spread, LEAST_SPREAD**2))

    def probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        if len(features) > 1:  # customers of the same buckets are asked for once
            packed = np.column_stack([features, feasible.astype(float)])
            rows, which = distinct_rows(packed)
            if len(rows) < len(features):
                d = features.shape[1]
                return self.probs(rows[:, :d], rows[:, d:] > 0)[which]
        mean, spread = self.expected(features)
        given = (
            _thompson(mean, spread, feasible)
            if self.rule == "thompson"
            else _softmax(mean / self.temperature, feasible)
        )
        return floored(given, feasible, self.floor)

    def as_json(self) -> dict[str, Any]:
        return {
            "actions": self.actions, "columns": self.columns, "mean": self.mean.tolist(),
            "covariance": self.covariance.tolist(), "rule": self.rule, "temperature": self.temperature, "floor": self.floor,
        }  # fmt: skip


class _LinearLearner(StoredLearner):
    """Least squares per action, with a prior that pulls each action towards the mean of all rows."""

    def train(self, log: Log) -> Linear:
        n, d = log.features.shape
        x = np.column_stack([np.ones(n), log.features])
        overall = float(log.reward.mean())
        residual = log.reward - overall
        means = np.zeros((len(log.actions), d + 1))
        inverses = np.zeros((len(log.actions), d + 1, d + 1))
        squares = 0.0
        for action in range(len(log.actions)):
            rows = log.action == action
            mine, aim = x[rows], residual[rows]
            inverses[action] = np.linalg.inv(mine.T @ mine + PRIOR_ROWS * np.eye(d + 1))
            means[action] = inverses[action] @ (mine.T @ aim)
            squares += float(((aim - mine @ means[action]) ** 2).sum())
        noise = max(squares / max(1, n), LEAST_SPREAD)
        means[:, 0] += overall
        model = Linear(log.actions, log.columns, means, noise * inverses, self.name, 1.0, self.floor)
        return replace(model, temperature=max(_doubt(model, log), LEAST_SPREAD))

    def restore(self, stored: Mapping[str, Any]) -> Linear:
        return Linear(
            tuple(stored["actions"]), tuple(stored["columns"]), np.array(stored["mean"], dtype=float),
            np.array(stored["covariance"], dtype=float), stored["rule"], stored["temperature"], stored["floor"],
        )  # fmt: skip


class Softmax(_LinearLearner):
    """Actions in proportion to the exponential of what is expected of them."""

    name = "softmax"


class Thompson(_LinearLearner):
    """An action as often as it would be the best, as far as the log knows."""

    name = "thompson"


class Learned(Policy):
    """A model from the registry, as the policy that decides.

    An action that the model has never seen gets the floor and what is left over: with no other action known it is as good as
    any. Buckets that the model has never seen count as unknown.
    """

    def __init__(
        self, table: Table, settings: DecisionSettings, model: Model, actions: Sequence[str], name: str, version: str
    ) -> None:
        super().__init__(table, settings)
        self.name = name  # pyrefly: ignore
        self.version = version
        self.features = tuple(sorted({c.split("=", 1)[0] for c in model.columns}.intersection(FEATURES)))
        self._model = model
        self._place = {action: position for position, action in enumerate(actions)}
        self._floor = model.floor

    def _probs(self, context: Context, actions: Sequence[str]) -> Mapping[str, float]:
        known = [action for action in actions if action in self._place]
        if not known:
            return dict.fromkeys(actions, 1 / len(actions))
        _, x = encode([{**context.features, "segment": context.segment}], self._model.columns)
        feasible = np.zeros((1, len(self._place)), dtype=bool)
        feasible[0, [self._place[action] for action in known]] = True
        given = self._model.probs(x, feasible)[0]
        new = min(self._floor, 1 / len(actions))
        share = 1 - new * (len(actions) - len(known))
        found = {a: share * float(given[self._place[a]]) if a in self._place else new for a in actions}
        total = sum(found.values())
        return {action: value / total for action, value in found.items()}


def text_of(model: Model) -> str:
    """A model as JSON text; the same model gives the same text."""
    return json.dumps(model.as_json(), sort_keys=True)


def floored(given: np.ndarray, feasible: np.ndarray, floor: float) -> np.ndarray:
    """(n, k): each row mixed with an even draw, so that no feasible action falls below `floor` (or 1/K where that is less)."""
    count = np.maximum(feasible.sum(axis=1, keepdims=True), 1)
    least = np.minimum(floor, 1 / count)
    return np.where(feasible, least + (1 - least * count) * given, 0.0)


def need_columns(log: Log) -> None:
    """Raises DataError when the log does not say what its features are called: a model of it could not be asked again."""
    if len(log.columns) != log.features.shape[1]:
        raise DataError(
            f"the log has {log.features.shape[1]} features and {len(log.columns)} names for them; a policy needs to know what it reads"
        )


def _softmax(score: np.ndarray, feasible: np.ndarray) -> np.ndarray:
    """(n, k) float64; rows without a feasible action are 0."""
    shown = np.where(feasible, score, -np.inf)
    most = shown.max(axis=1, keepdims=True)
    grown = np.exp(np.where(feasible, score - np.where(np.isfinite(most), most, 0.0), -np.inf))
    return grown / np.maximum(grown.sum(axis=1, keepdims=True), LEAST_SPREAD)


def _thompson(mean: np.ndarray, spread: np.ndarray, feasible: np.ndarray) -> np.ndarray:
    """(n, k): the probability that each action's normal draw is the largest: ∫ f_a(t) ∏_{b≠a} F_b(t) dt, by Simpson's rule on
    a grid in each action's own units."""
    z = np.linspace(-8.0, 8.0, GRID)
    weight = np.ones(GRID)
    weight[1:-1:2], weight[2:-1:2] = 4.0, 2.0
    weight *= np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0]) / 3
    found = np.zeros(mean.shape)
    for a in range(mean.shape[1]):
        at = mean[:, [a]] + spread[:, [a]] * z
        below = np.ones(at.shape)
        for b in range(mean.shape[1]):
            if b != a:
                below *= np.where(feasible[:, [b]], ndtr((at - mean[:, [b]]) / spread[:, [b]]), 1.0)
        found[:, a] = np.where(feasible[:, a], below @ weight, 0.0)
    return found / np.maximum(found.sum(axis=1, keepdims=True), LEAST_SPREAD)


def _doubt(model: Linear, log: Log) -> float:
    """Mean standard deviation of what is expected of a feasible action, over the rows of the log."""
    packed = np.column_stack([log.features, log.feasible.astype(float)])
    rows, which = distinct_rows(packed)
    d = log.features.shape[1]
    feasible = rows[:, d:] > 0
    _, spread = model.expected(rows[:, :d])
    mean = np.where(feasible, spread, 0.0).sum(axis=1) / np.maximum(feasible.sum(axis=1), 1)
    return float((mean * np.bincount(which)).sum() / len(which))


def distinct_rows(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct rows of a table of float64, and for each row which one it is."""
    packed = np.ascontiguousarray(rows)
    if packed.shape[1] == 0:
        return packed[:1], np.zeros(len(packed), dtype=np.int64)
    draw = np.random.default_rng(0).random(packed.shape[1])
    _, first, which = np.unique(packed @ draw, return_index=True, return_inverse=True)
    if (packed[first][which] != packed).any():  # two rows that sum to the same: go the long way
        distinct, which = np.unique(packed, axis=0, return_inverse=True)
        return distinct, which.reshape(-1)
    return packed[first], which
