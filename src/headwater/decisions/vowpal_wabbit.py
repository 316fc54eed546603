"""A contextual bandit by Vowpal Wabbit (extra `vw`): softmax exploration over a linear model with all pairs of customer and action.

It learns row by row from the importance-weighted log, reads interactions that the models of learned.py do not, and keeps its
regressor, as its own bytes, in the registry. What it answers is a distribution over the feasible actions, so propensities are
exact here as well.
"""

import base64
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from headwater.decisions.evaluate import Log
from headwater.decisions.learned import StoredLearner, distinct_rows, floored
from headwater.errors import ConfigError

ARGUMENTS = (
    "--cb_explore_adf --cb_type mtr --softmax --lambda 10 --interactions UA --power_t 0.2 -b 18 --random_seed 1 --quiet"
)
PASSES = 2


@dataclass(frozen=True)
class Regressor:
    """A trained model. `scale`: what a reward is divided by, so that it lies about 1."""

    actions: tuple[str, ...]
    columns: tuple[str, ...]
    floor: float
    scale: float
    content: bytes
    _workspace: list[Any] = field(default_factory=list, compare=False, repr=False)

    def probs(self, features: np.ndarray, feasible: np.ndarray) -> np.ndarray:
        if not self._workspace:
            self._workspace.append(_loaded(self.content))
        d = features.shape[1]
        rows, which = distinct_rows(np.column_stack([features, feasible.astype(float)]))
        found = np.zeros((len(rows), feasible.shape[1]))
        for number, row in enumerate(rows):
            open_ = np.flatnonzero(row[d:] > 0)
            if len(open_):
                found[number, open_] = self._workspace[0].predict(_lines(row[:d], open_))
        found /= np.maximum(found.sum(axis=1, keepdims=True), 1e-12)
        return floored(found[which], feasible, self.floor)

    def as_json(self) -> dict[str, Any]:
        content = base64.b64encode(self.content).decode()
        return {
            "actions": self.actions,
            "columns": self.columns,
            "floor": self.floor,
            "scale": self.scale,
            "content": content,
        }


class VowpalWabbit(StoredLearner):
    """Vowpal Wabbit's contextual bandit. Raises ConfigError with the line that installs it where it is not there."""

    name = "vowpal_wabbit"

    def train(self, log: Log) -> Regressor:
        spread = float(log.reward.std()) or 1.0
        cost = (log.reward.mean() - log.reward) / spread
        workspace = _workspace(ARGUMENTS)
        order = np.random.default_rng(1).permutation(len(log))
        for _ in range(PASSES):
            for i in order:
                open_ = np.flatnonzero(log.feasible[i])
                workspace.learn(_lines(log.features[i], open_, (int(log.action[i]), cost[i], log.propensity[i])))
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "regressor"
            workspace.save(str(path))
            workspace.finish()
            return Regressor(log.actions, log.columns, self.floor, spread, path.read_bytes())

    def restore(self, stored: Mapping[str, Any]) -> Regressor:
        return Regressor(
            tuple(stored["actions"]), tuple(stored["columns"]), stored["floor"], stored["scale"],
            base64.b64decode(stored["content"]),
        )  # fmt: skip


def _lines(row: np.ndarray, actions: np.ndarray, taken: tuple[int, float, float] | None = None) -> list[str]:
    """One example: a line for the customer, one per action; the one taken carries its cost and propensity."""
    shared = "shared |U " + " ".join(f"c{column}:{row[column]:g}" for column in np.flatnonzero(row))
    lines = [shared]
    for action in actions:
        label = f"0:{taken[1]:.6g}:{taken[2]:.6g} " if taken is not None and taken[0] == action else ""
        lines.append(f"{label}|A a{action}")
    return lines


def _loaded(content: bytes) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "regressor"
        path.write_bytes(content)
        return _workspace(f"-i {path} -t --quiet")


def _workspace(arguments: str) -> Any:
    try:
        from vowpalwabbit import Workspace  # noqa: PLC0415 (it is an extra)
    except ImportError as error:
        raise ConfigError(
            "decisions.learning.learner: found 'vowpal_wabbit', which is not installed; `pip install 'headwater[vw]'` brings it, or "
            "use softmax or thompson"
        ) from error
    return Workspace(arguments)
