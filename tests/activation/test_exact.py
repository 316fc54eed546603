"""The quick way to write JSON and the careful one say the same."""

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from headwater.activation import exact

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


@given(PLAIN)
def test_the_quick_way_writes_what_the_careful_one_does(value):
    assert exact.dumps(value) == exact._careful(value)


def test_keys_and_dates_are_text():
    assert exact.dumps({1: date(2026, 3, 1)}) == '{"1":"2026-03-01"}'
