"""At the moment of sending: what is held, what is released, and that doing it twice is doing it once."""

from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from headwater.clock import FixedClock
from headwater.decisions import send
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.guardrails import sentences
from headwater.decisions.settings import BudgetSettings, DecisionSettings

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
LATER = datetime(2026, 3, 2, 12, 5)  # noqa: DTZ001
SETTINGS = DecisionSettings(
    holdout_share=0, budgets=[BudgetSettings(name="b", amount=9, cost_per_contact={"email": 1})]
)


@pytest.fixture
def proposed(shop):
    """Four winback decisions, and the relation of the operations that would send them."""
    shop.fill([Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True) for i in range(4)])
    decide_batch(shop.warehouse, SETTINGS, NOON, "r")
    operations(shop)
    return shop


def operations(shop, where="true"):
    shop.warehouse.execute(
        "create or replace temp table operations as select 'op-' || customer_id as operation_id, customer_id as key,"
        f" 'create' as operation, decision_id, customer_id from headwater.decision_log where {where}"
    )


def held(shop, clock=NOON, **options) -> dict[str, str]:
    rows = send.recheck(shop.warehouse, SETTINGS, clock, "operations", **options)
    known = sentences() | send.REASONS
    assert all(sentence == known[rule] for _, rule, sentence in rows)
    return {operation: rule for operation, rule, _ in rows}


def test_what_was_decided_goes_out_and_leaves_one_contact_each(proposed):
    assert held(proposed) == {}
    release = partial(send.release, proposed.warehouse, NOON)
    release("operations")
    contacts = proposed.warehouse.execute("from headwater.contact_ledger order by all").fetchall()
    assert len(contacts) == 4
    assert {(row[2], row[3]) for row in contacts} == {("email", "winback_soft")}
    release("operations")
    assert proposed.warehouse.execute("from headwater.contact_ledger order by all").fetchall() == contacts
    assert held(proposed) == {}, "a decision's own contact does not count against it"


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("kill_switch", lambda shop: shop.switch("channel:email")),
        ("kill_switch", lambda shop: shop.switch("campaign:winback_soft")),
        ("kill_switch", lambda shop: shop.switch("global", None)),
        ("kill_switch", lambda shop: shop.switch("chanel:email")),
        ("kill_switch", lambda shop: shop.switch(None)),
        ("kill_switch", lambda shop: shop.warehouse.execute("drop table headwater.kill_switch")),
        ("consent", lambda shop: [shop.say(f"c{i}", "email", False, LATER) for i in range(4)]),
        ("consent", lambda shop: [shop.say(f"c{i}", "all", False, LATER) for i in range(4)]),
        ("consent", lambda shop: shop.fill([])),
        (
            "reachability",
            lambda shop: shop.warehouse.execute("update main.int_decision_candidates set has_email = false"),
        ),
        ("frequency", lambda shop: [shop.contact(f"c{i}", "sms", LATER) for i in range(4)]),
        (
            "holdout",
            lambda shop: shop.warehouse.execute("update headwater.decision_log set experiment_group = 'holdout'"),
        ),
        ("no_action", lambda shop: shop.warehouse.execute("update headwater.decision_log set action = 'none'")),
        ("unlisted", lambda shop: shop.warehouse.execute("update headwater.decision_log set action = 'free_car'")),
        ("unlisted", lambda shop: shop.warehouse.execute("update headwater.decision_log set channel = 'push'")),
        ("unknown_decision", lambda shop: shop.warehouse.execute("update operations set decision_id = 'made up'")),
    ],
)
def test_what_changed_since_the_decision_holds_it(proposed, rule, change):
    change(proposed)
    assert held(proposed) == {f"op-c{i}": rule for i in range(4)}


def test_a_switch_that_is_off_and_another_channel_hold_nothing(proposed):
    proposed.switch("global", False)
    proposed.switch("channel:sms")
    proposed.say("c1", "sms", False, LATER)
    assert held(proposed) == {}


def test_the_newest_word_wins_over_an_older_one_and_the_source(proposed):
    proposed.say("c1", "email", False, LATER)
    proposed.say("c1", "email", True, LATER + timedelta(seconds=1))
    proposed.say("c2", "all", True, LATER)
    proposed.say("c2", "email", False, LATER)
    assert held(proposed) == {"op-c2": "consent"}


def test_a_superseded_decision_is_held(proposed):
    decide_batch(proposed.warehouse, SETTINGS, NOON, "r2", discount_cap=1.0)
    operations(proposed, "run_id = 'r'")
    assert set(held(proposed).values()) == {"superseded"}
    operations(proposed, "run_id = 'r2'")
    assert held(proposed) == {}


def test_what_certainly_did_not_arrive_is_given_back_and_may_be_released_again(proposed):
    used = "select sum(amount)::integer from headwater.budget_ledger"
    send.release(proposed.warehouse, NOON, "operations")
    assert proposed.warehouse.value(used) == 4
    for _ in range(2):
        for _ in range(2):
            send.give_back(proposed.warehouse, NOON, "operations")
            assert (proposed.warehouse.value(used), proposed.count("contact_ledger")) == (0, 0)
        assert held(proposed) == {}
        for _ in range(2):
            send.release(proposed.warehouse, NOON, "operations")
            assert (proposed.warehouse.value(used), proposed.count("contact_ledger")) == (4, 4)


def test_given_back_and_the_budget_spent_meanwhile_is_held(proposed):
    send.release(proposed.warehouse, NOON, "operations")
    send.give_back(proposed.warehouse, NOON, "operations")
    period = proposed.warehouse.value("select max(period_start) from headwater.budget_ledger")
    proposed.warehouse.execute(
        "insert into headwater.budget_ledger values ('other', 'b', ?, 'other', 9, ?)", [period, LATER]
    )
    assert set(held(proposed).values()) == {"budget"}


def test_it_runs_inside_the_callers_transaction(proposed):
    with pytest.raises(RuntimeError, match="killed"), proposed.warehouse.transaction():
        assert held(proposed) == {}
        send.release(proposed.warehouse, NOON, "operations")
        raise RuntimeError("killed")
    assert proposed.count("contact_ledger") == 0
