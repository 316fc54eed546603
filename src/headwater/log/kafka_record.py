"""A message of the log's topics as a record."""

from headwater.errors import LogUnavailable
from headwater.log.kafka_topic import Message
from headwater.records.logged import Record, Topic


def record(topic: Topic, number: int, message: Message) -> Record:
    """The record, with its number. Raises LogUnavailable for a message that the log did not write."""
    try:
        source, message_id, received_at = [value for _, value in message.headers() or ()]
        return Record(
            number,
            topic,
            source.decode(),
            (message.key() or b"").decode(),
            message_id.decode(),
            int(received_at),
            message.value() or b"",
        )
    except (ValueError, AttributeError, TypeError) as error:
        raise LogUnavailable(
            f"message {message.offset()} of {message.topic()}, partition {message.partition()}, was not written by Headwater "
            f"({error}): nobody else may write to the topics of its log. Give the log a prefix of its own"
        ) from error
