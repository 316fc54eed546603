"""Intervals that stay valid however often one looks.

An ordinary 95 % interval is right for one look at one moment that was fixed beforehand. Whoever looks every day and stops at the
first interval that leaves zero out will find an effect where there is none far more often than one time in twenty. The interval
here holds at all sizes at once: an asymptotic confidence sequence (Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas 2021, with the
normal mixture of Robbins). It is about half as wide again as the ordinary one where it is tightest.
"""

from math import log, sqrt

from headwater.errors import InvalidValue

PLANNED = 5_000
"""Number of units at which the interval is tightest, chosen before anybody looked."""


def widening(units: int, level: float = 0.05, planned: int = PLANNED) -> float:
    """By how many standard errors the interval reaches to either side at `units` independent units (an ordinary one: 1.96)."""
    if units < 1 or not 0 < level < 1:
        raise InvalidValue(
            f"found units {units!r} and level {level!r}; allowed: 1 unit or more, a level between 0 and 1"
        )
    rho = (-2 * log(level) + log(-2 * log(level) + 1)) / planned
    grown = units * rho
    return sqrt((grown + 1) / grown * log((grown + 1) / level**2))


def safe_interval(value: float, error: float, units: int, level: float = 0.05) -> tuple[float, float]:
    """(low, high) around an estimate with this standard error, valid at every look."""
    reach = widening(units, level) * error
    return value - reach, value + reach
