"""What the log holds: entries that somebody handed in, and the same as records, in their order, once they are durable."""

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

Topic = Literal["events", "changes", "rejected"]
"""`events`: accepted, validated, masked. `changes`: committed changes of database rows, masked (records/changed.py).

`rejected`: everything that was not accepted, with all its reasons and its raw bytes.
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing to be logged.

    `key`: entries of one key keep their order (the person's id as the sender gave it; empty when there is none).
    `received_at`: microseconds since 1970, UTC, by the collector's clock. `payload`: one JSON object, UTF-8.
    """

    topic: Topic
    source: str
    key: str
    message_id: str
    received_at: int
    payload: bytes


class Record(Struct, frozen=True, gc=False):
    """An entry that is durable. `offset` grows within a topic, from 1, with gaps allowed.

    The garbage collector does not look at it: it holds nothing that could hold it, and there are tens of thousands at a time.
    """

    offset: int
    topic: Topic
    source: str
    key: str
    message_id: str
    received_at: int
    payload: bytes
