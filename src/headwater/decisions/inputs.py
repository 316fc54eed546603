"""Step 0: what a caller may say. Each check returns the value to use, or raises InvalidValue naming field and allowed values.

`None` is never "no limit": a cap or a number of hours that is left open is an error.
"""

import math
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

from headwater.errors import InvalidValue

GOALS: dict[str, str] = {
    "90d_clv": "revenue of the 90 days after the decision",
    "engagement": "opens, clicks and visits of the 14 days after the decision",
    "conversion": "an order within 14 days of the decision",
    "retention": "an order within 90 days of the decision",
}
"""Goal to the outcome it is measured by; the goal selects the row of the default table."""

MOST_HOURS = 87_600.0


def goal(value: Any) -> str:
    """One of GOALS."""
    if not isinstance(value, str) or value not in GOALS:
        raise InvalidValue(f"goal: found {value!r}; allowed: {', '.join(GOALS)}")
    return value


def segment(value: Any, known: Iterable[str]) -> str:
    """A known segment, or `all`."""
    allowed = [*known, "all"]
    if not isinstance(value, str) or value not in allowed:
        raise InvalidValue(f"segment: found {value!r}; allowed: {', '.join(allowed)}")
    return value


def discount_cap(value: Any) -> float:
    """Percent, 0 to 100; 0 means no discount at all."""
    return _number("discount_cap", value, 100.0, "a number of percent from 0 to 100 (0 = no discount)")


def suppress_hours(value: Any) -> float:
    """Hours, 0 to ten years; 0 means no silence after a contact."""
    return _number("suppress_hours", value, MOST_HOURS, f"a number of hours from 0 to {MOST_HOURS:.0f}")


def _number(field: str, value: Any, most: float, allowed: str) -> float:
    number = math.nan
    if value is not None and not isinstance(value, bool | str | bytes):
        with suppress(TypeError, ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number) or number < 0 or number > most:
        raise InvalidValue(f"{field}: found {value!r}; allowed: {allowed}")
    return number
