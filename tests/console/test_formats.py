"""How numbers are written for people."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from headwater.console import formats
from headwater.console.formats import FIRM, THIN


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1,000"),
        (1_234_567, "1,234,567"),
        (-5_000, "−5,000"),
        (None, "–"),
    ],
)
def test_thousands_are_set_apart_by_a_comma(number: int | None, text: str) -> None:
    assert formats.count(number) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999, "999"), (999.6, "1k"), (1_000, "1k"), (12_345, "12.3k"), (99_949, "99.9k"), (99_951, "100k"),
     (999_949, "1M"), (1_250_000, "1.2M"), (3_000_000_000, "3bn"), (-12_345, "−12.3k"), (None, "–")],
)  # fmt: skip
def test_short_numbers_have_at_most_three_digits(number: float | None, text: str) -> None:
    assert formats.short(number) == text


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        (Decimal("4670794.62"), "USD", "$4,670,794.62"),
        (Decimal("-3.005"), "EUR", "−€3.00"),
        (Decimal("1234.5"), "JPY", "¥1,234"),
        (Decimal("12"), "CHF", "12.00\u00a0CHF"),
        (None, "USD", "–"),
    ],
)
def test_money_carries_its_currency(amount: Decimal | None, currency: str, text: str) -> None:
    assert formats.money(amount, currency) == text


def test_money_is_exact_where_a_float_would_not_be() -> None:
    assert formats.money(Decimal("90071992547409.93"), "USD") == "$90,071,992,547,409.93"


@pytest.mark.parametrize(
    ("share", "digits", "text"),
    [(0.125, 1, "12.5%"), (0, 0, "0%"), (0.0004, 0, "<1%"), (0.0004, 1, "<0.1%"), (1, 0, "100%")],
)  # fmt: skip
def test_a_share_above_nothing_is_never_zero_percent(share: float, digits: int, text: str) -> None:
    assert formats.percent(share, digits) == text


def test_moments_say_that_they_are_utc() -> None:
    at = datetime(2026, 1, 31, 14, 5, tzinfo=UTC)
    assert formats.moment(at).replace(FIRM, " ") == "31 Jan 2026, 14:05 UTC"
    assert formats.day(at).replace(FIRM, " ") == "31 Jan 2026"
    assert formats.month(date(2026, 1, 1)) == "Jan ’26"


@pytest.mark.parametrize(
    ("length", "text"),
    [(timedelta(seconds=0.42), f"0.4{THIN}s"), (timedelta(seconds=41), f"41{THIN}s"), (timedelta(hours=27), f"1{THIN}d 3{THIN}h"),
     (timedelta(hours=2, minutes=5, seconds=9), f"2{THIN}h 5{THIN}min"), (None, "–")],
)  # fmt: skip
def test_a_length_of_time_has_its_two_largest_units(length: timedelta | None, text: str) -> None:
    assert formats.span(length) == text


def test_long_text_is_clipped_with_an_ellipsis() -> None:
    assert formats.clipped("short", 10) == "short"
    assert formats.clipped("a rather long name", 10) == "a rather…"
