"""The list of actions and the default table: what a shop does for each segment and goal before anything is learned.

An action stands on the list or it does not exist: no policy, model or setting can add one. The table says which action is
the default for a goal and a segment; where it has no row, the answer is `none`. A project brings its own list and table in
`decisioning/nbs_rules.py` as `TABLE`; `load(folder)` takes it from there, otherwise DEFAULT.

`next_best_action` asks the table for a segment. It knows no customer, so it is a plan and is never sent as it is.
"""

import hashlib
import json
import runpy
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

from headwater.decisions import inputs
from headwater.decisions.channels import CHANNELS
from headwater.errors import ConfigError
from headwater.records.counted import counted

DISCOUNT_CAP = 10.0
SUPPRESS_HOURS = 48.0
RULE_SEGMENTS = ("churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent")
FILE = Path("decisioning") / "nbs_rules.py"
NONE = "none"


def basis_points(percent: float) -> int:
    """Percent as whole hundredths of a percent, downward: a cap of 7.339 % allows 7.33 %."""
    return int(Decimal(repr(float(percent))) * 100)


@dataclass(frozen=True)
class Action:
    """One thing that may be done for a customer.

    `channels` in order of preference: the first that is consented and reachable is taken. `discount_pct` is the offer,
    percent, before any cap. `segments`: for whom it makes sense. `campaign` is what a kill switch and the contact ledger
    call it; the template's name when left out.
    """

    action_id: str
    channels: tuple[str, ...]
    template: str
    segments: tuple[str, ...]
    discount_pct: float = 0.0
    campaign: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "campaign", self.campaign or self.template)

    @property
    def offer(self) -> int:
        """The offer in basis points (hundredths of a percent)."""
        return basis_points(self.discount_pct)


@dataclass(frozen=True)
class SegmentPlan:
    """What the table would do for a segment. `trace` has one entry per rule; those that need a customer say `not_evaluated`."""

    segment: str
    goal: str
    action: str
    channel: str
    template: str
    discount_pct: float
    trace: tuple[dict[str, Any], ...] = field(repr=False)


@dataclass(frozen=True)
class Table:
    """`actions` in order; `rows[goal][segment]` is the default action's id. Raises ConfigError with all problems at once."""

    actions: tuple[Action, ...]
    rows: Mapping[str, Mapping[str, str]]

    def __post_init__(self) -> None:
        problems = [*_problems_of_actions(self.actions), *_problems_of_rows(self.actions, self.rows)]
        if problems:
            raise ConfigError("\n".join([f"the table of actions has {counted(len(problems), 'problem')}:", *problems]))

    @property
    def segments(self) -> tuple[str, ...]:
        """Every segment that a customer may be in: the three of the rules and those that this table names."""
        named = {s for action in self.actions for s in action.segments} | {s for row in self.rows.values() for s in row}
        return (*RULE_SEGMENTS, *sorted(named - set(RULE_SEGMENTS)))

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that the actions use, in the order of CHANNELS."""
        used = {channel for action in self.actions for channel in action.channels}
        return tuple(name for name in CHANNELS if name in used)

    def default(self, goal: str, segment: str | None) -> str:
        """The default action's id, `none` where the table has no row."""
        return NONE if segment is None else self.rows.get(goal, {}).get(segment, NONE)

    def action(self, action_id: str) -> Action | None:
        """The action of that id; None for `none`."""
        return next((action for action in self.actions if action.action_id == action_id), None)

    def digest(self) -> str:
        """Short hash of the whole table; it goes into every decision's config hash."""
        content = [[[a.action_id, a.channels, a.template, a.segments, a.offer, a.campaign] for a in self.actions]]
        content += [sorted((goal, sorted(row.items())) for goal, row in self.rows.items())]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def plan(
        self,
        segment: str,
        goal: str = "90d_clv",
        discount_cap: float = DISCOUNT_CAP,
        suppress_hours: float = SUPPRESS_HOURS,
    ) -> SegmentPlan:
        """The default action of a segment, its discount cut to the cap.

        `all`, being no one segment, has no row and gives `none`. Raises InvalidValue (a ValueError) naming the field and
        the allowed values.
        """
        segment = inputs.segment(segment, self.segments)
        goal = inputs.goal(goal)
        cap = basis_points(inputs.discount_cap(discount_cap))
        inputs.suppress_hours(suppress_hours)
        action = self.action(self.default(goal, segment))
        offer = action.offer if action else 0
        discount = min(offer, cap)
        done = {"input": "passed", "discount": {"before": offer / 100, "after": discount / 100}}
        trace = tuple({"rule": rule, "result": done.get(rule, "not_evaluated")} for rule in PLAN_STEPS)
        if action is None:
            return SegmentPlan(segment, goal, NONE, NONE, "holdout", 0.0, trace)
        return SegmentPlan(segment, goal, action.action_id, action.channels[0], action.template, discount / 100, trace)

    def next_best_action(
        self,
        segment: str,
        goal: str = "90d_clv",
        discount_cap: float = DISCOUNT_CAP,
        suppress_hours: float = SUPPRESS_HOURS,
    ) -> dict[str, Any]:
        """Channel, template and discount (percent) of `plan`; where the table has no row, channel `none`, template `holdout`."""
        plan = self.plan(segment, goal, discount_cap, suppress_hours)
        return {"channel": plan.channel, "template": plan.template, "discount_pct": plan.discount_pct}


