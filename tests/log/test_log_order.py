"""One order over several partitions: numbers grow, places come back, and what was read is read again in the same order."""

from hypothesis import given
from hypothesis import strategies as st

from headwater.log.order import Order

reads = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=60)  # partition, offsets passed over


def _read(order: Order, steps: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """(number, partition, offset) of each record, as a reader has them."""
    found = []
    for partition, passed in steps:
        offset = order.newest.get(partition, 0) + passed
        found.append((order.add(partition, offset), partition, offset))
    return found


@given(reads, st.dictionaries(st.integers(0, 3), st.integers(0, 50)))
def test_numbers_grow_and_their_places_come_back(steps: list[tuple[int, int]], start: dict[int, int]) -> None:
    order = Order(start)
    found = _read(order, steps)
    numbers = [number for number, _, _ in found]
    assert numbers == sorted(set(numbers))
    assert order.end == (numbers[-1] if numbers else sum(start.values()))
    expected = dict(start)
    for number, partition, offset in found:
        expected[partition] = offset + 1
        assert order.place(number) == expected
        assert sum(order.place(number).values()) == number
    assert order.place(order.end + 1) is None
    assert order.place(order.begin - 1) is None


@given(reads, st.data())
def test_what_was_read_comes_again_in_its_order(steps: list[tuple[int, int]], data: st.DataObject) -> None:
    order = Order({})
    found = _read(order, steps)
    after = data.draw(st.sampled_from([0, *(number for number, _, _ in found)]))
    again = [(p, offset) for p, first, end in order.after(after) for offset in range(first, end)]
    later = [(p, offset) for number, p, offset in found if number > after]
    passed_over = set(again) - set(later)
    assert [one for one in again if one not in passed_over] == later
    for number, partition, offset in found:
        assert order.number(partition, offset) == number


@given(reads)
def test_a_long_order_forgets_its_beginning_and_nothing_else(steps: list[tuple[int, int]]) -> None:
    order, whole = Order({}, keep=3), Order({})
    _read(order, steps)
    for number, _, _ in _read(whole, steps):
        place = order.place(number)
        assert place == whole.place(number) if number >= order.begin else place is None
    assert order.newest == whole.newest
