"""A log of decisions written straight into the tables, for tests of what comes after deciding."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from headwater.decisions import log
from headwater.decisions.customer import FEATURES
from headwater.warehouse import Warehouse

START = datetime(2026, 1, 1)  # noqa: DTZ001 (naive UTC, as the warehouse stores it)


@dataclass
class Made:
    """One decision. `probabilities` of everything feasible; an action counts as sent unless `sent` is False."""

    customer: str
    action: str = "none"
    day: float = 0.0
    goal: str = "conversion"
    probabilities: Mapping[str, float] = field(default_factory=lambda: {"a": 0.5, "none": 0.5})
    group: str = "treatment"
    segment: str | None = "high_value_lapse_risk"
    features: Mapping[str, str] = field(default_factory=dict)
    sent: bool = True
    propensity: float | None = -1.0
    policy: str = "epsilon_mixed"
    version: str = "1"
    blocked_by: str | None = None
    decision_id: str = ""
    run_id: str = "r"


def write(warehouse: Warehouse, decisions: Iterable[Made]) -> list[Made]:
    """Into `decision_log`, and for what was sent into `contact_ledger`."""
    given = list(decisions)
    for number, one in enumerate(given):
        one.decision_id = one.decision_id or f"d{number}"
    known = [one.probabilities[one.action] if one.propensity == -1.0 else one.propensity for one in given]
    at = [START + timedelta(days=one.day) for one in given]
    log.insert_rows(
        warehouse,
        "headwater.decision_log",
        {
            "decision_id": [one.decision_id for one in given],
            "idempotency_key": [one.decision_id for one in given],
            "decided_at": at,
            "run_id": [one.run_id for one in given],
            "customer_id": [one.customer for one in given],
            "experiment_group": [one.group for one in given],
            "segment": [one.segment for one in given],
            "goal": [one.goal for one in given],
            "policy": [one.policy for one in given],
            "policy_version": [one.version for one in given],
            "features": [json.dumps({name: one.features.get(name) for name in FEATURES}) for one in given],
            "feasible_actions": [json.dumps([{"action": name} for name in one.probabilities]) for one in given],
            "probabilities": [json.dumps(dict(one.probabilities)) for one in given],
            "action": [one.action for one in given],
            "channel": [None if one.action == "none" else "email" for one in given],
            "template": [None if one.action == "none" else f"template_{one.action}" for one in given],
            "propensity": [None if p is None else repr(p) for p in known],
            "blocked_by": [one.blocked_by for one in given],
            "as_of": at,
        },
    )
    sent = [(one, moment) for one, moment in zip(given, at, strict=True) if one.sent and one.action != "none"]
    log.insert_rows(
        warehouse,
        "headwater.contact_ledger",
        {
            "contact_id": [f"k{one.decision_id}" for one, _ in sent],
            "customer_id": [one.customer for one, _ in sent],
            "channel": ["email"] * len(sent),
            "campaign": [f"campaign_{one.action}" for one, _ in sent],
            "decision_id": [one.decision_id for one, _ in sent],
            "contacted_at": [moment for _, moment in sent],
        },
    )
    return given


@dataclass
class Did:
    """One outcome."""

    customer: str
    day: float
    kind: str = "order"
    value: float = 1.0
    decision_id: str | None = None
    campaign: str | None = None


def happen(warehouse: Warehouse, outcomes: Iterable[Did]) -> None:
    """Into `headwater.outcomes`."""
    given = list(outcomes)
    log.insert_rows(
        warehouse,
        "headwater.outcomes",
        {
            "outcome_id": [f"o{number}" for number in range(len(given))],
            "customer_id": [one.customer for one in given],
            "kind": [one.kind for one in given],
            "value": [one.value for one in given],
            "occurred_at": [START + timedelta(days=one.day) for one in given],
            "decision_id": [one.decision_id for one in given],
            "campaign": [one.campaign for one in given],
        },
    )


def set_clock(warehouse: Warehouse, day: float) -> None:
    """The data's moment."""
    warehouse.execute("delete from headwater.clock")
    moment = START + timedelta(days=day)
    warehouse.execute("insert into headwater.clock values (?, null, ?)", [moment, moment])
