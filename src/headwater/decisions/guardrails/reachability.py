"""Step 4."""

from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql
from headwater.decisions.hashing import text_sql


class Reachability(Guardrail):
    """There is no address for this channel, or no sync that carries it.

    After this step an action keeps the first of its channels that is left: its order is the preference, and a later rule
    that closes that channel does not open the next one.
    """

    name = "reachability"
    step = 4

    def check(self, case: Case, option: Option) -> Option | None:
        carried = option.channel in self.setup.settings.channels
        return option if carried and case.customer.flag(CHANNELS[option.channel].reach) else None

    def sql(self, now: Now) -> RuleSql:
        facts = {}
        for name in self.setup.table.channels:
            source = " or ".join(f"coalesce(c.{column}, false)" for column in CHANNELS[name].reach)
            facts[f"reach_{name}"] = (source if name in self.setup.settings.channels else "") or "false"
        open_ = " or ".join(f"(o.channel = {text_sql(n)} and s.reach_{n})" for n in self.setup.table.channels)
        return RuleSql(blocked=f"not ({open_ or 'false'})", facts=facts)
