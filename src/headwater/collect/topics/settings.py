"""The settings of topics that another Debezium fills."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headwater.collect.column_masks import ColumnMask, ColumnMasks, real
from headwater.collect.source_timezone import SourceTimezone
from headwater.log.brokers import Brokers
from headwater.settings import Settings


class TopicSettings(Settings):
    """One table, as one topic has it."""

    topic: Annotated[str, Field(min_length=1, description="the topic, such as shop.public.customers")]
    key: Annotated[
        list[str], Field(description="columns of the primary key; empty = as the messages' keys name them")
    ] = []
    mask: ColumnMasks = {}
    columns: Annotated[
        dict[str, str],
        Field(
            description="column: its type, as Postgres writes it; no other column comes in then. Needed where the messages have no schema"
        ),
    ] = {}

    @model_validator(mode="after")
    def _masks_hold(self) -> "TopicSettings":
        if self.columns and (unknown := sorted(set(self.mask) - set(self.columns))):
            raise ValueError(
                f"{', '.join(unknown)} is to be masked and stands not under `columns`; there are {', '.join(self.columns)}"
            )
        if one := [name for name in self.key if self.masked.get(name, "hash") != "hash"]:
            raise ValueError(f"{', '.join(one)} is part of the key; mask it with `hash`, which keeps keys apart")
        return self

    @property
    def masked(self) -> dict[str, ColumnMask]:
        """What is masked, without columns that are plain on purpose."""
        return real(self.mask)


class TopicsSettings(Brokers):
    """One database, of which the changes are in topics of a cluster."""

    name: Annotated[
        str, Field(description="name of the source, as it stands in every table", pattern=r"^[a-z][a-z0-9_]*$")
    ]
    kind: Annotated[Literal["debezium_kafka"], Field(description="the form of the messages")] = "debezium_kafka"
    tables: Annotated[dict[str, TopicSettings], Field(description="the tables that come in, by name", min_length=1)]
    group: Annotated[
        str | None, Field(description="consumer group that keeps the offsets; null = `headwater-<name>`")
    ] = None
    order: Annotated[
        Literal["offset", "lsn"],
        Field(
            description="what orders the changes of a row: their offset in the topic, or the position in the database's journal, "
            "which every message must carry then (envelope, or `add.fields: source.lsn`); tombstones say nothing new then"
        ),
    ] = "offset"
    time_unit: Annotated[
        Literal["ms", "us", "ns"],
        Field(description="unit of moments that come as numbers without a schema; us is Debezium's own default"),
    ] = "us"
    source_timezone: SourceTimezone = "UTC"
    timeout_seconds: Annotated[float, Field(gt=0, description="longest wait for an answer of the brokers, seconds")] = (
        30
    )
    batch_rows: Annotated[int, Field(ge=1, le=100_000, description="most changes written to the log at once")] = 10_000

    @property
    def group_name(self) -> str:
        """The consumer group in force."""
        return self.group or f"headwater-{self.name}"
