"""Blocks of entries: in and out again, in any cut, and overwritten at their length."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.log import packed
from headwater.records.logged import Entry, Record

texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=40)
entries = st.builds(
    Entry,
    st.just("events"),
    texts,
    texts,
    texts,
    st.integers(0, 2**62),
    st.binary(max_size=60).map(lambda tail: b"{" + tail),
)


def block(calls: list[list[Entry]]) -> packed.Part:
    parts = [part for call in calls for _, part in packed.parts(call)]
    (made,) = packed.joined(parts)
    return made


@given(st.lists(st.lists(entries, min_size=1, max_size=40), min_size=1, max_size=8), st.integers(0, 10**12))
def test_what_goes_in_comes_out_in_order(calls: list[list[Entry]], before: int) -> None:
    made = block(calls)
    flat = [one for call in calls for one in call]
    assert made.count == len(flat)
    assert (made.oldest_at, made.newest_at) == (min(e.received_at for e in flat), max(e.received_at for e in flat))
    assert packed.records("events", before + 1, made.body) == [
        Record(before + 1 + n, "events", e.source, e.key, e.message_id, e.received_at, e.payload)
        for n, e in enumerate(flat)
    ]


@given(st.lists(entries, min_size=1, max_size=40), st.data())
def test_removal_keeps_the_length_and_everybody_else(made: list[Entry], data: st.DataObject) -> None:
    gone = data.draw(st.sets(st.integers(1, len(made))))
    body = block([made]).body
    left, count = packed.without("events", 1, body, lambda record: record.offset in gone)
    assert (len(left), count) == (len(body), len(gone))
    whole = packed.records("events", 1, body)
    assert packed.records("events", 1, left) == [record for record in whole if record.offset not in gone]
    assert packed.without("events", 1, left, lambda record: True)[1] == len(made) - len(gone)


@given(st.lists(entries, min_size=1, max_size=5), st.integers(0), st.integers(0, 7))
def test_no_changed_bit_is_read(made: list[Entry], position: int, bit: int) -> None:
    body = bytearray(block([made]).body)
    body[position % len(body)] ^= 1 << bit
    with pytest.raises(packed.Damaged):
        packed.records("events", 1, bytes(body))


def test_large_calls_are_cut_and_small_ones_joined() -> None:
    one = Entry("events", "s", "k", "m", 1, b"{}")
    parts = [part for size in (2_500, 1, 1, 998) for _, part in packed.parts([one] * size)]
    assert [part.count for part in parts] == [1_000, 1_000, 500, 1, 1, 998]
    assert [part.count for part in packed.joined(parts)] == [1_000, 1_000, 502, 998]
    large = Entry("events", "s", "k", "m", 1, b"{" + b"x" * packed.MAX_BYTES)
    assert [part.count for part in packed.joined([part for _ in range(3) for _, part in packed.parts([large])])] == [
        1
    ] * 3
