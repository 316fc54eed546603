"""Step 8."""

import math

from headwater.decisions.guardrails.base import Case, Guardrail, Now, Option, RuleSql, Setup
from headwater.decisions.hashing import text_sql
from headwater.decisions.table import basis_points


class Discount(Guardrail):
    """The discount was cut to the smallest of the offer and the caps; this lowers a discount and never blocks.

    Caps: `discount_cap`, the segment's cap in `segment_caps`, and what the margin leaves above `min_margin_pct` (an unknown
    margin leaves nothing). Percent are cut to hundredths, downward.
    """

    name = "discount"
    step = 8

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        settings = setup.settings
        self._cap = basis_points(settings.discount_cap)
        self._segment_caps = {name: basis_points(cap) for name, cap in settings.segment_caps.items()}
        self._most = max((action.offer for action in setup.table.actions), default=0)
        keep = settings.min_margin_pct
        self._keep = None if keep is None else math.ceil(keep * 100 - ROUNDING)

    def check(self, case: Case, option: Option) -> Option | None:
        discount = min(option.discount, self._cap)
        segment = case.customer.segment
        if segment is not None and segment in self._segment_caps:
            discount = min(discount, self._segment_caps[segment])
        if self._keep is not None:
            margin = case.customer.margin_pct
            discount = min(discount, 0 if margin is None else max(0, math.floor(margin * 100 + ROUNDING) - self._keep))
        return option.with_discount(discount)

    def sql(self, now: Now) -> RuleSql:
        parts = ["o.discount", str(self._cap)]
        facts = {}
        if self._segment_caps:
            cases = " ".join(f"when {text_sql(n)} then {cap}" for n, cap in sorted(self._segment_caps.items()))
            parts.append(f"case s.segment {cases} else o.discount end")
        if self._keep is not None:
            left = f"floor(c.margin_pct::double * 100 + {ROUNDING!r}) - {self._keep}"
            cap = f"greatest(0, least({self._most}, {left}))::integer"
            facts["margin_cap"] = f"case when c.margin_pct is null then 0 else {cap} end"  # least() ignores nulls
            parts.append("s.margin_cap")
        return RuleSql(blocked="false", facts=facts, discount=f"least({', '.join(parts)})")


ROUNDING = 1e-6
"""Basis points: what a double cannot hold exactly is not a reason to lose a hundredth of a percent."""
