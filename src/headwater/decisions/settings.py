"""The settings of decisions: goal, caps, quiet hours, budgets, policy."""

from typing import Annotated, Literal

from pydantic import Field, ValidationError

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


class DecisionSettings(Settings):
    goal: Annotated[
        Literal["90d_clv", "engagement", "conversion", "retention"], Field(description="what is optimised")
    ] = "90d_clv"
    discount_cap: Annotated[float, Field(ge=0, le=100, description="largest discount, percent; 0 = none ever")] = 10
    suppress_hours: Annotated[float, Field(ge=0, le=87_600, description="hours of silence after a contact")] = 48
    holdout_share: Annotated[
        float, Field(ge=0, lt=1, description="share of customers never contacted, for measurement")
    ] = 0.10
    holdout_salt: Annotated[str, Field(description="change it to draw a new holdout")] = "headwater"
    policy: Annotated[str, Field(description="default_table, epsilon_mixed, or an import string")] = "default_table"
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
    channels: Annotated[
        dict[ChannelName, str], Field(description="channel of an action to the sync that carries it")
    ] = {
        "email": "email_actions",
        "cs_ticket": "cs_ticket_actions",
    }

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
