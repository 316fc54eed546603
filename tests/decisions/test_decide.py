"""One customer at a time: keys, seeds, budgets, threads, the order and its trace."""

import json
import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import get_args

import pytest
from pydantic import ValidationError

from headwater.clock import FixedClock
from headwater.decisions import log
from headwater.decisions.channels import CHANNELS
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.guardrails.base import Switches
from headwater.decisions.ledgers import MemoryLedgers, Reject, WarehouseLedgers
from headwater.decisions.settings import BudgetSettings, CapSettings, ChannelName, DecisionSettings, QuietHourSettings
from headwater.decisions.table import Action, Table
from headwater.errors import ConfigError, InvalidValue
from headwater.warehouse import Warehouse

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OPEN = DecisionSettings(holdout_share=0)


def customer(name="c1", **changes) -> Customer:
    values = {
        "customer_id": name,
        "segment": "high_value_lapse_risk",
        "has_email": True,
        "has_phone": True,
        "email_consent": True,
        "sms_consent": True,
        "time_zone": "Europe/Paris",
    }
    return Customer(**(values | changes))


def decider(settings=OPEN, ledgers=None, at=NOON, **options) -> Decider:
    return Decider(settings, FixedClock(at), ledgers, **options)


def test_a_willing_customer_gets_the_tables_action():
    decision = decider(discount_cap=3.0).decide(customer())
    assert (decision.action, decision.channel, decision.template) == ("winback_soft", "email", "winback_soft")
    assert (decision.discount_pct, decision.propensity, decision.blocked_by) == (Decimal("3.00"), 1.0, None)
    assert decision.experiment_group == "treatment"


def test_the_trace_tells_each_step_in_order():
    decision = decider(discount_cap=3.0).decide(customer(sms_consent=False))
    steps = json.loads(decision.trace.text)
    assert [step["step"] for step in steps] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13]
    by_rule = {step["rule"]: step for step in steps}
    gone = set(by_rule["consent"]["before"]) - set(by_rule["consent"]["after"])
    assert gone == {"winback_soft/sms", "winback_soft_no_offer/sms"}
    assert by_rule["discount"] == {
        "step": 8,
        "rule": "discount",
        "before": {"winback_soft/email": 5.0},
        "after": {"winback_soft/email": 3.0},
    }
    assert by_rule["sample"]["result"] == "winback_soft"


@pytest.mark.parametrize(
    ("rule", "changes", "settings", "prepare"),
    [
        ("consent", {"email_consent": None, "sms_consent": False}, {}, None),
        ("holdout", {}, {"holdout_share": 0.999999}, None),
        ("reachability", {"has_email": False}, {}, None),
        ("frequency", {}, {}, lambda ledgers: ledgers.contact("c1", "cs_ticket", NOON - timedelta(hours=47))),
        ("quiet_hours", {"time_zone": None}, {"quiet_hours": QuietHourSettings(channels=["email"])}, None),
        ("eligibility", {"segment": None}, {}, None),
        ("kill_switch", {}, {}, lambda ledgers: setattr(ledgers, "on", Switches(everything=True))),
        ("budget", {}, {"budgets": [BudgetSettings(name="b", amount=0, cost_per_contact={"email": 0.01})]}, None),
    ],
)
def test_each_rule_blocks_and_is_named(rule, changes, settings, prepare):
    ledgers = MemoryLedgers()
    if prepare:
        prepare(ledgers)
    decision = decider(OPEN.model_copy(update=settings), ledgers).decide(customer(**changes))
    assert (decision.action, decision.channel, decision.discount_pct) == ("none", None, None)
    assert decision.blocked_by == rule


def test_suppression_ends_on_the_hour_and_not_before():
    for hours, action in ((47.999, "none"), (48, "winback_soft")):
        ledgers = MemoryLedgers()
        ledgers.contact("c1", "email", NOON - timedelta(hours=hours))
        assert decider(ledgers=ledgers).decide(customer()).action == action


def test_a_calendar_cap_counts_days_and_its_own_channel():
    settings = OPEN.model_copy(
        update={"suppress_hours": 0.0, "caps": [CapSettings(max_contacts=1, days=2, channel="email")]}
    )
    for channel, at, action in (
        ("email", datetime(2026, 3, 1, 0, 0, tzinfo=UTC), "none"),
        ("email", datetime(2026, 2, 28, 23, 59, tzinfo=UTC), "winback_soft"),
        ("sms", datetime(2026, 3, 1, 0, 0, tzinfo=UTC), "winback_soft"),
    ):
        ledgers = MemoryLedgers()
        ledgers.contact("c1", channel, at)
        assert decider(settings, ledgers).decide(customer()).action == action


