"""The settings of the log: a file of the project, or topics of a Kafka cluster."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headwater.log.brokers import Brokers
from headwater.settings import Settings


class KafkaLogSettings(Brokers):
    """The log in topics of a cluster."""

    topic_prefix: Annotated[
        str,
        Field(
            description="what stands before the names of its topics; one project, one prefix",
            pattern=r"^[A-Za-z0-9._-]{1,200}$",
        ),
    ] = "headwater."
    partitions: Annotated[
        int,
        Field(
            ge=1, le=1_000, description="partitions of `events` and `changes`, when they are made; `rejected` has one"
        ),
    ] = 1
    replication_factor: Annotated[
        int | None, Field(ge=1, description="copies of each topic, when it is made; null = the cluster's default")
    ] = None
    max_message_bytes: Annotated[
        int, Field(ge=1_000, description="largest message that a topic takes, when it is made, bytes")
    ] = 8_000_000
    timeout_seconds: Annotated[float, Field(gt=0, description="longest wait for an answer of the brokers, seconds")] = (
        10
    )
    hold_for_groups: Annotated[
        list[str],
        Field(
            description="consumer groups, such as that of a job on Flink, that must have committed a record before it is deleted"
        ),
    ] = []
    erase_hours: Annotated[
        int,
        Field(
            ge=0,
            description="records of somebody who was forgotten are hidden at once, and deleted with all older ones at the latest so much later, hours",
        ),
    ] = 24


class LogSettings(Settings):
    """Section `log:`."""

    kind: Annotated[
        Literal["sqlite", "kafka"],
        Field(description="sqlite: the file `warehouse/log.sqlite`; kafka: topics of a cluster"),
    ] = "sqlite"
    kafka: Annotated[KafkaLogSettings | None, Field(description="the cluster, for kind kafka")] = None

    @model_validator(mode="after")
    def _told(self) -> "LogSettings":
        if self.kind == "kafka" and self.kafka is None:
            raise ValueError("kind kafka needs the section kafka with at least bootstrap_servers")
        return self
