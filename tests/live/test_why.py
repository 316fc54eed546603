"""The chain of one customer, from tables that the engine, the build and the delivery have left."""

import json
from datetime import timedelta

import pytest
from live_shop import Live, call

from headwater.identity.settings import IdentitySettings
from headwater.live import memberships, persons
from headwater.live.why import STAGES, Chain, why
from headwater.warehouse import Warehouse


@pytest.fixture
def told(live: Live) -> Live:
    """L1: a visitor on two browsers, known by an address and a login; a third browser that was another customer's first."""
    live.settle()
    live.push(minutes=1)
    live.step(
        live.track("Demo Requested", anonymous="phone", ago=50),
        live.track("Demo Requested", anonymous="phone", ago=40),
        call("identify", 91, live.now - timedelta(seconds=30), anonymousId="phone", traits={"email": "l1@example.org"}),
        call(
            "identify",
            92,
            live.now - timedelta(seconds=20),
            userId="L1",
            anonymousId="laptop",
            traits={"email": "L1@example.org", "nps": 3},
        ),
        live.track("Page Viewed", "L9", "kiosk", ago=10),
        live.track("Newsletter Subscribed", "L1", "kiosk", ago=5),
    )
    memberships.follow(live.warehouse, live.now)
    return live


def sentences(chain: Chain, stage) -> list[str]:
    return [step.sentence for step in chain.of(stage)]


@pytest.mark.parametrize("asked", ["L1", "phone", "laptop", "l1@example.org", " L1@Example.org"])
def test_the_same_person_by_any_id(told, asked):
    chain = why(told.warehouse, asked)
    assert (chain.person_id, chain.customer_ids) == ("L1", ("L1",))


def test_events_are_counted_and_the_newest_told(told):
    chain = why(told.warehouse, "L1", events=1)
    assert sentences(chain, "events") == [
        "demo_requested 2 times",
        "newsletter_subscribed once",
        "newsletter_subscribed by visitor kiosk",
    ]


def test_links_say_why_they_hold_and_why_one_does_not(told):
    assert sentences(why(told.warehouse, "L1"), "identity") == [
        "address l1@example.org is visitor phone, because an identify call stated the address",
        "visitor laptop is customer L1, because an identify call carried both ids",
        "address l1@example.org is customer L1, because an identify call stated the address",
        "visitor kiosk is not customer L1, although an event carried both ids: both sides have a user id already, and only an alias "
        "call makes two of them one person",
    ]


def test_the_points_behind_a_score(told):
    told_models = sentences(why(told.warehouse, "L1"), "models")
    assert [sentence for sentence in told_models if sentence.startswith("user_")] == [
        "user_mql_events: 30 points for demo_requested (2 times, counted once)",
        "user_mql_events: 10 points for newsletter_subscribed (once)",
        "user_mql_score: 40 points from 2 different events",
        "user_alerts: a qualified lead with 40 points",
    ]


def test_a_segment_is_given_with_its_numbers(told):
    assert sentences(why(told.warehouse, "L1"), "segments")[-1] == (
        "in churn_rescue_nps: NPS 3, revenue of 90 days 0.00, 3 events in 30 days, last seen 2026-06-30, 0 days ago; "
        "new_users_first_week_intent fits too"
    )


def test_decisions_and_deliveries(told):
    w = told.warehouse
    trace = [{"step": 2, "rule": "consent", "before": ["call/phone", "mail/email"], "after": ["mail/email"]}]
    w.execute("insert into headwater.decision_traces values ('t1', ?)", [json.dumps(trace)])
    w.execute(
        "insert into headwater.decision_log (decision_id, decided_at, customer_id, action, channel, discount_pct, trace_id, blocked_by) values "
        "('d1', '2026-06-29', 'L1', 'none', null, null, 't1', 'holdout'), ('d2', '2026-06-30', 'L1', 'mail', 'email', 10, 't1', null)"
    )
    w.execute(
        "insert into headwater.outbox (operation_id, sync, key, operation, state, reason, customer_id, updated_at) values "
        "('o1', 'leads', 'L1', 'create', 'failed', 'DUPLICATE_VALUE: another lead', 'L1', '2026-06-30')"
    )
    chain = why(w, "L1", decisions=2)
    assert sentences(chain, "decisions") == [
        "nothing, because holdout stood in the way (consent took call/phone)",
        "mail by email with 10% off (consent took call/phone)",
    ]
    assert sentences(chain, "deliveries") == ["leads: create of L1 refused: DUPLICATE_VALUE: another lead"]
    assert [step.stage for step in chain.steps] == sorted((step.stage for step in chain.steps), key=STAGES.index)


def test_an_undone_link_says_who_undid_it(told):
    (link_id,) = told.rows("select link_id from headwater.identity_links where right_id = 'phone'")[0]
    with told.warehouse.transaction():
        persons.undo(told.warehouse, link_id, "typed wrong", told.now, IdentitySettings())
    assert (
        "address l1@example.org is not visitor phone: undone on 2026-06-30 because typed wrong (an identify call stated the address)"
        in sentences(why(told.warehouse, "L1"), "identity")
    )


def test_a_project_that_has_built_nothing_has_nothing_to_tell():
    with Warehouse(":memory:") as warehouse:
        assert why(warehouse, "C1") == Chain("C1", None, ("C1",), (), ())
