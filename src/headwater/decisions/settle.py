"""Steps 8 to 11: from what the rules said of each option to the feasible actions, their probabilities and the trace.

One customer and a batch both come through here, with the verdicts of the same rules in Python or in SQL, so everything
after the rules exists once. The outcome depends only on the arguments; equal arguments share one `Settled`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from headwater.decisions.guardrails import CHANNEL_STEP
from headwater.decisions.guardrails.base import Guardrail, Option, Setup
from headwater.decisions.hashing import digest
from headwater.decisions.policy import Context
from headwater.decisions.table import NONE, Action, Table
from headwater.records.decisions import Trace

CHANNEL_ORDER = "channel_order"
"""Not a rule: an action by its second channel, put aside because its first was open."""

Verdict = tuple[str | None, int]
"""What became of one option: the rule that blocked it (None = none did), its discount in basis points after the rules."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One action that may be drawn. It is drawn when `lower` <= u < `upper`. `refused`: the trace when its budget is empty."""

    action: str
    channel: str | None
    template: str | None
    campaign: str | None
    discount: int
    probability: float
    lower: float
    upper: float
    trace: Trace
    refused: Trace
    broken: Trace

    @property
    def discount_pct(self) -> Decimal | None:
        return None if self.action == NONE else Decimal(self.discount).scaleb(-2)


@dataclass(frozen=True, slots=True)
class Settled:
    """`feasible` has `none` last; `choices` only what has a probability above 0, in the same order."""

    feasible: tuple[dict[str, Any], ...]
    feasible_text: str
    probabilities: dict[str, float]
    probabilities_text: str
    choices: tuple[Choice, ...]
    blocked_by: str | None
    policy: str
    policy_version: str

    def draw(self, u: float) -> Choice:
        """The choice that u in [0, 1) falls on."""
        for choice in self.choices:
            if u < choice.upper:
                return choice
        return self.choices[-1]


def options(table: Table) -> tuple[Option, ...]:
    """Every action by every one of its channels, in order."""
    return tuple(Option(action, channel, action.offer) for action in table.actions for channel in action.channels)


def settle(
    setup: Setup,
    rules: Sequence[Guardrail],
    goal: str,
    segment: str | None,
    features: dict[str, str | None],
    listed: Sequence[Option],
    verdicts: Sequence[Verdict],
    *,
    usual: bool = False,
) -> Settled:
    """`verdicts[i]` is what became of `listed[i]`; `features` are the policy's own. `usual`: for the group that gets what it
    always got."""
    policy = setup.policy_of(usual)
    default = setup.table.default(goal, segment)
    left = [option.with_discount(d) for option, (by, d) in zip(listed, verdicts, strict=True) if by is None]
    left, doubles = _deduplicate(left, default)
    ids = [option.action.action_id for option in left]
    context = Context(goal, segment, features)
    probabilities = policy.probs(context, [*ids, NONE])
    steps = _rule_steps(rules, listed, verdicts, doubles)
    steps.append({"step": 10, "rule": "policy", "policy": policy.name, "probabilities": probabilities})
    steps[-1] |= policy.note(context, [*ids, NONE])
    choices, lower = [], 0.0
    for option, (name, probability) in zip([*left, None], probabilities.items(), strict=True):
        if probability <= 0:
            continue
        upper = lower + probability
        choices.append(_choice(option, name, probability, lower, upper, steps))
        lower = upper
    choices[-1] = replace(choices[-1], upper=1.0)  # the last takes what rounding left
    feasible = (*(_offer(option) for option in left), {"action": NONE})
    return Settled(
        feasible,
        compact(feasible),
        probabilities,
        compact(probabilities),
        tuple(choices),
        _blocked_by(default, ids, listed, verdicts, {rule.name: rule.step for rule in rules}),
        policy.name,
        policy.version,
    )


def compact(value: Any) -> str:
    """JSON without blanks, keys in the order given."""
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def trace(steps: Sequence[dict[str, Any]]) -> Trace:
    """A trace of these steps."""
    text = compact(steps)
    return Trace(digest(text), text)


