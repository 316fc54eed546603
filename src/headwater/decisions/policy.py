"""The seam of what chooses: a policy gives a probability to each action that the guardrails have left.

The public method `probs` holds the rule (exactly these actions, sums to 1, never below the floor), the private `_probs` holds
the idea; the author of a policy writes `_probs` and names the features it reads. `none` is always among the actions.

    L0  default_table   the table's action, surely. Deterministic: what it would have brought cannot be estimated from its log
    L1  epsilon_mixed   the table's action mostly, every feasible action sometimes: a log that later policies can be judged by
    L2  champion        what was learned from such a log and promoted (champion.py); epsilon_mixed until something was
    L3  llm             what a language model was asked before the run (llm/); epsilon_mixed where it gave no answer
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import NONE, Table
from headwater.errors import StageFailed
from headwater.registry import load
from headwater.warehouse import Warehouse

POLICIES: dict[str, str] = {
    "default_table": "headwater.decisions.policy:DefaultTable",
    "epsilon_mixed": "headwater.decisions.policy:EpsilonMixed",
    "champion": "headwater.decisions.policy:Champion",
    "llm": "headwater.decisions.llm.choose:LlmChoice",
}


@dataclass(frozen=True)
class Context:
    """All that a policy may know. `features` holds exactly the policy's own `features`, as buckets; None = unknown."""

    goal: str
    segment: str | None
    features: Mapping[str, str | None] = field(default_factory=dict)


class Policy(ABC):
    """Base of all policies. Called once per distinct context and set of actions, from one thread.

    `version` changes whenever the probabilities may. `features`: what `_probs` reads of the context; anything else is not
    handed in. `floor`: the least probability of every action, so that a log can be evaluated; 0 = no floor.
    """

    name: ClassVar[str]
    version: str = "1"
    features: tuple[str, ...] = ()
    floor: float = 0.0

    def __init__(self, table: Table, settings: DecisionSettings) -> None:
        self.table = table
        self.settings = settings

    def probs(self, context: Context, actions: Sequence[str]) -> dict[str, float]:
        """Probability of each action, in the order given; they sum to 1.

        Raises StageFailed when `_probs` gives anything but finite, non-negative numbers that sum to 1 over exactly these
        actions.
        """
        given = self._probs(context, actions)
        if set(given) != set(actions) or len(set(actions)) != len(actions):
            raise StageFailed(
                f"policy {self.name!r} answered for {sorted(given)}; it was asked for exactly {sorted(actions)}. Mend its _probs"
            )
        values = [float(given[action]) for action in actions]
        if not all(math.isfinite(v) and v >= 0 for v in values) or abs(math.fsum(values) - 1) > 1e-9:
            raise StageFailed(
                f"policy {self.name!r} gave {dict(zip(actions, values, strict=True))}; probabilities must be ≥ 0 and sum to 1. Mend its _probs"
            )
        floor = min(self.floor, 1 / len(actions))
        share = 1 - floor * len(actions)
        return {action: floor + share * value for action, value in zip(actions, values, strict=True)}

    def note(self, context: Context, actions: Sequence[str]) -> Mapping[str, Any]:
        """What the trace says beside the probabilities; nothing for most."""
        return {}

    @abstractmethod
    def _probs(self, context: Context, actions: Sequence[str]) -> Mapping[str, float]:
        """The idea: a number for each action, summing to 1."""


class DefaultTable(Policy):
    """The table's action if the guardrails have left it, otherwise none."""

    name = "default_table"

    def _probs(self, context: Context, actions: Sequence[str]) -> Mapping[str, float]:
        chosen = self.table.default(context.goal, context.segment)
        chosen = chosen if chosen in actions else NONE
        return {action: float(action == chosen) for action in actions}


class EpsilonMixed(DefaultTable):
    """The table's action, mixed with an even draw over everything feasible: each action has at least epsilon / K."""

    name = "epsilon_mixed"

    def __init__(self, table: Table, settings: DecisionSettings) -> None:
        super().__init__(table, settings)
        self.version = f"1:epsilon={settings.epsilon:g}"

    def _probs(self, context: Context, actions: Sequence[str]) -> Mapping[str, float]:
        epsilon = self.settings.epsilon
        sure = super()._probs(context, actions)
        return {action: (1 - epsilon) * sure[action] + epsilon / len(actions) for action in actions}


class Champion(EpsilonMixed):
    """What was learned and promoted for the goal; the table mixed with an even draw, until something was."""


def make(table: Table, settings: DecisionSettings, warehouse: Warehouse | None = None) -> Policy:
    """The policy that the settings name. Raises ConfigError when there is none of that name.

    `warehouse`: where the policy that was promoted is kept; without one `champion` decides as before the first promotion.
    """
    made = load("policy", settings.policy, POLICIES)
    if made is Champion and warehouse is not None:
        from headwater.decisions import champion  # noqa: PLC0415 (it brings scipy along)

        return champion.policy(warehouse, table, settings)
    if settings.policy == "llm" and warehouse is not None:
        from headwater.decisions.llm import choose  # noqa: PLC0415 (few projects need it)

        return choose.policy(warehouse, table, settings)
    return made(table, settings)
