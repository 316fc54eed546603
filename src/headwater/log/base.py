"""The contract of every log: append is durable, reading is ordered, nothing unread is ever removed."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from headwater.records.logged import Entry, Record, Topic

TOPICS: tuple[Topic, ...] = ("events", "changes", "rejected")


@dataclass(frozen=True)
class TopicFacts:
    """One topic. `end` as in `Log.end`; the moments are `received_at` of the oldest and newest record, None without any."""

    end: int
    oldest_at: int | None
    newest_at: int | None


@dataclass(frozen=True)
class LogFacts:
    """What `/health` and `headwater status` say of the log.

    `place`: where it is, in words. `size_bytes`: what it takes now, None = not known; `limit_bytes`: what it may take, None = no limit;
    `free_bytes`: what the disk has left, None = not known. `unread`: records that a reader has not acknowledged, by reader
    and topic (at most: removed records may be among them). `last_commit_seconds`: how long the newest append of this process
    took to become durable, None before the first. `last_error`: the sentence of the newest append if that failed.
    """

    place: str
    size_bytes: int | None
    limit_bytes: int | None
    free_bytes: int | None
    topics: Mapping[Topic, TopicFacts]
    unread: Mapping[str, Mapping[Topic, int]]
    last_commit_seconds: float | None
    last_error: str | None


class Log(Protocol):
    """An append-only log with topics and readers.

    At least once and ordered per key: a record may be appended twice by a sender that retries, so readers drop repeats by
    (source, message_id) where they land. A reader keeps its own position beside its own results; `acknowledge` only tells
    the log what may be removed. Every method may be called from any thread.
    """

    def append(self, entries: Sequence[Entry]) -> None:
        """Make all entries durable, or none. When it returns they survive kill -9 and a loss of power.

        Raises InvalidValue for an entry whose payload is no JSON object, LogFull when there is no room, LogUnavailable for
        any other failure; nothing of the call is kept then.
        """
        ...

    def read(self, topic: Topic, after: int, limit: int) -> list[Record]:
        """Up to `limit` records with an offset above `after`, in order; an empty list at the end. Waits for nobody."""
        ...

    def end(self, topic: Topic) -> int:
        """The offset of the newest record; 0 when the topic never had one. It never shrinks."""
        ...

    def place(self, topic: Topic, offset: int) -> str:
        """Where the reader of this process stands when it has the record `offset`, in the log's own words.

        Whoever keeps an offset keeps this beside it. Empty where the offset says everything.
        """
        ...

    def follow(self, topic: Topic, offset: int, place: str) -> None:
        """Go on after `offset`, of which `place` was kept. A reader that keeps its position says so before its first read.

        Raises LogUnavailable when that place is not in the log any more, or was in another.
        """
        ...

    def acknowledge(self, reader: str, topic: Topic, offset: int) -> None:
        """`reader` has everything up to `offset` in its own durable place. Going back is allowed (a restored reader).

        The first call makes the reader known to the log; with offset 0 it holds everything from then on.
        """
        ...

    def dismiss(self, reader: str) -> None:
        """`reader` will never come back: it holds nothing any more. Dismissing one that is not known is fine."""
        ...

    def trim(self) -> int:
        """Remove the oldest records that are past the log's age or size and that every reader has; how many it removed.

        What one reader has not acknowledged stays, and so does a topic that has no reader at all.
        """
        ...

    def remove(
        self,
        topic: Topic,
        gone: Callable[[Record], bool],
        *,
        holding: Sequence[bytes] = (),
        offsets: Collection[int] | None = None,
    ) -> int:
        """Remove the records for which `gone` is true, whoever has read them; how many they were.

        When it returns, nobody reads them any more, and no byte of them is in the log's files unless `remains` says which
        and until when. Their offsets are never given again. Two things make it quick:
        `holding`, every record to be removed has at least one of these in the bytes of its payload, key or message id, and
        `offsets`, those that it may have; only such records are looked at. Raises LogUnavailable when the bytes could not all be overwritten: run it again.
        """
        ...

    def remains(self) -> str:
        """What is still left of removed records, where, and until when, in a sentence for a receipt; empty when nothing is."""
        ...

    def facts(self) -> LogFacts:
        """What is true of the log now. Raises LogUnavailable when it cannot be read."""
        ...

    def close(self) -> None:
        """Give the files or connections back. Closing twice is fine."""
        ...
