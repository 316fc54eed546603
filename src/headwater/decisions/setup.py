"""From settings and a call's own values to what holds for every customer of the call."""

import hashlib
import json
from collections.abc import Sequence

from headwater.decisions import inputs, policy
from headwater.decisions.guardrails.base import Guardrail, Setup, Switches
from headwater.decisions.policy import DefaultTable
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT, Table
from headwater.errors import ConfigError
from headwater.warehouse import Warehouse


class Unset:
    """Marks an argument that was left out, because None is an error and not a default."""

    def __repr__(self) -> str:
        return "the setting's value"


UNSET = Unset()


def make(
    settings: DecisionSettings,
    table: Table | None = None,
    *,
    goal: object = UNSET,
    discount_cap: object = UNSET,
    suppress_hours: object = UNSET,
    warehouse: Warehouse | None = None,
) -> Setup:
    """Settings with the given values put in, each checked. `warehouse`: where a promoted policy is looked for.

    Raises InvalidValue naming field and allowed values, ConfigError when a cap is set for a segment that does not exist.
    """
    own = {
        "goal": inputs.goal(settings.goal if goal is UNSET else goal),
        "discount_cap": inputs.discount_cap(settings.discount_cap if discount_cap is UNSET else discount_cap),
        "suppress_hours": inputs.suppress_hours(settings.suppress_hours if suppress_hours is UNSET else suppress_hours),
    }
    settings = settings.model_copy(update=own)
    table = DEFAULT if table is None else table
    unknown = sorted(set(settings.segment_caps) - set(table.segments))
    if unknown:
        raise ConfigError(
            f"decisions.segment_caps: found {', '.join(unknown)}, which no customer can be in; known segments: {', '.join(table.segments)}"
        )
    usual = DefaultTable(table, settings) if settings.business_as_usual_share else None
    return Setup(settings, table, policy.make(table, settings, warehouse), usual)


def config_hash(setup: Setup, rules: Sequence[Guardrail], switches: Switches) -> str:
    """Short hash of everything but the customer that a decision depends on: settings, table, policy, rules, switches."""
    content = [
        setup.settings.model_dump(
            mode="json", exclude={"realtime", "llm", "goals", "events", "learning"}
        ),  # where it is asked, and what a policy's version says
        setup.table.digest(),
        setup.policy.name,
        setup.policy.version,
        [rule.name for rule in rules],
        switches.key(),
    ]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
