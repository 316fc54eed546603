"""Where the time of day comes from. Everything that needs "now" is handed a `Clock`; nobody calls `datetime.now`.

All times are UTC and, in Python, timezone-aware; in the warehouse they are TIMESTAMP without zone and mean UTC.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

CLOCK_FILE = "HEADWATER_CLOCK_FILE"
"""Environment variable of tests: the file whose content is the time, for every process that is told of it."""


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


class FileClock:
    """A clock that stands still at the moment written in a file, until somebody writes another; for tests only.

    Several processes that read one file live at one moment. Raises ValueError, naming the file, when it holds no moment.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def now(self) -> datetime:
        text = self.path.read_text(encoding="utf-8").strip()
        try:
            moment = datetime.fromisoformat(text)
        except ValueError as error:
            raise ValueError(
                f"{self.path}: found {text!r}; expected a moment like 2026-01-31T00:00:00+00:00"
            ) from error
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)

    def set(self, moment: datetime) -> None:
        """Make it `moment`, for all readers at once."""
        aside = self.path.with_name(f"{self.path.name}.{os.getpid()}")
        aside.write_text(moment.isoformat(), encoding="utf-8")
        aside.replace(self.path)

    def push(self, by: timedelta) -> None:
        """Move forward. A negative `by` is an error, as with every clock."""
        if by < timedelta(0):
            raise ValueError(f"a clock cannot be pushed back (by {by}); set it instead")
        self.set(self.now() + by)


def from_environment() -> Clock:
    """The machine's clock, or the file's that `HEADWATER_CLOCK_FILE` names."""
    path = os.environ.get(CLOCK_FILE)
    return FileClock(Path(path)) if path else SystemClock()


def naive_utc(moment: datetime) -> datetime:
    """The same moment as the warehouse stores it: UTC without zone. Naive input is taken to be UTC already."""
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