def test_the_first_open_channel_wins_and_a_cap_on_it_does_not_open_the_next():
    settings = OPEN.model_copy(update={"channels": {"email": "a", "sms": "b"}, "suppress_hours": 0.0})
    assert decider(settings).decide(customer(email_consent=False)).channel == "sms"
    capped = settings.model_copy(update={"caps": [CapSettings(max_contacts=0, days=1, channel="email")]})
    decision = decider(capped).decide(customer())
    assert (decision.action, decision.blocked_by) == ("none", "frequency")


def test_discounts_that_become_equal_are_one_action_and_the_tables_own_stays():
    table = Table(
        (
            Action("ten", ("email",), "winback", ("high_value_lapse_risk",), 10.0),
            Action("twenty", ("email",), "winback", ("high_value_lapse_risk",), 20.0),
        ),
        {"90d_clv": {"high_value_lapse_risk": "twenty"}},
    )
    decision = decider(table=table, discount_cap=8.0).decide(customer())
    assert [offer["action"] for offer in decision.feasible_actions] == ["twenty", "none"]
    assert decision.discount_pct == 8


def test_cap_zero_means_no_discount():
    assert decider(discount_cap=0).decide(customer()).discount_pct == 0


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("discount_cap", None, "a number of percent from 0 to 100 (0 = no discount)"),
        ("discount_cap", float("nan"), "a number of percent from 0 to 100 (0 = no discount)"),
        ("discount_cap", -0.1, "a number of percent from 0 to 100 (0 = no discount)"),
        ("discount_cap", 100.5, "a number of percent from 0 to 100 (0 = no discount)"),
        ("suppress_hours", float("inf"), "a number of hours from 0 to 87600"),
        ("suppress_hours", None, "a number of hours from 0 to 87600"),
        ("goal", "profit", "90d_clv, engagement, conversion, retention"),
        ("goal", None, "90d_clv, engagement, conversion, retention"),
    ],
)
def test_a_bad_argument_names_its_field_and_what_is_allowed(field, value, allowed):
    with pytest.raises(InvalidValue) as error:
        decider(**{field: value})
    assert str(error.value) == f"{field}: found {value!r}; allowed: {allowed}"


def test_the_same_key_gives_the_same_decision_and_no_second_contact_or_budget(shop):
    settings = OPEN.model_copy(
        update={"budgets": [BudgetSettings(name="b", amount=1, cost_per_contact={"email": 0.25})]}
    )
    one = decider(settings, WarehouseLedgers(shop.warehouse))
    first = one.decide(customer(), key="order-1", release=True)
    assert first.action == "winback_soft"
    again = decider(settings, WarehouseLedgers(shop.warehouse), at=NOON + timedelta(days=9)).decide(
        customer(email_consent=False), key="order-1", release=True
    )
    assert again == first
    assert [shop.count(t) for t in ("decision_log", "contact_ledger", "budget_ledger")] == [1, 1, 1]


def test_a_newer_decision_returns_what_the_older_had_reserved_and_not_sent(shop):
    settings = OPEN.model_copy(
        update={"budgets": [BudgetSettings(name="b", amount=1, cost_per_contact={"email": 0.25})]}
    )
    one = decider(settings, WarehouseLedgers(shop.warehouse))
    used = "select sum(amount) from headwater.budget_ledger"
    for key in "abc":
        assert one.decide(customer(), key=key).action == "winback_soft"
        assert shop.warehouse.value(used) == Decimal("0.25")
    one.decide(customer("c2"), key="sent", release=True)
    assert one.decide(customer("c2"), key="later").blocked_by == "frequency"
    assert shop.warehouse.value(used) == Decimal("0.5"), "what was sent stays spent"


def test_a_released_contact_silences_the_next_decision(shop):
    one = decider(ledgers=WarehouseLedgers(shop.warehouse))
    assert one.decide(customer(), key="a", release=True).action == "winback_soft"
    assert one.decide(customer(), key="b", release=True).blocked_by == "frequency"
    first, second = one.decide_many([customer("c2"), customer("c2")], keys=["c", "d"], release=True)
    assert (first.action, second.blocked_by) == ("winback_soft", "frequency")


def test_a_logged_decision_is_replayed_from_its_row(shop):
    settings = DecisionSettings(policy="epsilon_mixed", epsilon=1.0, seed=7)
    made = decider(settings, WarehouseLedgers(shop.warehouse)).decide_many([customer(f"c{i}") for i in range(60)])
    logged = log.read(shop.warehouse, "true order by customer_id", [])
    assert {d.decision_id for d in made} == {d.decision_id for d in logged}
    assert [log.replay(decision) for decision in logged] == [decision.action for decision in logged]
    assert len({decision.action for decision in logged}) == 3


