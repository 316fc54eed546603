"""The rules that no policy can pass, in their order. A visible dictionary from name to class; see base.py for what a rule is."""

from collections.abc import Iterable

from headwater.decisions.guardrails.base import Guardrail, Setup
from headwater.registry import load

GUARDRAILS: dict[str, str] = {
    "kill_switch": "headwater.decisions.guardrails.kill_switch:KillSwitch",
    "consent": "headwater.decisions.guardrails.consent:Consent",
    "holdout": "headwater.decisions.guardrails.holdout:Holdout",
    "reachability": "headwater.decisions.guardrails.reachability:Reachability",
    "frequency": "headwater.decisions.guardrails.frequency:Frequency",
    "quiet_hours": "headwater.decisions.guardrails.quiet_hours:QuietHours",
    "eligibility": "headwater.decisions.guardrails.eligibility:Eligibility",
    "discount": "headwater.decisions.guardrails.discount:Discount",
    "forbidden_features": "headwater.decisions.guardrails.forbidden_features:ForbiddenFeatures",
}

CHANNEL_STEP = 4
"""After the rules of this step an action keeps the first of its channels that is left."""


def load_all(setup: Setup, only: Iterable[str] | None = None) -> list[Guardrail]:
    """The rules, made for this setup, in order of their steps; `only` some of them for the re-check at send."""
    names = [*GUARDRAILS, *setup.settings.guardrails] if only is None else [n for n in only if n in GUARDRAILS]
    rules = [load("guardrail", name, GUARDRAILS)(setup) for name in names]
    return sorted(rules, key=lambda rule: rule.step)


def sentences(further: Iterable[str] = ()) -> dict[str, str]:
    """Name in `blocked_by` → the sentence that is shown; `further` are the setting's own rules (`decisions.guardrails`)."""
    rules = [load("guardrail", name, GUARDRAILS) for name in (*GUARDRAILS, *further)]
    return {rule.name: rule.sentence() for rule in rules} | OUTCOMES


OUTCOMES = {
    "budget": "The budget of the period cannot bear another contact.",
    "final_check": "A rule was found broken after the choice was made; nothing was done and an alarm was raised.",
}
"""Reasons for `none` that arise after the rules: steps 12 and 13."""
