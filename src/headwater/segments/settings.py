"""The settings of segments: thresholds of the rules, the gates of the models, the lead score."""

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Settings


class RuleSegmentSettings(Settings):
    order: Annotated[
        list[Literal["churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent"]],
        Field(description="a customer is in the first of these that fits, or in none"),
    ] = ["churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent"]
    churn_rescue_nps_below: Annotated[int, Field(ge=0, le=11, description="NPS score strictly below this")] = 7
    high_value_revenue_90d: Annotated[float, Field(ge=0, description="revenue of 90 days, shop currency, at least")] = (
        150
    )
    high_value_quiet_days: Annotated[int, Field(ge=1, description="and no event for so many days")] = 30
    new_users_events_30d: Annotated[
        int, Field(ge=1, description="events in 30 days, at least, without revenue in 90 days")
    ] = 2


class MlSegmentSettings(Settings):
    enabled: Annotated[bool, Field(description="train and assign the k-means segments")] = True
    k: Annotated[
        Annotated[int, Field(ge=2, le=50)] | Literal["auto"],
        Field(description="clusters; 5 carries the five names, auto chooses by stability"),
    ] = 5
    seed: Annotated[int, Field(description="seed of every random draw")] = 20240501
    hysteresis: Annotated[
        float, Field(ge=0, description="a customer changes segment when the margin exceeds this (z units)")
    ] = 0.1
    min_jaccard: Annotated[float, Field(ge=0, le=1, description="gate: smallest per-cluster Jaccard")] = 0.60
    warn_jaccard: Annotated[float, Field(ge=0, le=1, description="below this a model is doubtful")] = 0.75
    min_overlap: Annotated[float, Field(ge=0, le=1, description="gate: overlap with the model before")] = 0.70
    min_share: Annotated[float, Field(ge=0, le=1, description="gate: smallest share of a segment")] = 0.01
    max_auc: Annotated[float, Field(ge=0.5, le=1, description="gate: churn AUC above this means leakage")] = 0.90
    require_structure: Annotated[
        bool, Field(description="gate: clusters must be tighter than in shuffled copies of the data (noise is refused)")
    ] = True
    stability_sample: Annotated[int, Field(ge=100, description="customers sampled for stability")] = 20_000
    stability_refits: Annotated[int, Field(ge=5, description="bootstrap refits")] = 50
    retrain_after_days: Annotated[int, Field(ge=1, description="a model older than this is trained again")] = 7
    seed_limit: Annotated[int, Field(ge=0, description="above so many customers a table takes the seed's place")] = (
        100_000
    )
    replay_days: Annotated[
        int,
        Field(
            ge=1, description="changes of live scores are kept so many days; memberships are verified by replaying them"
        ),
    ] = 3
    clv_horizon_days: Annotated[int, Field(ge=1, description="CLV looks so many days ahead")] = 90
    clv_discount_rate_monthly: Annotated[float, Field(ge=0, description="discount rate a month")] = 0.01


class SegmentSettings(Settings):
    rules: RuleSegmentSettings = RuleSegmentSettings()
    ml: MlSegmentSettings = MlSegmentSettings()


class MqlSettings(Settings):
    threshold: Annotated[int, Field(description="a lead is qualified from this score")] = 20
    window_days: Annotated[int | None, Field(description="an event counts for so many days; null = for ever")] = 30
