"""Every error that Headwater raises on purpose, grouped by what the caller does next.

    HeadwaterError            anything a user can act on; the CLI prints its sentence, never a traceback
    ├── UsageError            the call is wrong: mend the call (exit 2)
    ├── ConfigError           a file of the project is wrong: mend the file (exit 3)
    ├── DataError             the data are wrong: mend or map the data (exit 4)
    ├── Refused               a gate said no; the reason is in the message (exit 5)
    ├── Busy                  somebody else holds the project: wait, or stop them (exit 6)
    ├── LogUnavailable        the log cannot be written or read now: nothing was kept, send again (exit 7)
    │   ├── LogFull           … because there is no room left for it
    │   └── Overloaded        … because too much is waiting for it already
    └── StageFailed           a stage ran and failed: read what it says, run again (exit 1)

A message says what was found, what was expected, and what to do. `next_best_action` and other functional calls
raise `ValueError` (here `InvalidValue`, both a ValueError and a UsageError) naming the field and the allowed values.
"""


class HeadwaterError(Exception):
    """Base of all errors that carry a sentence for the user."""

    exit_code = 1


class UsageError(HeadwaterError):
    """The command or call was wrong."""

    exit_code = 2


class InvalidValue(UsageError, ValueError):
    """One argument has a value that is not allowed; the message names the field and what is allowed."""


class ConfigError(HeadwaterError):
    """A file of the project cannot be used as it stands."""

    exit_code = 3


class DataError(HeadwaterError):
    """The data cannot be used as they stand; nothing was changed."""

    exit_code = 4


class Refused(HeadwaterError):
    """A gate (promotion, stale plan, circuit breaker) refused; the message names the rule and the numbers."""

    exit_code = 5


class Busy(HeadwaterError):
    """Another process holds the project's lock."""

    exit_code = 6


class LogUnavailable(HeadwaterError):
    """The log could not be written or read; nothing of the call was kept."""

    exit_code = 7


class LogFull(LogUnavailable):
    """There is no room left for the log."""


class Overloaded(LogUnavailable):
    """More is waiting to be logged than may wait; nothing of the call was kept, send again in a moment."""


class StageFailed(HeadwaterError):
    """A stage ran and did not succeed."""

    exit_code = 1
