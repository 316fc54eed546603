"""Step 5."""

from datetime import datetime, timedelta

from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql, Setup
from headwater.decisions.hashing import text_sql


class Frequency(Guardrail):
    """The person was contacted too recently, or as often as the period allows.

    Two kinds. `suppress_hours` rolls: any contact on any channel at a moment > now - hours is silence on every channel.
    `caps` count calendar days in UTC, today included: `days: 7` is today and the six days before; a cap with a channel counts
    and closes that channel, one without counts and closes them all. A contact dated in the future counts as made.
    """

    name = "frequency"
    step = 5
    momentary = True

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self.contacts = CONTACTS
        self._silence = timedelta(hours=setup.settings.suppress_hours)
        self._caps = [(cap.max_contacts, timedelta(days=cap.days - 1), cap.channel) for cap in setup.settings.caps]
        none_at_all = [channel for most, _, channel in self._caps if most == 0]
        self._closed = frozenset(CHANNELS if None in none_at_all else none_at_all)

    def check(self, case: Case, option: Option) -> Option | None:
        contacts = case.history.contacts
        if not contacts:
            return None if option.channel in self._closed else option
        moment = case.now.moment
        quiet_since = moment - self._silence
        if any(at > quiet_since for _, at in contacts):
            return None
        for most, days, channel in self._caps:
            if channel is None or channel == option.channel:
                since = midnight(moment) - days
                if sum(at >= since and (channel is None or on == channel) for on, at in contacts) >= most:
                    return None
        return option

    def sql(self, now: Now) -> RuleSql:
        per_channel = {
            name: [f"contacts.newest > {_ts(now.moment - self._silence)}"] for name in self.setup.table.channels
        }
        columns = ["max(contacted_at) as newest"]
        for position, (most, days, channel) in enumerate(self._caps):
            since = _ts(midnight(now.moment) - days)
            only = f" and channel = {text_sql(channel)}" if channel is not None else ""
            columns.append(f"count(*) filter (where contacted_at >= {since}{only}) as cap_{position}")
            for name, conditions in per_channel.items():
                if channel is None or channel == name:
                    conditions.append(f"coalesce(contacts.cap_{position}, 0) >= {most}")
        facts = {f"silent_{name}": f"coalesce({' or '.join(c)}, false)" for name, c in per_channel.items()}
        join = f"""left join (select customer_id, {", ".join(columns)} from {self.contacts}
                where contacted_at > {_ts(now.moment - window(self.setup))} group by customer_id) as contacts
            on contacts.customer_id = c.customer_id"""
        blocked = " or ".join(f"(o.channel = {text_sql(n)} and s.silent_{n})" for n in per_channel)
        return RuleSql(blocked=blocked or "false", facts=facts, joins=(join,))


CONTACTS = "headwater.contact_ledger"
"""Where a batch reads contacts; the re-check at send leaves out those of the decision that is being sent."""


def window(setup: Setup) -> timedelta:
    """How far back a contact may matter."""
    hours = timedelta(hours=setup.settings.suppress_hours)
    days = timedelta(days=max([cap.days for cap in setup.settings.caps], default=0) + 1)
    return max(hours, days)


def midnight(moment: datetime) -> datetime:
    """The start of the moment's day, UTC."""
    return moment.replace(hour=0, minute=0, second=0, microsecond=0)


def _ts(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat(sep=' ')}'"
