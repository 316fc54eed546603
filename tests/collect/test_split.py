"""Events of a batch that cannot be read as a whole are found one by one."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from headwater.collect.split import split

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=6), st.dictionaries(st.text().filter(lambda name: name != "batch"), JSON, max_size=3))
def test_it_finds_the_same_events_as_a_parser(events: list, top: dict) -> None:
    names = list(top)
    whole = {name: top[name] for name in names[:1]} | {"batch": events} | {name: top[name] for name in names[1:]}
    found = split(msgspec.json.encode(whole))
    assert found is not None
    head, pieces = found
    assert [msgspec.json.decode(piece) for piece in pieces] == events
    assert msgspec.json.decode(head) == {**whole, "batch": []}


@given(st.binary(max_size=80))
def test_no_bytes_break_it(body: bytes) -> None:
    split(body)
    split(b'{"batch":[' + body)


def test_pieces_are_as_they_were_sent() -> None:
    body = b'{"context": {"batch": [0]}, "batch": [ {poison} , {"a": "]},["}, ,1], "sentAt": "x"}'
    assert split(body) == (
        b'{"context": {"batch": [0]}, "batch": [], "sentAt": "x"}',
        [b"{poison}", b'{"a": "]},["}', b"", b"1"],
    )
    assert split(b'{"batch": [{"a": 1}') is None
    assert split(b'{"batch": [{"a": 1]}]}') is None
    assert split(b'{"batches": []}') is None
    assert split(b'{"x": "batch", "batch": []}') == (b'{"x": "batch", "batch": []}', [])
