"""The contract of every log: append is durable, reading is ordered, nothing unread is ever removed."""

from collections.abc import Sequence
from typing import Protocol

from headwater.records.logged import Entry, Record, Topic


class Log(Protocol):
    """An append-only log with topics and readers.

    At least once and ordered per key: a record may be appended twice by a sender that retries, so readers drop repeats by
    (source, message_id) where they land. A reader keeps its own position beside its own results; `acknowledge` only tells
    the log what may be removed.
    """

    def append(self, entries: Sequence[Entry]) -> None:
        """Make all entries durable, or none. When it returns they survive kill -9 and a loss of power.

        Raises LogFull when there is no room, LogUnavailable for any other failure; nothing of the call is kept then.
        """
        ...

    def read(self, topic: Topic, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with an offset above `after`, in order; an empty list at the end. Waits for nobody."""
        ...

    def end(self, topic: Topic) -> int:
        """The offset of the newest record; 0 when the topic never had one."""
        ...

    def acknowledge(self, reader: str, topic: Topic, offset: int) -> None:
        """`reader` has everything up to `offset` in its own durable place. Going back is allowed (a restored reader)."""
        ...

    def close(self) -> None:
        """Give the files or connections back. Closing twice is fine."""
        ...