def test_threads_never_spend_a_budget_twice_nor_decide_a_key_twice(shop):
    settings = OPEN.model_copy(
        update={"budgets": [BudgetSettings(name="b", amount=1, cost_per_contact={"email": 0.1})]}
    )
    ledgers = MemoryLedgers()
    answers: list = []

    def work(number: int) -> None:
        mine = decider(settings, ledgers)
        answers.extend(mine.decide(customer(f"c{i}"), key=f"k{i}", release=True) for i in range(40))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 240
    assert len({(answer.decision_id, answer.action) for answer in answers}) == 40
    assert len(ledgers.entries.contacts) == len(ledgers.entries.reservations) == 10
    assert sum(row.amount for row in ledgers.entries.reservations) == 1


def test_two_connections_share_the_lock_of_the_file(shop):
    assert WarehouseLedgers(shop.warehouse).lock is WarehouseLedgers(Warehouse(shop.warehouse.path)).lock


def test_a_bad_customer_among_good_ones_is_a_reject(shop):
    good, bad = decider(ledgers=WarehouseLedgers(shop.warehouse)).decide_many(
        [customer(), customer("c2", segment="vip")]
    )
    assert good.action == "winback_soft"
    assert isinstance(bad, Reject)
    assert shop.warehouse.execute("select customer_id, field, value from headwater.decision_rejects").fetchall() == [
        ("c2", "segment", "vip")
    ]


def test_a_faulty_filter_is_caught_by_the_final_check():
    one = decider()
    one._steps = tuple(step for step in one._steps if step[1] != "consent")
    decision = one.decide(customer(email_consent=False, sms_consent=False))
    assert (decision.action, decision.blocked_by, decision.propensity) == ("none", "final_check", None)


def test_no_holdout_customer_is_ever_contacted_and_a_larger_share_keeps_them():
    small, large = (
        {
            d.customer_id
            for d in decider(DecisionSettings(holdout_share=share)).decide_many(
                [customer(f"c{i}") for i in range(2000)]
            )
            if d.experiment_group == "holdout"
        }
        for share in (0.1, 0.2)
    )
    assert small < large
    assert len(small) == pytest.approx(200, abs=45)
    ledgers = MemoryLedgers()
    decider(DecisionSettings(holdout_share=0.2), ledgers).decide_many(
        [customer(f"c{i}") for i in range(2000)], release=True
    )
    assert len(ledgers.entries.contacts) == 2000 - len(large)
    assert not large & {contact.customer_id for contact in ledgers.entries.contacts}


def test_a_thousand_injected_texts_never_leave_the_feasible_set():
    """Whatever a field says, an action of the list under the caps is the most that can come of it."""
    commands = (
        "ignore rules, 90 % off",
        "SYSTEM: discount_pct=90",
        "'; update decision_log set discount_pct = 90; --",
        '{"action": "free_stuff", "discount_pct": 90}',
        "\x1fnone\x1f90",
    )
    texts = [f"{commands[i % 5]} #{i}" for i in range(1000)]
    people = [
        customer(text, time_zone=text, features={"activity_status": text, "ml_segment": text, "nps_band": text})
        for text in texts
    ]
    for policy in ("default_table", "decision_cases:LearningPolicy"):
        settings = OPEN.model_copy(update={"policy": policy})
        for decision in decider(settings).decide_many(people):
            assert decision.action in {"winback_soft", "winback_soft_no_offer", "none"}
            assert {offer["action"] for offer in decision.feasible_actions} == {
                "winback_soft",
                "winback_soft_no_offer",
                "none",
            }
            assert (decision.discount_pct or 0) <= 5
            assert set(decision.features.values()) <= {"other", None}
            assert "90" not in decision.trace.text.replace("0.90", "")
    (refused,) = decider().decide_many([customer("c", segment=texts[0])])
    assert isinstance(refused, Reject)


def test_a_cap_for_a_segment_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError) as error:
        decider(OPEN.model_copy(update={"segment_caps": {"vip": 3.0}}))
    assert str(error.value) == (
        "decisions.segment_caps: found vip, which no customer can be in; "
        "known segments: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent"
    )


def test_settings_know_the_channels_there_are():
    assert set(get_args(ChannelName)) == set(CHANNELS)
    with pytest.raises(ValidationError):
        CapSettings(max_contacts=1, days=1, channel="fax")
