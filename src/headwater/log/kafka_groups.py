"""Readers of the log that are not ours: consumer groups, such as that of a job on Flink."""

from collections.abc import Mapping
from typing import Any

from headwater.errors import LogUnavailable
from headwater.log.order import Place
from headwater.log.settings import KafkaLogSettings


def places(client: Mapping[str, Any], own: KafkaLogSettings, topic: str, partitions: int) -> list[Place]:
    """Where each group of `hold_for_groups` stands in a topic, by what it has committed; at its beginning when it has not.

    Raises LogUnavailable when that cannot be asked: nothing may be deleted then.
    """
    if not own.hold_for_groups:
        return []
    from confluent_kafka import ConsumerGroupTopicPartitions, TopicPartition  # noqa: PLC0415 (an extra)
    from confluent_kafka.admin import AdminClient  # noqa: PLC0415 (an extra)

    admin = AdminClient(dict(client))
    parts = [TopicPartition(topic, number) for number in range(partitions)]
    found: list[Place] = []
    for group in own.hold_for_groups:
        try:
            asked = [ConsumerGroupTopicPartitions(group, parts)]
            answers = admin.list_consumer_group_offsets(asked, request_timeout=own.timeout_seconds)
            committed = answers[group].result(own.timeout_seconds).topic_partitions or ()
        except Exception as error:
            reason = error.args[0].str() if error.args and hasattr(error.args[0], "str") else error
            raise LogUnavailable(
                f"where the group {group} stands could not be asked: {reason}. Grant DESCRIBE on it, or take it out of hold_for_groups"
            ) from error
        found.append({one.partition: max(0, one.offset) for one in committed})
    return found