def _deduplicate(left: list[Option], default: str) -> tuple[list[Option], list[str]]:
    """Of options that have become the same (channel, template, discount) one stays: the table's default, else the first."""
    ordered = sorted(left, key=lambda option: option.action.action_id != default)
    seen: dict[tuple[str, str, int], Option] = {}
    doubles = []
    for option in ordered:
        key = (option.channel, option.action.template, option.discount)
        if key in seen:
            doubles.append(option.label)
        else:
            seen[key] = option
    return list(seen.values()), doubles


def _offer(option: Option) -> dict[str, Any]:
    return {
        "action": option.action.action_id,
        "channel": option.channel,
        "template": option.action.template,
        "discount_pct": option.discount / 100,
    }


def _choice(option: Option | None, name: str, probability: float, lower: float, upper: float, steps: list) -> Choice:
    def ended(drawn: str, budget: str, check: str) -> Trace:
        return trace(
            [
                *steps,
                {"step": 11, "rule": "sample", "result": drawn},
                {"step": 12, "rule": "budget", "result": budget},
                {"step": 13, "rule": "final_check", "result": check},
            ]
        )

    if option is None:
        calm = ended(NONE, "not needed", "passed")
        return Choice(NONE, None, None, None, 0, probability, lower, upper, calm, calm, calm)
    action: Action = option.action
    return Choice(
        name,
        option.channel,
        action.template,
        action.campaign,
        option.discount,
        probability,
        lower,
        upper,
        ended(name, "passed", "passed"),
        ended(name, "refused", "not needed"),
        ended(name, "passed", "broken"),
    )


def _rule_steps(
    rules: Sequence[Guardrail], listed: Sequence[Option], verdicts: Sequence[Verdict], doubles: list[str]
) -> list[dict[str, Any]]:
    """One entry per rule: `passed`, or what stood before and after it."""
    steps: list[dict[str, Any]] = [{"step": 0, "rule": "input", "result": "passed"}]
    left = [(option, by, discount) for option, (by, discount) in zip(listed, verdicts, strict=True)]

    def filtered(step: int, rule: str) -> None:
        nonlocal left
        after = [entry for entry in left if entry[1] != rule]
        if len(after) < len(left):
            labels = [[option.label for option, _, _ in entries] for entries in (left, after)]
            steps.append({"step": step, "rule": rule, "before": labels[0], "after": labels[1]})
        elif rule not in (CHANNEL_ORDER, "duplicates"):
            steps.append({"step": step, "rule": rule, "result": "passed"})
        left = after

    ordered = False
    for rule in rules:
        if not ordered and rule.step > CHANNEL_STEP:
            filtered(CHANNEL_STEP, CHANNEL_ORDER)
            ordered = True
        filtered(rule.step, rule.name)
        if rule.name == "discount":
            _discount_step(steps, rule.step, left)
    if doubles:
        labels = [option.label for option, _, _ in left]
        after = [label for label in labels if label not in doubles]
        steps.append({"step": 8, "rule": "duplicates", "before": labels, "after": after})
    return steps


def _discount_step(steps: list[dict[str, Any]], step: int, left: list[tuple[Option, str | None, int]]) -> None:
    cut = [(option, discount) for option, by, discount in left if by is None and discount != option.discount]
    if cut:
        steps[-1] = {
            "step": step,
            "rule": "discount",
            "before": {option.label: option.discount / 100 for option, _ in cut},
            "after": {option.label: discount / 100 for option, discount in cut},
        }


def _blocked_by(
    default: str, ids: list[str], listed: Sequence[Option], verdicts: Sequence[Verdict], steps: dict[str, int]
) -> str | None:
    """Why the answer is none: the last rule to act on the default action, or on everything where the table has no default."""
    if default in ids or (default == NONE and ids):
        return None
    blockers = [
        by
        for option, (by, _) in zip(listed, verdicts, strict=True)
        if by is not None and by != CHANNEL_ORDER and default in (NONE, option.action.action_id)
    ]
    return max(blockers, key=lambda by: steps[by], default=None)
