"""What counts as the same rows in two warehouses."""

from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest
from target_shop import differences


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([("c1", Decimal("1.5000"), 3, None)], [("c1", Decimal("1.5"), 3, None)]),
        ([(0.1 + 0.2,), (None,)], [(None,), (0.3,)]),
        ([(1e12 / 3,)], [(Decimal(10**12) / 3,)]),
        (
            [(datetime.fromisoformat("2026-01-31"), date(2026, 1, 31), True)],
            [(datetime.fromisoformat("2026-01-31"), date(2026, 1, 31), True)],
        ),
    ],
)
def test_equal(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    assert differences(one, other) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([(Decimal("1.5000"),)], [(Decimal("1.5001"),)]),
        ([(Decimal("1.0000000001"),)], [(Decimal(1),)]),
        ([(0.3,)], [(0.300001,)]),
        ([(0.3,)], [(None,)]),
        ([(True,)], [(1,)]),
        ([("1.0",)], [(1.0,)]),
        ([(None, "a")], [("a", None)]),
    ],
)
def test_different(one: list[tuple[Any, ...]], other: list[tuple[Any, ...]]) -> None:
    assert len(differences(one, other)) == 2


def test_repeats_count() -> None:
    assert differences([("a",), ("a",)], [("a",)]) == [("one", ("a",))]
    assert differences([(0.5,)], [(0.5,), (0.5,)]) == [("other", (0.5,))]
