from datetime import UTC, datetime

import pytest

from headwater.clock import FixedClock
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.explain import explain
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import InvalidValue

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
AS_OF = datetime(2026, 3, 1)  # noqa: DTZ001
SETTINGS = DecisionSettings(discount_cap=3, holdout_share=0)


def told(shop, customer, settings=SETTINGS):
    return explain(shop.warehouse, settings, NOON, customer, table=DEFAULT, as_of=AS_OF)


@pytest.fixture
def filled(shop):
    shop.fill(
        [
            Customer("yes", "high_value_lapse_risk", True, False, True, False, features={"nps_band": "promoter"}),
            Customer("no", "high_value_lapse_risk", True, True, False, False),
            Customer("other", None, True, True, True, True),
        ]
    )
    return shop


def test_every_step_says_what_it_found_and_what_it_left(filled):
    found = told(filled, "yes")
    assert found.message == (
        "winback_soft by email, 3% off for yes, if it were decided now: the policy default_table is sure of it"
    )
    steps = {step.rule: step.text for step in found.steps}
    assert steps["consent"] == (
        "2 of 7 ways fall away (winback_soft/sms, winback_soft_no_offer/sms): "
        "The person has not agreed to be contacted by this channel; no answer counts as no."
    )
    consent = next(step for step in found.as_json()["steps"] if step["rule"] == "consent")
    assert set(consent["before"]) - set(consent["after"]) == {"winback_soft/sms", "winback_soft_no_offer/sms"}
    assert steps["discount"].startswith("winback_soft/email 5% → winback_soft/email 3%: The discount was cut")
    assert steps["policy"] == "default_table: winback_soft 100.0%, winback_soft_no_offer 0.0%, none 0.0%"
    assert steps["final_check"] == "passed"


def test_nothing_is_written_and_a_standing_decision_is_the_one_that_is_shown(filled):
    told(filled, "yes")
    assert filled.count("decision_log") == filled.count("decision_traces") == 0
    decide_batch(filled.warehouse, SETTINGS, NOON, "r")
    found = told(filled, "yes")
    assert found.logged_at == datetime(2026, 3, 2, 12)  # noqa: DTZ001
    assert found.as_json()["decision_id"] == filled.warehouse.value(
        "select decision_id from headwater.decision_log where customer_id = 'yes'"
    )
    assert filled.count("decision_log") == 3


def test_nothing_has_a_reason_too(filled):
    assert told(filled, "no").message == (
        "nothing for no, if it were decided now: consent. "
        "The person has not agreed to be contacted by this channel; no answer counts as no."
    )
    assert "eligibility" in told(filled, "other").message


def test_a_draw_says_how_likely_it_was(filled):
    found = told(filled, "yes", SETTINGS.changed(policy="epsilon_mixed", epsilon=1.0))
    assert "drawn with 33.3% of 3 feasible by the policy epsilon_mixed 1:epsilon=1" in found.message
    drawn = list(found.decision.probabilities)[int(found.u * 3)]
    assert drawn == found.decision.action


def test_an_unknown_customer_is_named(filled):
    with pytest.raises(
        InvalidValue, match=r"customer: found 'nobody', which stands in 0 rows of main.int_decision_candidates"
    ):
        told(filled, "nobody")
