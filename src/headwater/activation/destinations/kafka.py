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
from headwater.settings import Settings

if TYPE_CHECKING:
    from confluent_kafka import Producer


class KafkaOptions(Settings):
    bootstrap_servers: Annotated[str, Field(description="brokers, host:port, separated by commas")]
    topic: Annotated[str | None, Field(description="topic; null = the name of the sync")] = None
    security_protocol: Annotated[
        str, Field(description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL (Confluent, Upstash-like and MSK clusters)")
    ] = "PLAINTEXT"
    sasl_mechanism: Annotated[str | None, Field(description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512; null = none")] = (
        None
    )
    username_env: Annotated[str | None, Field(description="environment variable with the user or API key")] = None
    password_env: Annotated[str | None, Field(description="environment variable with the password or API secret")] = (
        None
    )
    ca_file: Annotated[str | None, Field(description="file with the authorities to trust; null = the system's")] = None
    envelope: Annotated[bool, Field(description="also send operation, key and operation id beside the fields")] = False
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
        self._producer: Producer | None = None
        self._sending = threading.Lock()

    @property
    def secrets(self) -> Sequence[str]:
        """User and password."""
        names = (self.settings.username_env, self.settings.password_env)
        return [value for name in names if name and (value := self.environment.get(name))]

    def open(self) -> None:
        """Make the producer; the brokers are asked with the first delivery. Raises Unusable when a secret is not set."""
        try:
            from confluent_kafka import KafkaException, Producer  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise Unusable(
                "not_installed", "the package confluent-kafka is not installed", advice="pip install 'headwater[kafka]'"
            ) from error
        own = self.settings
        missing = [name for name in (own.username_env, own.password_env) if name and not self.environment.get(name)]
        if missing:
            raise Unusable(
                "SECRET_MISSING", f"the environment has no {', '.join(missing)}", advice="set them, then run again"
            )
        settings: dict[str, Any] = {
            "bootstrap.servers": own.bootstrap_servers,
            "security.protocol": own.security_protocol,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 20,
            "topic.metadata.propagation.max.ms": min(5_000, int(own.timeout_seconds * 500)),
            "compression.type": "lz4",
            "delivery.timeout.ms": int(own.timeout_seconds * 1_000),
            "queue.buffering.max.messages": max(own.batch_size * 2, 10_000),
            "client.id": "headwater",
            "log_level": 0,
            "error_cb": lambda _error: None,
        }
        if own.sasl_mechanism:
            settings["sasl.mechanism"] = own.sasl_mechanism
        if own.username_env:
            settings["sasl.username"] = self.environment[own.username_env]
        if own.password_env:
            settings["sasl.password"] = self.environment[own.password_env]
        if own.ca_file:
            settings["ssl.ca.location"] = own.ca_file
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
        answers: dict[str, KafkaError | None] = {}
        topic = self.settings.topic or batch.sync
        with self._sending:
            for row in batch.operations:
                self._send(topic, row, answers)
            self._producer.flush(self.settings.timeout_seconds)
        fatal = next((error for error in answers.values() if error is not None and error.code() in _unusable()), None)
        if fatal is not None:
            raise Unusable(
                fatal.name(), fatal.str(), advice=_ADVICE.get(fatal.name(), f"mend the options of {self.name!r}")
            )
        if not answers or all(error is not None and error.code() in _nobody() for error in answers.values()):
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
        while True:
            try:
                self._producer.produce(topic, self._value(row), row.key.encode(), on_delivery=answered, headers=headers)
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

    def _value(self, row: Operation) -> bytes | None:
        if row.operation == "delete":
            return None
        fields = {
            name: value
            for name, value in {**row.previous, **row.fields}.items()
            if value is not None or name in row.fields
        }
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
