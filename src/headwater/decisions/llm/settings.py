"""The settings of the language model. Off by default: nothing is sent anywhere until `enabled` is set."""

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Settings

FieldName = Literal["first_name", "last_name"]
"""What a message may name of a person. The model writes the placeholder; the value is put in here, afterwards."""

Money = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class LlmSettings(Settings):
    enabled: Annotated[bool, Field(description="whether a language model may be asked at all")] = False
    provider: Annotated[
        Literal["openai", "anthropic"],
        Field(description="the interface that the endpoint speaks; openai also fits most servers of one's own"),
    ] = "openai"
    model: Annotated[str, Field(description="the endpoint's name of the model")] = ""
    base_url: Annotated[
        str | None, Field(description="address of the endpoint; null = the provider's own", pattern=r"^https?://")
    ] = None
    key_env: Annotated[str, Field(description="environment variable with the endpoint's key")] = "HEADWATER_LLM_KEY"
    seconds: Annotated[float, Field(gt=0, le=600, description="longest that one call may take")] = 20
    max_output_tokens: Annotated[int, Field(ge=64, le=16_384, description="most tokens of one answer")] = 800
    input_price: Annotated[Money, Field(description="price of a million input tokens; 0 = free")] = 0
    output_price: Annotated[Money, Field(description="price of a million output tokens; 0 = free")] = 0
    daily_cost: Annotated[Money, Field(description="most to spend in a day (UTC), in the currency of the prices")] = 1
    daily_tokens: Annotated[int, Field(ge=0, description="most tokens in a day, in and out")] = 500_000
    daily_seconds: Annotated[float, Field(ge=0, description="most seconds of waiting for answers in a day")] = 900
    features: Annotated[
        list[
            Literal["ml_segment", "activity_status", "recency_bucket", "revenue_band", "nps_band", "engagement_level"]
        ],
        Field(
            description="the buckets that a model is told beside the segment; each one more multiplies the questions"
        ),
    ] = ["activity_status", "revenue_band"]
    language: Annotated[
        Literal["de", "en", "es", "fr", "it", "nl", "pt"], Field(description="language of messages")
    ] = "en"
    fields: Annotated[
        list[FieldName], Field(description="what a message may name of a person; never sent to the model")
    ] = ["first_name"]
    brand: Annotated[str, Field(description="what the model is told of the shop, one sentence", max_length=300)] = ""
    claims: Annotated[list[str], Field(description="sentences that a message may state as facts, word for word")] = []
    links: Annotated[list[str], Field(description="host names that a message may link to")] = []
    forbidden_words: Annotated[list[str], Field(description="words that no message may contain")] = [
        "guarantee",
        "guaranteed",
        "risk-free",
        "last chance",
        "act now",
        "urgent",
        "winner",
    ]
    max_subject: Annotated[int, Field(ge=10, le=200, description="longest subject, characters")] = 78
    max_body: Annotated[int, Field(ge=50, le=10_000, description="longest body, characters")] = 900
    review: Annotated[
        Literal["approve", "sample"],
        Field(
            description="approve = no text goes out before somebody has approved it; sample = a share waits for review"
        ),
    ] = "approve"
    sample_share: Annotated[float, Field(gt=0, le=1, description="share of texts that wait under `sample`")] = 0.2
