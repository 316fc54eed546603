"""Rows as keyed messages of a Kafka topic."""

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from headwater.activation import exact
from headwater.activation.destinations import options as checked
from headwater.activation.destinations.base import (
    BaseDestination,
    Batch,
    Later,
    Limits,
    Operation,
    Result,
    Unusable,
)
from headwater.activation.destinations.connect_schema import ConnectSchema
from headwater.errors import ConfigError
from headwater.log.brokers import Brokers

if TYPE_CHECKING:
    from confluent_kafka import Producer


class KafkaOptions(Brokers):
    topic: Annotated[str | None, Field(description="topic; null = the name of the sync")] = None
    envelope: Annotated[bool, Field(description="also send operation, key and operation id beside the fields")] = False
    column_types: Annotated[
        dict[str, str],
        Field(
            description="column: int32, int64, double, boolean, string, date, timestamp or decimal(18,2); each message then carries "
            "the schema that Kafka Connect's sinks read (schemas.enable=true); empty = plain JSON"
        ),
    ] = {}
    key_column: Annotated[
        str | None,
        Field(description="with column_types: the column that stands in the message's key; null = the key as text"),
    ] = None
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="rows a delivery")] = 10_000
    timeout_seconds: Annotated[
        float, Field(gt=0, description="longest wait for the brokers' confirmation, seconds")
    ] = 60


class Kafka(BaseDestination):
    """Sends each row as a message: the sync's key as its key, all fields as JSON; a removal is a tombstone (no value).

    Guarantee: at least once. A row is confirmed when all in-sync replicas have it (`acks=all`); the idempotent producer keeps
    one delivery from writing a message twice or out of order. After a crash a message may stand in the topic twice with
    the same content: readers that keep the newest message of a key see no difference.
    Order: messages of one key go to one partition, in the order of their versions.
    With `column_types` key and value carry Kafka Connect's schema; a row that does not fit it fails alone (COLUMN_TYPE).
    Value: the whole row as it is confirmed and changed, so that a compacted topic holds every row in full. Decimals keep all
    their digits (JSON numbers), moments are ISO 8601 UTC. Headers: `operation_id` and `version`.
    Limits: `batch_size` rows a delivery; a message larger than the brokers allow fails alone (MSG_SIZE_TOO_LARGE).
    Permissions: DESCRIBE and WRITE on the topic, IDEMPOTENT_WRITE on the cluster where brokers are older than 3.0. The topic
    should be made beforehand with `cleanup.policy=compact`.
    Needs `pip install 'headwater[kafka]'`. User and password are read from the environment when the sync runs.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(KafkaOptions, name, options)
        self.limits = Limits(max_rows=self.settings.batch_size)
        try:
            self._schema = (
                ConnectSchema(self.settings.column_types, self.settings.key_column)
                if self.settings.column_types
                else None
            )
        except ValueError as error:
            raise ConfigError(f"destinations.{name}.options.column_types: {error}") from error
        self._producer: Producer | None = None
        self._sending = threading.Lock()

    @property
    def place(self) -> str:
        """The brokers, and the topic."""
        return f"{self.settings.bootstrap_servers} {self.settings.topic or '<sync>'}"

    @property
    def secrets(self) -> Sequence[str]:
        """User and password."""
        return self.settings.secrets(self.environment)

    def open(self) -> None:
        """Make the producer; the brokers are asked with the first delivery. Raises Unusable when a secret is not set."""
        try:
            from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise Unusable(
                "not_installed", "the package confluent-kafka is not installed", advice="pip install 'headwater[kafka]'"
            ) from error
        own = self.settings
        try:
            client = own.client(self.environment)
        except ConfigError as error:
            raise Unusable("SECRET_MISSING", str(error).partition(":")[0], advice="set them, then run again") from error
        settings: dict[str, Any] = {
            **client,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 20,
            "topic.metadata.propagation.max.ms": min(5_000, int(own.timeout_seconds * 500)),
            "compression.type": "lz4",
            "delivery.timeout.ms": int(own.timeout_seconds * 1_000),
            "queue.buffering.max.messages": max(own.batch_size * 2, 10_000),
        }
        try:
            self._producer = Producer(settings)
        except KafkaException as error:
            raise Unusable("SETTINGS", str(error.args[0]), advice=f"mend the options of {self.name!r}") from error

    def close(self) -> None:
        """Forget what was not confirmed; those rows come again."""
        if self._producer is not None:
            self._producer.purge()
            self._producer.flush(1)
            self._producer = None

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Send all messages and wait until the brokers have confirmed or refused each."""
        from confluent_kafka import KafkaError  # noqa: PLC0415 (an extra)

        assert self._producer is not None, "open() comes before deliver()"
        answers: dict[str, KafkaError | _Unfit | None] = {}
        topic = self.settings.topic or batch.sync
        with self._sending:
            for row in batch.operations:
                self._send(topic, row, answers)
            self._producer.flush(self.settings.timeout_seconds)
        asked = [error for error in answers.values() if not isinstance(error, _Unfit)]
        fatal = next((error for error in asked if error is not None and error.code() in _unusable()), None)
        if fatal is not None:
            raise Unusable(
                fatal.name(), fatal.str(), advice=_ADVICE.get(fatal.name(), f"mend the options of {self.name!r}")
            )
        if len(asked) == len(answers) and all(error is not None and error.code() in _nobody() for error in asked):
            raise Later(
                "NO_BROKER",
                f"no broker at {self.settings.bootstrap_servers} confirmed within {self.settings.timeout_seconds:g} s",
                in_doubt=True,
            )
        return [
            self._result(row, row.operation_id in answers, answers.get(row.operation_id)) for row in batch.operations
        ]

    def _send(self, topic: str, row: Operation, answers: dict[str, Any]) -> None:
        assert self._producer is not None

        def answered(error: Any, _message: Any, operation_id: str = row.operation_id) -> None:
            answers[operation_id] = error

        headers: dict[str, str | bytes | None] = {"operation_id": row.operation_id, "version": str(row.version)}
        try:
            key, value = self._message(row)
        except ValueError as error:
            answers[row.operation_id] = _Unfit(str(error))
            return
        while True:
            try:
                self._producer.produce(topic, value, key, on_delivery=answered, headers=headers)
            except BufferError:
                self._producer.poll(0.1)
            except Exception as error:  # a message that the client itself refuses, e.g. for its size
                reason = error.args[0] if error.args and hasattr(error.args[0], "code") else None
                if reason is None:
                    raise
                answers[row.operation_id] = reason
                return
            else:
                self._producer.poll(0)
                return

    def _message(self, row: Operation) -> tuple[bytes, bytes | None]:
        """Key and value. Raises ValueError for a row that does not fit its column types."""
        key = row.key if self._schema is None else self._schema.key(row.key)
        return key.encode(), self._value(row)

    def _value(self, row: Operation) -> bytes | None:
        if row.operation == "delete":
            return None
        fields = {
            name: value
            for name, value in {**row.previous, **row.fields}.items()
            if value is not None or name in row.fields
        }
        if self._schema is not None:
            return self._schema.value(fields).encode()
        if self.settings.envelope:
            fields = {"operation": row.operation, "key": row.key, "operation_id": row.operation_id, "fields": fields}
        return exact.dumps(fields).encode()

    def _result(self, row: Operation, answered: bool, error: Any) -> Result:
        if answered and error is None:
            return Result(row.operation_id, "done")
        if not answered:
            return Result(
                row.operation_id, "retry", "NOT_CONFIRMED", "the brokers did not confirm in time", in_doubt=True
            )
        if isinstance(error, _Unfit):
            return Result(
                row.operation_id,
                "failed",
                "COLUMN_TYPE",
                error.found,
                "mend column_types, or what the model gives there",
            )
        if error.code() in _final():
            return Result(
                row.operation_id,
                "failed",
                error.name(),
                error.str(),
                "shorten the row, or raise max.message.bytes of the topic",
            )
        return Result(
            row.operation_id, "retry", error.name(), error.str(), "the next run tries it again", in_doubt=True
        )


