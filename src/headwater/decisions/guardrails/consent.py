"""Step 2."""

from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql
from headwater.decisions.hashing import text_sql

ALL = "all"


class Consent(Guardrail):
    """The person has not agreed to be contacted by this channel; no answer counts as no.

    The newest word in `consent_state` for the channel (or for `all`) goes before what the shop's own data say.
    """

    name = "consent"
    step = 2

    def check(self, case: Case, option: Option) -> Option | None:
        said = case.history.said.get(option.channel)
        agreed = case.customer.flag(CHANNELS[option.channel].consent) if said is None else said
        return option if agreed else None

    def sql(self, now: Now) -> RuleSql:
        facts, newest = {}, []
        for name in self.setup.table.channels:
            source = " or ".join(f"coalesce(c.{column}, false)" for column in CHANNELS[name].consent) or "false"
            facts[f"consent_{name}"] = f"coalesce(said.{name}, {source})"
            newest.append(f"{NEWEST.format(channel=text_sql(name))} as {name}")
        join = f"""left join (select customer_id, {", ".join(newest)} from headwater.consent_state group by customer_id) as said
            on said.customer_id = c.customer_id"""
        agreed = " or ".join(f"(o.channel = {text_sql(n)} and s.consent_{n})" for n in self.setup.table.channels)
        return RuleSql(blocked=f"not ({agreed or 'false'})", facts=facts, joins=(join,))


NEWEST = (
    "arg_max(coalesce(consented, false), (coalesce(recorded_at, timestamp '9999-12-31'), not coalesce(consented, false)))"
    " filter (where channel in ({channel}, 'all'))"
)
"""The newest word for a channel or for all; of two at the same moment, no; without a moment it counts as the newest."""
