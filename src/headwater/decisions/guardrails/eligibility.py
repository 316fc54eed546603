"""Step 7."""

from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql


class Eligibility(Guardrail):
    """The action makes no sense for this person: it is not meant for their segment, or they are in none.

    This is about sense, never about likelihood: "will not respond" is for a policy to weigh, not for a rule.
    """

    name = "eligibility"
    step = 7

    def check(self, case: Case, option: Option) -> Option | None:
        return option if case.customer.segment in option.action.segments else None

    def sql(self, now: Now) -> RuleSql:
        return RuleSql(blocked="not coalesce(list_contains(o.segments, s.segment), false)")
