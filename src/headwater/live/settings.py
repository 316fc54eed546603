"""Settings of the engine, and of the data products that it keeps."""

from typing import Annotated, Literal

from pydantic import Field

from headwater.settings import Settings


class DataProductSettings(Settings):
    """Section `data_products:`."""

    before_first: Annotated[
        Literal["first_version", "null", "drop"],
        Field(
            description="an order older than the first known version of its product or customer: takes that version, is kept "
            "with nulls, or is left out (and counted)"
        ),
    ] = "first_version"


class LiveSettings(Settings):
    """Section `live:`."""

    linger_ms: Annotated[
        int, Field(ge=0, description="milliseconds that a batch waits for company while little arrives")
    ] = 50
    batch_rows: Annotated[int, Field(ge=1, description="records of the first batch; batches grow with the lag")] = 2_000
    max_batch_rows: Annotated[int, Field(ge=1, description="records of the largest batch")] = 500_000
    due_per_batch: Annotated[
        int, Field(ge=1, description="keys whose windows ended that one batch looks at; the rest waits and is counted")
    ] = 20_000
    full_share: Annotated[
        float, Field(gt=0, description="share of a model's keys above which all of it is recomputed")
    ] = 0.2
    full_above: Annotated[
        int, Field(ge=0, description="touched keys up to which a model is never recomputed whole")
    ] = 1_000
    aside_rows: Annotated[
        int,
        Field(
            ge=0,
            description="rows of a model's table and of the tables behind it, together, from which on a changed model is built "
            "aside while the engine goes on; below, it is recomputed in one batch",
        ),
    ] = 1_000_000
    full_every: Annotated[
        float, Field(ge=0, description="seconds between two refreshes of a model that is always recomputed whole")
    ] = 1.0
    retry_seconds: Annotated[
        float, Field(ge=0, description="seconds until a model or key that failed is tried again")
    ] = 60.0
    max_stale_keys: Annotated[
        int, Field(ge=1, description="failing keys of one model above which the model is stopped as a whole")
    ] = 50
    memory_limit: Annotated[
        str,
        Field(description="most memory that DuckDB may use in the engine, e.g. 1GB; beyond it, it works on the disk"),
    ] = "1200MB"
    publish_seconds: Annotated[
        int, Field(ge=0, description="seconds between two snapshots for BI readers; 0 = none")
    ] = 0
    verify_seconds: Annotated[
        int, Field(ge=0, description="seconds between two checks of random keys and one model; 0 = none")
    ] = 3_600
    verify_keys: Annotated[int, Field(ge=1, description="random keys that such a check looks at in each model")] = 100
