"""The stack is put together from parts; what one part calls its own, no other part replaces."""

from collections import Counter

from headwater.stack import Stack


def test_no_part_of_the_stack_replaces_what_another_calls_its_own() -> None:
    parts = [part for part in Stack.__mro__ if part is not object and part.__module__.startswith("headwater.")]
    named = Counter(
        name for part in parts for name, value in vars(part).items() if callable(value) and not name.startswith("__")
    )
    assert [name for name, times in named.items() if times > 1] == []
