"""The settings of the collector: where it listens, its sources with their write keys, plans and masks, its limits."""

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from headwater.collect.databases.settings import DatabaseSettings
from headwater.collect.hooks.settings import HubSpotHookSettings, SalesforceHookSettings
from headwater.collect.topics.settings import TopicsSettings
from headwater.settings import Settings

MaskKind = Literal["plain", "hash", "constant", "drop"]


class SourceSettings(Settings):
    """One source: whoever sends with this write key. Message ids are unique within a source."""

    name: Annotated[
        str, Field(description="name of the source, as it stands in every table", pattern=r"^[a-z][a-z0-9_]*$")
    ]
    write_key: Annotated[
        str,
        Field(
            min_length=1,
            description="what the SDKs send to say who they are; it stands in web pages, so it is no secret",
        ),
    ]
    webhook_secret_env: Annotated[
        str | None,
        Field(description="environment variable with the shared secret of a Segment webhook destination; null = none"),
    ] = None
    hubspot: Annotated[
        HubSpotHookSettings | None,
        Field(description="webhooks of a HubSpot app come to /v1/hubspot/<name>; null = none"),
    ] = None
    salesforce: Annotated[
        SalesforceHookSettings | None,
        Field(description="outbound messages of Salesforce come to /v1/salesforce/<name>?token=…; null = none"),
    ] = None
    deletes: Annotated[
        bool,
        Field(
            description="messages of type delete may also come with the write key; signed webhooks may always send them"
        ),
    ] = False
    tracking_plan: Annotated[
        str | None,
        Field(description="file of the project with the source's tracking plan; null = everything is planned"),
    ] = None
    mask: Annotated[
        dict[str, MaskKind],
        Field(
            description="field path (`traits.email`, `properties.cards.*.number`): plain, hash, constant or drop; applied before the log"
        ),
    ] = {}


class CollectLimits(Settings):
    """What is too much for one event, one request, or at one moment."""

    event_bytes: Annotated[int, Field(ge=1, description="largest event, bytes")] = 32 * 1024
    batch_bytes: Annotated[int, Field(ge=1, description="largest request, bytes after decompression")] = 500 * 1024
    batch_events: Annotated[int, Field(ge=1, description="most events in a request")] = 2_500
    depth: Annotated[int, Field(ge=8, le=500, description="deepest nesting of an event, levels")] = 64
    requests: Annotated[int, Field(ge=1, description="requests worked on at the same time; more are answered 429")] = (
        2_000
    )
    body_seconds: Annotated[
        float, Field(gt=0, description="a request whose body takes longer to arrive is answered 408, seconds")
    ] = 30
    pending_bytes: Annotated[
        int,
        Field(ge=1, description="bytes that are being received or wait for the log's commit; more are answered 429"),
    ] = 64 * 1024 * 1024
    retry_after_seconds: Annotated[
        int, Field(ge=1, description="what a sender is told to wait when it is answered 429 or 503, seconds")
    ] = 2
    free_disk_mb: Annotated[int, Field(ge=0, description="below so much free disk /health warns, megabytes")] = 256


class CollectSettings(Settings):
    """The HTTP collector."""

    host: Annotated[str, Field(description="address to listen on; 0.0.0.0 = every one")] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, le=65535, description="port to listen on; 0 = any free one")] = 8787
    sources: Annotated[list[SourceSettings], Field(description="who may send")] = [
        SourceSettings(name="website", write_key="website")
    ]
    databases: Annotated[
        list[DatabaseSettings], Field(description="Postgres databases whose every change comes in")
    ] = []
    topics: Annotated[
        list[TopicsSettings], Field(description="databases whose changes another Debezium puts into topics of Kafka")
    ] = []
    public_host: Annotated[
        str | None,
        Field(description="host (and port) under which browsers reach the collector; null = as they asked for it"),
    ] = None
    trusted_proxies: Annotated[
        list[str], Field(description="addresses whose X-Forwarded-For and X-Forwarded-Proto are believed")
    ] = ["127.0.0.1"]
    bundles: Annotated[
        str | None, Field(description="folder with analytics-next's `dist/umd`, served to browsers; null = none")
    ] = None
    future_seconds: Annotated[
        int, Field(ge=0, description="an event so far ahead of the collector's clock is flagged as future, seconds")
    ] = 3600
    mask_key_env: Annotated[str, Field(description="environment variable with the key of hashed fields")] = (
        "HEADWATER_MASK_KEY"
    )
    mask_key_version: Annotated[
        int, Field(ge=1, description="version of that key; from 2 on it stands before each hash, as in `v2:`")
    ] = 1
    log_max_mb: Annotated[
        int | None,
        Field(
            ge=1,
            description="most room the log may take, megabytes; what no reader has had is never removed; null = what the disk has",
        ),
    ] = None
    log_keep_hours: Annotated[
        int | None, Field(ge=1, description="events that every reader has had are kept so long, hours; null = for ever")
    ] = 168
    lag_warn_seconds: Annotated[
        int, Field(ge=1, description="a reader of the log that is so far behind makes /health say so, seconds")
    ] = 300
    limits: CollectLimits = CollectLimits()

    @field_validator("sources")
    @classmethod
    def _told_apart(cls, sources: list[SourceSettings]) -> list[SourceSettings]:
        for what in ("name", "write_key"):
            values = [getattr(source, what) for source in sources]
            twice = sorted({value for value in values if values.count(value) > 1})
            if twice:
                raise ValueError(f"every source needs a {what} of its own; used twice: {', '.join(twice)}")
        return sources

    @model_validator(mode="after")
    def _named_once(self) -> "CollectSettings":
        names = [one.name for one in (*self.sources, *self.databases, *self.topics)]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sources and databases need names of their own; used twice: {', '.join(twice)}")
        return self
