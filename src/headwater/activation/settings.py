"""The settings of activation: destinations, syncs and alerts."""

from typing import Annotated, Any, Literal

from pydantic import Field

from headwater.settings import Settings


class DestinationSettings(Settings):
    """Settings of one destination; what `options` may hold is the destination's own business (its docstring says)."""

    type: Annotated[
        str, Field(description="files, webhook, postgres, hubspot, salesforce, kafka, nothing, or an import string")
    ]
    options: Annotated[dict[str, Any], Field(description="the destination's own options")] = {}
    rate_per_second: Annotated[
        float | None, Field(gt=0, description="calls a second, shared by all its syncs; null = no limit")
    ] = None
    attempts: Annotated[
        int, Field(ge=1, description="times a row is tried in one run while the destination says 'later'")
    ] = 5
    max_wait_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="longest wait between two tries, seconds; a destination that asks for more is left for the next run",
        ),
    ] = 60


class SyncSettings(Settings):
    name: Annotated[str, Field(description="name of the sync", pattern=r"^[a-z][a-z0-9_]*$")]
    model: Annotated[str, Field(description="dbt model that holds the rows, or tag:<name>")]
    destination: Annotated[str, Field(description="name under `destinations`")]
    key: Annotated[str, Field(description="column that identifies a row, or a template with {column}")]
    mode: Annotated[
        Literal["upsert", "update", "insert", "mirror", "delete"], Field(description="what to do with rows")
    ] = "upsert"
    where: Annotated[str | None, Field(description="SQL condition on the model's columns")] = None
    fields: Annotated[
        dict[str, str],
        Field(
            description="destination field: column, template with {column} or {column|default}, or 'constant'; none = every column"
        ),
    ] = {}
    key_form: Annotated[
        Literal["as_is", "trim", "lower", "digits"],
        Field(description="how the key is normalised: as it is, without outer blanks, also in lower case, digits only"),
    ] = "trim"
    prefer: Annotated[
        str | None,
        Field(
            description="SQL order that picks one of several rows with one key, e.g. `updated_at desc`; null = hold them all back"
        ),
    ] = None
    write_nulls: Annotated[bool, Field(description="a null clears the destination's value")] = False
    requires: Annotated[
        list[str],
        Field(description="destination fields without which a row is held back, e.g. what an insert there must have"),
    ] = []
    parents: Annotated[
        dict[str, str],
        Field(
            description="sync whose rows come first: column of this model with the key of the row there; a row is held back until its parent is confirmed"
        ),
    ] = {}
    settle_seconds: Annotated[
        float,
        Field(
            ge=0, description="a row is held back until it has not changed for so long, so that late joins can arrive"
        ),
    ] = 0
    settle_by: Annotated[str, Field(description="column with the moment of a row's last change")] = "updated_at"
    live: Annotated[
        bool, Field(description="delivered as the model changes while `headwater up` runs, not only by `activate`")
    ] = False
    decisions: Annotated[
        bool, Field(description="rows are decisions: consent, kill switch and frequency are checked at send")
    ] = False
    max_removal_share: Annotated[
        float, Field(ge=0, le=1, description="stop when more than this share would be removed")
    ] = 0.20
    max_failed_share: Annotated[float, Field(ge=0, le=1, description="stop when more than this share fails")] = 0.50
    max_rows: Annotated[int | None, Field(ge=0, description="most rows a run may send; null = no limit")] = None


AlertKind = Literal["failed_run", "failed_share", "freshness", "count_deviation", "run_time", "stopped"]


class AlertSettings(Settings):
    """What is worth an alert, and where it goes. Every alert is a row of `headwater.alerts`, also where none is sent."""

    url_env: Annotated[
        str | None,
        Field(
            description="environment variable with addresses as Apprise takes them, separated by blanks; null = send none"
        ),
    ] = None
    kinds: Annotated[list[AlertKind], Field(description="which kinds there are to be")] = [
        "failed_run",
        "failed_share",
        "freshness",
        "count_deviation",
        "run_time",
        "stopped",
    ]
    failed_share: Annotated[
        float, Field(ge=0, le=1, description="alert when more than this share of a run's rows failed")
    ] = 0.05
    freshness_hours: Annotated[
        float,
        Field(
            gt=0,
            description="alert when a sync had no good run for so long, or a row waits for so long, hours",
        ),
    ] = 26
    count_deviation: Annotated[
        float,
        Field(
            gt=0, description="alert when a run has this share more or fewer rows than the median of its last ten runs"
        ),
    ] = 0.5
    run_seconds: Annotated[float, Field(gt=0, description="alert when a run took longer, seconds")] = 3600
    repeat_hours: Annotated[
        float, Field(gt=0, description="an alert that still holds is sent again after so long, hours")
    ] = 24
