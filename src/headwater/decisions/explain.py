"""Why a customer gets what he gets: the decision as it would be made now, taken apart step by step. Nothing is written.

It is made by the same `Decider`, inside a transaction that is undone. Where the customer's decision stands already, it is that
one, with its id.
"""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import Clock, naive_utc
from headwater.decisions.customer import COLUMNS, Customer
from headwater.decisions.decide import Decider
from headwater.decisions.guardrails import sentences
from headwater.decisions.hashing import unit
from headwater.decisions.ledgers import WarehouseLedgers
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import NONE, Table
from headwater.errors import InvalidValue, StageFailed
from headwater.records.decisions import Decision
from headwater.warehouse import Warehouse

RELATION = "main.int_decision_candidates"
SHORT = 2
"""So many ways are named on one line before and after a step."""

_NAMED = 4
"""So many of those that fell away are named on one line."""


@dataclass(frozen=True)
class Step:
    """One step of the order. `before` and `after` what it found and left (None where it changed nothing); `sentence` is what
    the rule says when it blocks."""

    number: int
    rule: str
    result: str | None
    before: Any = None
    after: Any = None
    sentence: str = ""

    @property
    def text(self) -> str:
        """One line: what the step did. Of more than two ways (an action by a channel) only those that fell away; `as_json` names all."""
        if self.before is None:
            return self.result or ""
        said = f": {self.sentence}" if self.sentence else ""
        if len(self.before) > SHORT:
            return f"{self._fallen}{said}"
        return f"{_listed(self.before)} → {_listed(self.after)}{said}"

    @property
    def _fallen(self) -> str:
        gone = [way for way in self.before if way not in self.after]
        verb = ("falls away", "fall away") if gone else ("is changed", "are changed")
        if not gone:
            gone = [
                f"{way} {was:g}% → {self.after[way]:g}%" for way, was in self.before.items() if self.after[way] != was
            ]
        named = ", ".join(gone[:_NAMED]) + (f" and {len(gone) - _NAMED} more" if len(gone) > _NAMED else "")
        return f"{len(gone)} of {len(self.before)} ways {verb[len(gone) != 1]} ({named})"


@dataclass(frozen=True)
class Explanation:
    """A decision taken apart. `u`: the number in [0, 1) that was drawn from seed and key. `logged_at`: when it was decided,
    None when it would be decided now for the first time."""

    decision: Decision
    default: str
    steps: tuple[Step, ...]
    u: float
    logged_at: datetime | None

    @property
    def message(self) -> str:
        """The decision and its reason in one sentence."""
        one = self.decision
        known = f", decided {self.logged_at:%Y-%m-%d %H:%M} UTC" if self.logged_at else ", if it were decided now"
        if one.action == NONE:
            return f"nothing for {one.customer_id}{known}: {self._why_none}"
        discount = f", {one.discount_pct.normalize():f}% off" if one.discount_pct else ""
        return f"{one.action} by {one.channel}{discount} for {one.customer_id}{known}: {self._why}"

    @property
    def _why(self) -> str:
        one = self.decision
        left = [action for action in one.probabilities if action != NONE]
        if one.propensity == 1:
            said = "the only action left" if left == [one.action] else "sure of it"
            return (
                f"the policy {one.policy} is {said}" if said == "sure of it" else f"{said}, by the policy {one.policy}"
            )
        usual = " (the table's default)" if one.action == self.default else f" (the table's default is {self.default})"
        return f"drawn with {one.propensity:.1%} of {len(one.probabilities)} feasible by the policy {one.policy} {one.policy_version}{usual}"

    @property
    def _why_none(self) -> str:
        one = self.decision
        if one.blocked_by:
            return f"{one.blocked_by}. {sentences().get(one.blocked_by, 'a rule of your own')}"
        if set(one.probabilities) == {NONE}:
            return "there is no action for the customer's segment and goal"
        return f"drawn with {one.propensity:.1%} of {len(one.probabilities)} feasible by the policy {one.policy} {one.policy_version}"

    def as_json(self) -> dict[str, Any]:
        one = self.decision
        return {
            "customer_id": one.customer_id, "action": one.action, "channel": one.channel, "template": one.template,
            "discount_pct": one.discount_pct, "propensity": one.propensity, "experiment_group": one.experiment_group,
            "segment": one.segment, "goal": one.goal, "policy": one.policy, "policy_version": one.policy_version,
            "features": one.features, "feasible_actions": list(one.feasible_actions), "probabilities": one.probabilities,
            "blocked_by": one.blocked_by, "default": self.default, "seed": one.seed, "u": self.u,
            "decision_id": one.decision_id if self.logged_at else None, "logged_at": self.logged_at,
            "steps": [{"step": s.number, "rule": s.rule, "result": s.result, "before": s.before, "after": s.after} for s in self.steps],
            "why": self.message,
        }  # fmt: skip


def explain(
    warehouse: Warehouse,
    settings: DecisionSettings,
    clock: Clock,
    customer_id: str,
    *,
    table: Table,
    as_of: datetime | None,
    relation: str = RELATION,
) -> Explanation:
    """What `decide` would do for one customer. `settings` with the call's own values put in; `as_of` the data's moment.

    Raises InvalidValue when there is no such customer, or when his row cannot be used; StageFailed before the first build.
    """
    if not warehouse.exists(relation):
        raise StageFailed(f"{relation} is not in the warehouse yet; run `headwater build` first")
    columns = {row[0] for row in warehouse.execute(f"describe {relation}").fetchall()}
    picked = ", ".join(name for name in COLUMNS if name in columns)
    rows = warehouse.rows(f"select {picked} from {relation} where customer_id = ?", [customer_id])
    if len(rows) != 1:
        raise InvalidValue(
            f"customer: found {customer_id!r}, which stands in {len(rows)} rows of {relation}; allowed: the customer_id of one row"
        )
    moment = naive_utc(clock.now())
    before = warehouse.value("select max(decided_at) from headwater.decision_log where customer_id = ?", [customer_id])
    with warehouse.rehearsal():
        decider = Decider(
            settings, clock, WarehouseLedgers(warehouse), table=table, run_id="explain", as_of=as_of or moment
        )
        decision = decider.decide(Customer.from_row(rows[0]))
    known = before is not None and decision.decided_at <= before
    steps = tuple(_step(one) for one in json.loads(decision.trace.text))
    return Explanation(
        decision,
        table.default(decision.goal, decision.segment),
        steps,
        unit("sample", decision.seed, decision.idempotency_key),
        decision.decided_at if known else None,
    )


def _step(entry: dict[str, Any]) -> Step:
    said = sentences().get(entry["rule"], "") if "before" in entry else ""
    result = entry.get("result")
    if "probabilities" in entry:
        shares = sorted(entry["probabilities"].items(), key=lambda item: -item[1])
        result = f"{entry['policy']}: " + ", ".join(f"{action} {share:.1%}" for action, share in shares)
    return Step(entry["step"], entry["rule"], result, entry.get("before"), entry.get("after"), said)


def _listed(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {discount:g}%" for name, discount in value.items())
    return ", ".join(value) or "nothing"
