"""Many entries in one block of bytes: what one row of the SQLite log holds.

A block is four bytes of CRC-32 over the rest, then a MessagePack list with one list per entry: source, key, message id,
received_at, payload. The file then takes a row for each commit and not one for each event, which is what makes it quick.
A removed entry keeps its place and its length: its texts become spaces and its payload NUL bytes, so that it is overwritten
where it stands and no copy of it is left behind on the page.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec

from headwater.errors import InvalidValue
from headwater.records.logged import Entry, Record, Topic

MAX_ENTRIES = 1_000
"""Most entries that one block holds: what a reader of a single record has to decode."""
MAX_BYTES = 1_000_000
"""A block that is larger takes no further entries."""

Item = tuple[str, str, str, int, bytes]

_fields = attrgetter("source", "key", "message_id", "received_at", "payload")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Item]).decode
_GONE = b"\0"


class Damaged(ValueError):
    """A block is not what was written."""


@dataclass(slots=True)
class Part:
    """Encoded entries of one topic, without the head of a block; the moments are the earliest and latest `received_at`."""

    count: int
    oldest_at: int
    newest_at: int
    body: bytes


def checked(entries: Sequence[Entry]) -> None:
    """Raises InvalidValue for the first entry whose payload cannot be a JSON object."""
    for entry in entries:
        if entry.payload[:1] != b"{":
            raise InvalidValue(
                f"the payload of message {entry.message_id!r} begins with {entry.payload[:20]!r}; expected one JSON object. "
                "Log a JSON object"
            )


def parts(entries: Sequence[Entry]) -> Iterator[tuple[Topic, Part]]:
    """The entries by topic, each topic's in order, in parts of at most MAX_ENTRIES.

    Raises InvalidValue for a payload that is no JSON object or a text that is not UTF-8.
    """
    checked(entries)
    topics = {entry.topic for entry in entries}
    for topic in topics:
        own = entries if len(topics) == 1 else [entry for entry in entries if entry.topic == topic]
        for start in range(0, len(own), MAX_ENTRIES):
            items = list(map(_fields, own[start : start + MAX_ENTRIES]))
            moments = [item[3] for item in items]
            try:
                listed = _encode(items)
            except (UnicodeEncodeError, OverflowError, TypeError) as error:
                raise InvalidValue(f"an entry cannot be logged: {error}; expected texts that are UTF-8") from error
            yield topic, Part(len(items), min(moments), max(moments), listed[len(_head(len(items))) :])


def joined(own: Sequence[Part]) -> Iterator[Part]:
    """The parts as blocks, in order, small ones together."""
    group: list[Part] = []
    count = size = 0
    for part in own:
        if group and (count + part.count > MAX_ENTRIES or size > MAX_BYTES):
            yield _block(group)
            group, count, size = [], 0, 0
        group.append(part)
        count += part.count
        size += len(part.body)
    if group:
        yield _block(group)


def records(topic: Topic, first: int, block: bytes, after: int = 0) -> list[Record]:
    """The records of a block whose first entry has the offset `first`; removed ones and those up to `after` left out.

    Raises Damaged.
    """
    start = max(0, after + 1 - first)
    return [
        Record(offset, topic, *item)
        for offset, item in enumerate(_items(block)[start:], first + start)
        if item[4][:1] != _GONE
    ]


def without(
    topic: Topic, first: int, block: bytes, gone: Callable[[Record], bool], holding: Sequence[bytes] = ()
) -> tuple[bytes, int]:
    """The block, exactly as long, with those entries overwritten for which `gone` is true; and how many they were.

    `holding` as in `Log.remove`.
    """
    items = _items(block)
    removed = 0
    for position, item in enumerate(items):
        source, key, message_id, received_at, payload = item
        if payload[:1] == _GONE or (holding and not holds(payload, key, message_id, holding)):
            continue
        if gone(Record(first + position, topic, *item)):
            blank = (_spaces(source), _spaces(key), _spaces(message_id), received_at, _GONE * len(payload))
            items[position] = blank
            removed += 1
    return (_signed(_encode(items)), removed) if removed else (block, 0)


def holds(payload: bytes, key: str, message_id: str, needles: Sequence[bytes]) -> bool:
    """Whether one of the needles is in one of the three."""
    texts = (payload, key.encode(), message_id.encode())
    return any(needle in text for needle in needles for text in texts)


def _block(group: Sequence[Part]) -> Part:
    count = sum(part.count for part in group)
    return Part(
        count,
        min(part.oldest_at for part in group),
        max(part.newest_at for part in group),
        _signed(_head(count) + b"".join(part.body for part in group)),
    )


def _head(count: int) -> bytes:
    """How MessagePack begins a list of `count`."""
    return bytes([0x90 | count]) if count < 16 else b"\xdc" + count.to_bytes(2, "big")


def _signed(listed: bytes) -> bytes:
    return zlib.crc32(listed).to_bytes(4, "big") + listed


def _items(block: bytes) -> list[Item]:
    listed = memoryview(block)[4:]
    if zlib.crc32(listed) != int.from_bytes(block[:4], "big"):
        raise Damaged("its checksum does not fit")
    try:
        return _decode(listed)
    except msgspec.DecodeError as error:
        raise Damaged(str(error)) from error


def _spaces(text: str) -> str:
    return " " * len(text.encode())
