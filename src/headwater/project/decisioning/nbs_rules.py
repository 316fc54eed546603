"""This shop's actions and default table: what to do for each goal and segment before anything has been learned.

Change it as you like; `headwater run`, `headwater decide` and `next_best_action` below all read TABLE from this file, and
without the file Headwater's own default (the same as here) holds. What no table can do is pass a guardrail: consent, holdout,
caps and the rest are checked after it.

    from decisioning.nbs_rules import next_best_action
    next_best_action(segment="high_value_lapse_risk", goal="90d_clv", discount_cap=5.0, suppress_hours=24)
    # {"channel": "email", "template": "winback_soft", "discount_pct": 5.0}
"""

from headwater.decisions import Action, Table

ACTIONS = (
    # id, channels in order of preference, template, segments it makes sense for, offer in percent
    Action("winback_soft", ("email", "sms"), "winback_soft", ("high_value_lapse_risk",), 5.0),
    Action("winback_soft_no_offer", ("email", "sms"), "winback_soft", ("high_value_lapse_risk",)),
    Action("onboarding_tips", ("email",), "onboarding_tips", ("new_users_first_week_intent",)),
    Action("nps_followup_then_offer", ("cs_ticket",), "nps_followup_then_offer", ("churn_rescue_nps",), 10.0),
    Action("nps_followup_no_offer", ("cs_ticket",), "nps_followup_then_offer", ("churn_rescue_nps",)),
)

WITH_OFFER = {
    "high_value_lapse_risk": "winback_soft",
    "new_users_first_week_intent": "onboarding_tips",
    "churn_rescue_nps": "nps_followup_then_offer",
}
WITHOUT_OFFER = {
    "high_value_lapse_risk": "winback_soft_no_offer",
    "new_users_first_week_intent": "onboarding_tips",
    "churn_rescue_nps": "nps_followup_no_offer",
}

TABLE = Table(
    actions=ACTIONS,
    rows={
        "90d_clv": WITH_OFFER,
        "conversion": WITH_OFFER,
        "retention": WITH_OFFER,
        "engagement": WITHOUT_OFFER,  # a discount buys orders, not opens
    },
)

next_best_action = TABLE.next_best_action
