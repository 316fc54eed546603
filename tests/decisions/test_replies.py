"""What people answered: consent and contacts follow the events that say so, once, whoever learns of it when."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from headwater.clock import FixedClock
from headwater.decisions import replies, send
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.settings import BudgetSettings, DecisionSettings
from headwater.live.landing import Landing
from headwater.records.logged import Record

NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
AT = datetime(2026, 3, 2, 13)  # noqa: DTZ001
SETTINGS = DecisionSettings(
    holdout_share=0, budgets=[BudgetSettings(name="b", amount=9, cost_per_contact={"email": 1})]
)


@pytest.fixture
def sent(shop):
    """Two customers who were decided about and contacted at noon."""
    shop.fill([Customer(f"c{i}", "high_value_lapse_risk", True, True, True, True) for i in range(2)])
    decide_batch(shop.warehouse, SETTINGS, NOON, "r")
    shop.warehouse.execute(
        "create temp table operations as select 'op-' || customer_id as operation_id, decision_id from headwater.decision_log"
    )
    send.release(shop.warehouse, NOON, "operations")
    return shop.warehouse


def tell(warehouse, *events, at=AT, start=1):
    """Land events (name, user id or None, anonymous id or None, properties)."""
    records = []
    for number, (name, user, anonymous, properties) in enumerate(events, start):
        said = {
            "type": "track", "event": name, "userId": user, "anonymousId": anonymous, "properties": properties,
            "timestamp": f"{at.isoformat()}Z",
        }  # fmt: skip
        records.append(
            Record(number, "events", "crm", "k", f"m{number}", 1_772_456_400_000_000, json.dumps(said).encode())
        )
    with warehouse.transaction():
        return Landing(warehouse).land(records, AT)


def consent(warehouse):
    return warehouse.execute(
        "select customer_id, channel, consented, recorded_at from headwater.consent_state order by all"
    ).fetchall()


def contacts(warehouse):
    return {row[0] for row in warehouse.execute("select customer_id from headwater.contact_ledger").fetchall()}


def used(warehouse):
    return warehouse.value("select sum(amount) from headwater.budget_ledger")


def test_who_unsubscribes_has_no_consent_from_that_moment_on(sent):
    tell(sent, ("email_unsubscribed", "c0", None, {}))
    assert replies.follow(sent, NOON) == replies.Followed(done=1, waiting=0)
    assert consent(sent) == [("c0", "email", False, AT)]
    tell(sent, ("email_resubscribed", "c0", None, {}), at=AT + timedelta(hours=1), start=2)
    replies.follow(sent, NOON)
    assert consent(sent)[1] == ("c0", "email", True, AT + timedelta(hours=1))


def test_following_twice_changes_nothing(sent):
    tell(sent, ("email_unsubscribed", "c0", None, {}), ("email_bounced", "c1", None, {}))
    replies.follow(sent, NOON)
    before = consent(sent), contacts(sent), used(sent)
    assert replies.follow(sent, NOON) == replies.Followed(0, 0)
    sent.execute("delete from headwater.change_cursors where consumer = 'replies'")
    replies.follow(sent, NOON)
    assert (consent(sent), contacts(sent), used(sent)) == before


def test_a_bounce_gives_the_contact_and_what_it_cost_back(sent):
    assert used(sent) == 2
    tell(sent, ("email_bounced", "c0", None, {}))
    replies.follow(sent, NOON)
    assert contacts(sent) == {"c1"}
    assert used(sent) == 1
    assert consent(sent) == []


def test_nobody_reads_at_an_address_that_bounces_for_good(sent):
    tell(sent, ("email_bounced", "c0", None, {"hard": True}))
    replies.follow(sent, NOON)
    assert consent(sent) == [("c0", "email", False, AT)]


def test_a_bounce_of_long_after_is_not_of_that_contact(sent):
    tell(sent, ("email_bounced", "c0", None, {}), at=AT + timedelta(days=8))
    replies.follow(sent, NOON)
    assert contacts(sent) == {"c0", "c1"}


def test_what_a_tool_sends_by_itself_is_a_contact_and_what_it_sent_for_us_is_not_another(sent):
    tell(sent, ("email_sent", "c0", None, {}), ("email_sent", "c9", None, {}))
    replies.follow(sent, NOON)
    listed = sent.execute("select customer_id from headwater.contact_ledger order by 1").fetchall()
    assert [row[0] for row in listed] == ["c0", "c1", "c9"]


def test_a_reply_waits_until_its_person_is_known(sent):
    tell(sent, ("email_unsubscribed", None, "tool:hubspot:contact:7", {}))
    assert replies.follow(sent, NOON) == replies.Followed(done=0, waiting=1)
    assert consent(sent) == []
    sent.execute(
        "insert into headwater.identities (id_kind, id, person_id, customer_id) values ('anonymous', 'tool:hubspot:contact:7', 'c1', 'c1')"
    )
    assert replies.follow(sent, NOON) == replies.Followed(done=1, waiting=0)
    assert consent(sent) == [("c1", "email", False, AT)]


def test_the_id_that_a_destination_told_says_whose_event_it_is(sent):
    sent.execute(
        "insert into headwater.remote_ids values ('hubspot:contact:7', 'contacts', 'a@b.org', 'c1', current_timestamp)"
    )
    tell(
        sent, ("email_opened", None, "tool:hubspot:contact:7", {}), ("email_opened", None, "tool:hubspot:contact:8", {})
    )
    assert sent.execute("select customer_id from collected.events order by position").fetchall() == [("c1",), (None,)]


def test_events_of_other_names_have_no_effect(sent):
    tell(
        sent,
        ("email_opened", "c0", None, {}),
        ("fax_unsubscribed", "c0", None, {}),
        ("Email Unsubscribed Page", "c0", None, {}),
    )
    assert replies.follow(sent, NOON) == replies.Followed(0, 0)
    assert sent.value("select count(*) from headwater.replies") == 0
