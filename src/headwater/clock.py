"""Where the time of day comes from. Everything that needs "now" is handed a `Clock`; nobody calls `datetime.now`.

All times are UTC and, in Python, timezone-aware; in the warehouse they are TIMESTAMP without zone and mean UTC.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Tells the current moment."""

    def now(self) -> datetime:
        """The current moment, aware, in UTC."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)


@dataclass
class FixedClock:
    """A clock that stands still until it is pushed; for tests and for replaying a run."""

    at: datetime

    def now(self) -> datetime:
        return self.at

    def push(self, by: timedelta) -> None:
        """Move forward. A negative `by` is an error: time in Headwater is monotone."""
        if by < timedelta(0):
            raise ValueError(f"a clock cannot be pushed back (by {by}); make a new FixedClock instead")
        self.at += by


def naive_utc(moment: datetime) -> datetime:
    """The same moment as the warehouse stores it: UTC without zone. Naive input is taken to be UTC already."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
