"""Step 1."""

from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql
from headwater.decisions.hashing import text_sql


class KillSwitch(Guardrail):
    """A kill switch is on: for everything, for this channel, or for this campaign.

    A switch that cannot be read or understood counts as on for everything (see `ledgers.read_switches`).
    """

    name = "kill_switch"
    step = 1

    def check(self, case: Case, option: Option) -> Option | None:
        switches = case.now.switches
        if switches.everything or option.channel in switches.channels or option.action.campaign in switches.campaigns:
            return None
        return option

    def sql(self, now: Now) -> RuleSql:
        switches = now.switches
        if switches.everything:
            return RuleSql(blocked="true")
        parts = [f"o.channel = {text_sql(name)}" for name in sorted(switches.channels)]
        parts += [f"o.campaign = {text_sql(name)}" for name in sorted(switches.campaigns)]
        return RuleSql(blocked=" or ".join(parts) or "false")
