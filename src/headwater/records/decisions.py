"""What was decided for one customer, as it crosses from decisions to activation and the console."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any


@dataclass(frozen=True, slots=True)
class Trace:
    """Why: one entry per step of the order. Shared by every decision that came about in the same way.

    `text` is JSON; `trace_id` is its hash.
    """

    trace_id: str
    text: str


@dataclass(frozen=True, slots=True)
class Decision:
    """One row of `headwater.decision_log`. Times are naive UTC, discounts percent; `action` is `none` when nothing is to be done.

    `feasible_actions`: what the guardrails left, `none` last. `probabilities`: of all of these. `propensity`: that of the
    action taken; None when it is not known, because a rule stepped in after the draw. What was drawn follows from `seed` and
    `idempotency_key` (`headwater.decisions.log.replay`). `as_of`: the moment of the data.
    """

    decision_id: str
    idempotency_key: str
    decided_at: datetime
    run_id: str
    customer_id: str
    experiment_group: str
    segment: str | None
    goal: str
    policy: str
    policy_version: str
    features: Mapping[str, str | None]
    feasible_actions: tuple[Mapping[str, Any], ...]
    probabilities: Mapping[str, float]
    action: str
    channel: str | None
    template: str | None
    discount_pct: Decimal | None
    propensity: float | None
    seed: str
    trace: Trace
    blocked_by: str | None
    config_hash: str
    as_of: datetime
