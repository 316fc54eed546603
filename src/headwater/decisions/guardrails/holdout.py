"""Step 3."""

from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql
from headwater.decisions.hashing import text_sql, unit_sql
from headwater.decisions.settings import DecisionSettings


class Holdout(Guardrail):
    """The person is in the holdout: never contacted, so that the effect of everything else can be measured.

    Drawn by a hash of customer and salt, so it is the same at every run and on every machine, and a larger share keeps
    everyone who was in the smaller one.
    """

    name = "holdout"
    step = 3

    def check(self, case: Case, option: Option) -> Option | None:
        return None if case.in_holdout else option

    def sql(self, now: Now) -> RuleSql:
        return RuleSql(blocked="s.in_holdout", facts={"in_holdout": in_holdout_sql(self.setup.settings)})


def in_holdout_sql(settings: DecisionSettings) -> str:
    """SQL over `c`: whether the customer is in the holdout."""
    return f"{unit_sql(text_sql('holdout'), text_sql(settings.holdout_salt), 'c.customer_id')} < {settings.holdout_share!r}"


def usual_sql(settings: DecisionSettings) -> str:
    """SQL over `c`: whether the customer, unless held out, is in the group that gets what it always got."""
    drawn = unit_sql(text_sql("usual"), text_sql(settings.holdout_salt), "c.customer_id")
    return f"(not ({in_holdout_sql(settings)}) and {drawn} < {settings.business_as_usual_share!r})"
