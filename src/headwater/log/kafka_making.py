"""The topics of a log in Kafka: made when they are missing, looked at when they are there."""

from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from headwater.errors import ConfigError, LogUnavailable
from headwater.log.settings import KafkaLogSettings

if TYPE_CHECKING:
    from confluent_kafka.admin import AdminClient


def make(
    client: Mapping[str, Any], own: KafkaLogSettings, names: Mapping[str, int], notes: str, segment_ms: int
) -> None:
    """Make the topics `names` (with that many partitions) and the compacted topic `notes`, those that are missing.

    Raises LogUnavailable when the brokers do not answer or refuse, ConfigError when a topic is there that would lose records.
    """
    try:
        from confluent_kafka.admin import AdminClient, ConfigResource, NewTopic  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigError("the package confluent-kafka is not installed: pip install 'headwater[kafka]'") from error
    admin = AdminClient(dict(client))
    there = _asked(own, "look at the topics of", lambda: admin.list_topics(timeout=own.timeout_seconds)).topics
    copies = own.replication_factor or -1
    keep = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1", "segment.ms": str(segment_ms)}
    wanted = [
        NewTopic(name, parts, copies, config={**keep, "max.message.bytes": str(own.max_message_bytes)})
        for name, parts in names.items()
        if name not in there
    ]
    if notes not in there:
        wanted.append(NewTopic(notes, 1, copies, config={"cleanup.policy": "compact"}))
    for name, made in (admin.create_topics(wanted, request_timeout=own.timeout_seconds) if wanted else {}).items():
        _made(own, name, made)
    _check(admin, own, [ConfigResource("TOPIC", name) for name in names if name in there])


def make_compacted(own: KafkaLogSettings, environment: Mapping[str, str], names: Sequence[str]) -> None:
    """Make the topics that are missing, each keeping the newest message of a key; with as many partitions as the log's."""
    try:
        from confluent_kafka.admin import AdminClient, NewTopic  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise ConfigError("the package confluent-kafka is not installed: pip install 'headwater[kafka]'") from error
    admin = AdminClient(own.client(environment))
    there = _asked(own, "look at the topics of", lambda: admin.list_topics(timeout=own.timeout_seconds)).topics
    config = {"cleanup.policy": "compact"}
    wanted = [
        NewTopic(name, own.partitions, own.replication_factor or -1, config=config)
        for name in names
        if name not in there
    ]
    for name, made in (admin.create_topics(wanted, request_timeout=own.timeout_seconds) if wanted else {}).items():
        _made(own, name, made)


def _made(own: KafkaLogSettings, name: str, made: "Future[Any]") -> None:
    from confluent_kafka import KafkaError, KafkaException  # noqa: PLC0415 (an extra)

    try:
        made.result(own.timeout_seconds)
    except KafkaException as error:
        if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
            raise LogUnavailable(
                f"the topic {name} could not be made: {error.args[0].str()}. Make it beforehand as docs/kafka.md says, or grant CREATE"
            ) from error
    except TimeoutError as error:
        raise LogUnavailable(f"the topic {name} was not made within {own.timeout_seconds:g} s. Try again") from error


def _check(admin: "AdminClient", own: KafkaLogSettings, resources: list[Any]) -> None:
    """A compacted topic would lose all but the newest event of a person."""
    for resource, answer in (
        admin.describe_configs(resources, request_timeout=own.timeout_seconds) if resources else {}
    ).items():
        try:
            found = answer.result(own.timeout_seconds)
        except Exception:  # noqa: S112 (who may not look at settings may still use the topic)
            continue
        policy = str(found["cleanup.policy"].value)
        if "compact" in policy:
            raise ConfigError(
                f"the topic {resource.name} has cleanup.policy {policy}; expected delete: compaction would remove all but the "
                "newest event of each person. Set it to delete"
            )


def _asked(own: KafkaLogSettings, doing: str, work: Any) -> Any:
    from confluent_kafka import KafkaException  # noqa: PLC0415 (an extra)

    try:
        return work()
    except KafkaException as error:
        raise LogUnavailable(
            f"cannot {doing} Kafka at {own.bootstrap_servers}: {error.args[0].str()}. See whether the brokers run, and whether "
            "address, protocol and secrets are right"
        ) from error
