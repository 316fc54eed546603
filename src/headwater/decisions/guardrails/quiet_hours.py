"""Step 6."""

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql, Setup
from headwater.decisions.hashing import text_sql


class QuietHours(Guardrail):
    """It is night where the person lives, or nobody knows where that is.

    Local hours from `start_hour` until `end_hour` are quiet, across midnight when start is later than end; equal hours mean no
    quiet hours. A missing or unknown zone takes the strictest window: quiet as long as it is quiet anywhere on earth.
    Only for the channels that the setting names.
    """

    name = "quiet_hours"
    step = 6
    momentary = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        quiet = setup.settings.quiet_hours
        self._window = (quiet.start_hour, quiet.end_hour)
        self._channels = frozenset(quiet.channels)

    def check(self, case: Case, option: Option) -> Option | None:
        if option.channel not in self._channels:
            return option
        return None if is_quiet(case.customer.time_zone, case.now.moment, *self._window) else option

    def sql(self, now: Now) -> RuleSql:
        channels = [name for name in self.setup.table.channels if name in self._channels]
        if not channels:
            return RuleSql(blocked="false")
        loud = [zone for zone in sorted(zones()) if not is_quiet(zone, now.moment, *self._window)]
        anywhere = "true" if is_quiet(None, now.moment, *self._window) else "false"
        known = f"c.time_zone in ({', '.join(text_sql(zone) for zone in loud)})" if loud else "false"
        fact = f"(not coalesce({known}, false)) and {anywhere}"
        blocked = f"s.quiet and o.channel in ({', '.join(text_sql(name) for name in channels)})"
        return RuleSql(blocked=blocked, facts={"quiet": fact})


@lru_cache(maxsize=1)
def zones() -> frozenset[str]:
    """Every zone name that this machine knows; Python and SQL both judge by this list."""
    return frozenset(available_timezones())


@lru_cache(maxsize=4096)
def is_quiet(zone: str | None, moment: datetime, start_hour: int, end_hour: int) -> bool:
    """Whether the local hour of `moment` (naive UTC) is in [start, end) in the zone; in any zone on earth when unknown."""
    if zone is not None and zone in zones():
        return _within(moment.replace(tzinfo=UTC).astimezone(ZoneInfo(zone)).hour, start_hour, end_hour)
    offsets = (timedelta(minutes=15 * step) for step in range(-12 * 4, 14 * 4 + 1))
    return any(_within((moment + offset).hour, start_hour, end_hour) for offset in offsets)


def _within(hour: int, start: int, end: int) -> bool:
    return start <= hour < end if start <= end else hour >= start or hour < end