class _Unfit:
    """A row that its column types do not fit; it is not sent."""

    def __init__(self, found: str) -> None:
        self.found = found


_ADVICE = {
    "UNKNOWN_TOPIC_OR_PART": "make the topic, with cleanup.policy=compact",
    "_UNKNOWN_TOPIC": "make the topic, with cleanup.policy=compact",
    "TOPIC_AUTHORIZATION_FAILED": "grant DESCRIBE and WRITE on the topic",
    "_AUTHENTICATION": "mend user, password or mechanism",
    "SASL_AUTHENTICATION_FAILED": "mend user, password or mechanism",
}


def _unusable() -> frozenset[int]:
    from confluent_kafka import KafkaError  # noqa: PLC0415 (an extra)

    return frozenset(
        {
            KafkaError._UNKNOWN_TOPIC,
            KafkaError.UNKNOWN_TOPIC_OR_PART,
            KafkaError.TOPIC_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED,
            KafkaError._AUTHENTICATION,
            KafkaError.SASL_AUTHENTICATION_FAILED,
        }
    )


def _nobody() -> frozenset[int]:
    from confluent_kafka import KafkaError  # noqa: PLC0415 (an extra)

    return frozenset({KafkaError._MSG_TIMED_OUT, KafkaError._ALL_BROKERS_DOWN, KafkaError._TRANSPORT})


def _final() -> frozenset[int]:
    from confluent_kafka import KafkaError  # noqa: PLC0415 (an extra)

    return frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.RECORD_LIST_TOO_LARGE, KafkaError.INVALID_RECORD})