PLAN_STEPS = (
    "input",
    "kill_switch",
    "consent",
    "holdout",
    "reachability",
    "frequency",
    "quiet_hours",
    "eligibility",
    "discount",
    "forbidden_features",
)


def _problems_of_actions(actions: tuple[Action, ...]) -> list[str]:
    found = []
    ids = [action.action_id for action in actions]
    for name in sorted({n for n in ids if ids.count(n) > 1}):
        found.append(f"  action {name!r}: the id is used twice")
    for action in actions:
        where = f"  action {action.action_id!r}:"
        if not action.action_id or action.action_id == NONE:
            found.append(f"{where} the id must be a name other than 'none', which always exists")
        if not action.template:
            found.append(f"{where} template is empty; name the message to send")
        if not action.channels:
            found.append(f"{where} channels is empty; allowed: {', '.join(CHANNELS)}")
        found += [
            f"{where} channel {c!r} is not known; allowed: {', '.join(CHANNELS)}"
            for c in action.channels
            if c not in CHANNELS
        ]
        if not action.segments or "all" in action.segments:
            found.append(f"{where} segments must name the segments it makes sense for (not 'all')")
        if not 0 <= action.discount_pct <= 100:
            found.append(f"{where} discount_pct: found {action.discount_pct!r}; allowed: 0 to 100 percent")
    return found


def _problems_of_rows(actions: tuple[Action, ...], rows: Mapping[str, Mapping[str, str]]) -> list[str]:
    found = []
    by_id = {action.action_id: action for action in actions}
    for goal, row in rows.items():
        if goal not in inputs.GOALS:
            found.append(f"  rows: the goal {goal!r} is not known; allowed: {', '.join(inputs.GOALS)}")
        for segment, name in row.items():
            if name == NONE:
                continue
            if name not in by_id:
                found.append(
                    f"  rows[{goal!r}][{segment!r}]: there is no action {name!r}; there are: {', '.join(by_id)}"
                )
            elif segment not in by_id[name].segments:
                found.append(f"  rows[{goal!r}][{segment!r}]: the action {name!r} does not name this segment")
    return found


_WITH_OFFER = {
    "high_value_lapse_risk": "winback_soft",
    "new_users_first_week_intent": "onboarding_tips",
    "churn_rescue_nps": "nps_followup_then_offer",
}
_WITHOUT_OFFER = {
    "high_value_lapse_risk": "winback_soft_no_offer",
    "new_users_first_week_intent": "onboarding_tips",
    "churn_rescue_nps": "nps_followup_no_offer",
}

DEFAULT = Table(
    actions=(
        Action("winback_soft", ("email", "sms"), "winback_soft", ("high_value_lapse_risk",), 5.0),
        Action("winback_soft_no_offer", ("email", "sms"), "winback_soft", ("high_value_lapse_risk",)),
        Action("onboarding_tips", ("email",), "onboarding_tips", ("new_users_first_week_intent",)),
        Action("nps_followup_then_offer", ("cs_ticket",), "nps_followup_then_offer", ("churn_rescue_nps",), 10.0),
        Action("nps_followup_no_offer", ("cs_ticket",), "nps_followup_then_offer", ("churn_rescue_nps",)),
    ),
    rows={
        "90d_clv": _WITH_OFFER,
        "conversion": _WITH_OFFER,
        "retention": _WITH_OFFER,
        "engagement": _WITHOUT_OFFER,
    },
)
"""The default. A discount buys orders, not opens: for `engagement` the same messages go out without one."""

next_best_action = DEFAULT.next_best_action


def load(folder: Path) -> Table:
    """The table of the project in `folder`: TABLE of its `decisioning/nbs_rules.py`, or DEFAULT when there is no such file.

    Raises ConfigError when the file cannot be run, has no TABLE, or the table has problems.
    """
    path = folder / FILE
    if not path.is_file():
        return DEFAULT
    try:
        # from its text: an import would take compiled code of the same size and second for it
        defined = runpy.run_path(str(path), run_name="headwater_project_nbs_rules")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    except Exception as error:
        raise ConfigError(
            f"{path} cannot be run: {type(error).__name__}: {error}. Mend it, or delete it to use the default table"
        ) from error
    table = defined.get("TABLE")
    if not isinstance(table, Table):
        raise ConfigError(
            f"{path} has no TABLE: found {type(table).__name__}, expected headwater.decisions.Table(actions=…, rows=…)"
        )
    return table
