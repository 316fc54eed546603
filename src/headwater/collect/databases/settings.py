"""The settings of the databases whose changes come in: which tables, what of them is masked, by which slot."""

from typing import Annotated

from pydantic import Field, model_validator

from headwater.collect.column_masks import ColumnMask, ColumnMasks, real
from headwater.collect.source_timezone import SourceTimezone
from headwater.settings import Settings

_NAME = r"^[a-z_][a-z0-9_]*$"


class TableSettings(Settings):
    """One table of a database. Every column comes in unless `mask` says otherwise."""

    mask: ColumnMasks = {}
    columns: Annotated[
        dict[str, str],
        Field(
            description="column: its type in the warehouse, so that models build before the first change came; empty = as they come"
        ),
    ] = {}

    @property
    def masked(self) -> dict[str, ColumnMask]:
        """What is masked, without columns that are plain on purpose."""
        return real(self.mask)


class DatabaseSettings(Settings):
    """One database: every committed change of its tables comes in. Changes of one row keep their order."""

    name: Annotated[
        str, Field(description="name of the source, as it stands in every table", pattern=r"^[a-z][a-z0-9_]*$")
    ]
    url_env: Annotated[
        str, Field(description="environment variable with the address, postgresql://user:password@host:port/database")
    ]
    db_schema: Annotated[str, Field(description="schema of the tables", pattern=_NAME)] = "public"
    tables: Annotated[dict[str, TableSettings], Field(description="the tables that come in, by name", min_length=1)]
    slot: Annotated[
        str | None, Field(description="replication slot, read by nobody else; null = `headwater_<name>`", pattern=_NAME)
    ] = None
    publication: Annotated[str, Field(description="publication that holds the tables", pattern=_NAME)] = "headwater"
    source_timezone: SourceTimezone = "UTC"
    heartbeat_table: Annotated[
        str,
        Field(
            description="table of one row that is updated so that the slot moves on in a quiet database", pattern=_NAME
        ),
    ] = "headwater_heartbeat"
    heartbeat_seconds: Annotated[float, Field(gt=0, description="how often it is updated, seconds")] = 10
    lag_warn_mb: Annotated[
        int, Field(ge=1, description="so much journal kept by the database for the slot is an alarm, megabytes")
    ] = 1024
    heap_mb: Annotated[int, Field(ge=128, description="memory for Debezium's Java, megabytes")] = 384
    batch_rows: Annotated[int, Field(ge=1, le=100_000, description="most changes written to the log at once")] = 8_192

    @property
    def slot_name(self) -> str:
        """The slot in force."""
        return self.slot or f"headwater_{self.name}"

    @model_validator(mode="after")
    def _heartbeats_apart(self) -> "DatabaseSettings":
        if self.heartbeat_table in self.tables:
            raise ValueError(f"the heartbeat table {self.heartbeat_table!r} is written by us; leave it out of `tables`")
        return self
