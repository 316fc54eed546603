"""The settings of decisions: goal, caps, quiet hours, budgets, policy."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator

from headwater.decisions.llm.settings import LlmSettings
from headwater.decisions.realtime.settings import RealtimeSettings
from headwater.errors import InvalidValue
from headwater.settings import Settings

ChannelName = Literal["email", "sms", "push", "cs_ticket"]
"""The names in `channels.CHANNELS`; a test keeps the two the same."""

Percent = Annotated[float, Field(ge=0, le=100)]
Cost = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class CapSettings(Settings):
    max_contacts: Annotated[int, Field(ge=0, description="contacts per customer in the period")]
    days: Annotated[int, Field(ge=1, le=3650, description="length of the period, days")]
    channel: Annotated[ChannelName | None, Field(description="only this channel; null = over all channels")] = None


class QuietHourSettings(Settings):
    start_hour: Annotated[int, Field(ge=0, le=23, description="local hour from which nothing is sent")] = 21
    end_hour: Annotated[int, Field(ge=0, le=23, description="local hour from which sending is allowed again")] = 8
    channels: Annotated[list[ChannelName], Field(description="channels that keep quiet hours")] = ["sms", "push"]


class BudgetSettings(Settings):
    name: Annotated[str, Field(description="name of the budget")]
    amount: Annotated[float, Field(ge=0, allow_inf_nan=False, description="shop currency per period")]
    days: Annotated[int, Field(ge=1, le=3650, description="length of the period, days")] = 30
    cost_per_contact: Annotated[
        dict[ChannelName, Cost], Field(description="cost of one contact by channel, shop currency")
    ] = {}


GoalName = Literal["90d_clv", "engagement", "conversion", "retention"]
OutcomeKind = Literal["order", "open", "click", "visit", "unsubscribe", "complaint"]
"""What a customer does after a decision. An order's value is its revenue, any other's is 1 unless the source says more."""


class GoalSettings(Settings):
    outcomes: Annotated[list[OutcomeKind], Field(min_length=1, description="what counts towards the reward")]
    reward: Annotated[
        Literal["value", "count", "any"],
        Field(description="value = their sum (revenue), count = how many, any = 1 when there is at least one"),
    ]
    window_days: Annotated[int, Field(ge=1, le=730, description="how long after a decision they count, days")]
    guardrail_metrics: Annotated[
        list[OutcomeKind],
        Field(description="what must not become more frequent; a policy that makes it so is rolled back"),
    ] = ["unsubscribe", "complaint"]

    @property
    def unit(self) -> str:
        """What a difference in the reward is counted in: `points` of a share, else what follows the number."""
        named = " and ".join(self.outcomes)
        return {"any": "points", "count": f"outcomes ({named})", "value": f"of {named} value"}[self.reward]


GOALS: dict[GoalName, GoalSettings] = {
    "90d_clv": GoalSettings(outcomes=["order"], reward="value", window_days=90),
    "engagement": GoalSettings(outcomes=["open", "click", "visit"], reward="count", window_days=14),
    "conversion": GoalSettings(outcomes=["order"], reward="any", window_days=14),
    "retention": GoalSettings(outcomes=["order"], reward="any", window_days=90),
}
"""What each goal is measured by where `headwater.yml` says nothing else."""


class LearningSettings(Settings):
    learner: Annotated[
        str, Field(description="what `policy train` fits: softmax, thompson, vowpal_wabbit, or an import string")
    ] = "softmax"
    floor: Annotated[
        float, Field(gt=0, le=0.2, description="least probability of every feasible action under a learned policy")
    ] = 0.02
    folds: Annotated[int, Field(ge=2, le=20, description="folds of an evaluation, by customer")] = 5
    least_rows: Annotated[int, Field(ge=20, description="closed decisions below which nothing is trained")] = 500
    guardrail_margin: Annotated[
        float,
        Field(
            ge=0, le=1, description="how much more often a guardrail metric may occur per decision; 0.002 = 0.2 points"
        ),
    ] = 0.002
    guardrail_days: Annotated[
        int, Field(ge=1, le=90, description="days after a decision in which guardrail metrics are watched")
    ] = 7


class DecisionSettings(Settings):
    goal: Annotated[GoalName, Field(description="what is optimised")] = "90d_clv"
    discount_cap: Annotated[float, Field(ge=0, le=100, description="largest discount, percent; 0 = none ever")] = 10
    suppress_hours: Annotated[float, Field(ge=0, le=87_600, description="hours of silence after a contact")] = 48
    holdout_share: Annotated[
        float, Field(ge=0, lt=1, description="share of customers never contacted, for measurement")
    ] = 0.10
    holdout_salt: Annotated[str, Field(description="change it to draw a new holdout")] = "headwater"
    business_as_usual_share: Annotated[
        float,
        Field(ge=0, lt=1, description="share of the others who always get the default table, to compare a policy with"),
    ] = 0.0
    policy: Annotated[
        str, Field(description="default_table, epsilon_mixed, champion (what was promoted), or an import string")
    ] = "default_table"
    epsilon: Annotated[float, Field(ge=0, le=1, description="share of exploration in epsilon_mixed")] = 0.10
    seed: Annotated[int, Field(description="seed of sampling")] = 1
    segment_caps: Annotated[dict[str, Percent], Field(description="largest discount per segment, percent")] = {}
    min_margin_pct: Annotated[
        float | None,
        Field(ge=0, le=100, description="margin that a discount must leave, percent; null = no margin cap"),
    ] = None
    caps: Annotated[list[CapSettings], Field(description="calendar caps on contacts")] = [
        CapSettings(max_contacts=4, days=30)
    ]
    guardrails: Annotated[
        list[str], Field(description="further rules as package.module:Class; the built-in ones cannot be turned off")
    ] = []
    quiet_hours: QuietHourSettings = QuietHourSettings()
    budgets: list[BudgetSettings] = []
    realtime: RealtimeSettings = RealtimeSettings()
    llm: LlmSettings = LlmSettings()
    goals: Annotated[
        dict[GoalName, GoalSettings], Field(description="reward, window and guardrail metrics of a goal")
    ] = GOALS
    events: Annotated[
        dict[str, OutcomeKind], Field(description="name of a tracked event to the outcome that it is")
    ] = {
        "email_opened": "open",
        "email_clicked": "click",
        "email_link_clicked": "click",
        "unsubscribed": "unsubscribe",
        "email_unsubscribed": "unsubscribe",
        "sms_unsubscribed": "unsubscribe",
        "email_marked_as_spam": "complaint",
    }
    learning: LearningSettings = LearningSettings()
    channels: Annotated[
        dict[ChannelName, str], Field(description="channel of an action to the sync that carries it")
    ] = {
        "email": "email_actions",
        "cs_ticket": "cs_ticket_actions",
    }

    @field_validator("goals", mode="before")
    @classmethod
    def _every_goal(cls, given: Any) -> Any:
        """What the file says of a goal, over what holds where it says nothing."""
        if not isinstance(given, Mapping):
            return given
        said = {
            name: {**GOALS[name].model_dump(), **goal} if name in GOALS and isinstance(goal, Mapping) else goal
            for name, goal in given.items()
        }
        return {**GOALS, **said}

    def goal_of(self, name: str) -> GoalSettings:
        """What a goal is measured by. `name` is one of GOALS (see `inputs.goal`)."""
        return next(one for known, one in self.goals.items() if known == name)

    def changed(self, **given: object) -> "DecisionSettings":
        """These settings with what a call says instead; None keeps a setting.

        Raises InvalidValue naming the field, what was found and what is allowed.
        """
        said = {name: value for name, value in given.items() if value is not None}
        try:
            return DecisionSettings.model_validate({**self.model_dump(), **said})
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(str(part) for part in first["loc"])
            raise InvalidValue(
                f"{field}: found {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}"
            ) from error
