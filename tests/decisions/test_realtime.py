"""`POST /decide` over a real socket: the same decision as `headwater decide`, written before it is answered."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest
from decision_cases import Candidates, shops
from hypothesis import HealthCheck, given, settings

from headwater.clock import FixedClock, naive_utc
from headwater.decisions import log
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.ledgers import WarehouseLedgers
from headwater.decisions.realtime.desk import Desk, Question
from headwater.decisions.realtime.present import Present
from headwater.decisions.realtime.remembered import RememberedLedgers
from headwater.decisions.realtime.serve import DecisionServer
from headwater.decisions.realtime.settings import RealtimeSettings
from headwater.decisions.settings import BudgetSettings, DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.errors import ConfigError
from headwater.warehouse import Warehouse

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
KEY = "a key of a decent length"
OPEN = DecisionSettings(holdout_share=0, realtime=RealtimeSettings(port=0))


def until(true: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + 20
    while not (found := true()):
        assert time.monotonic() < end, f"in vain: {what}"
        threading.Event().wait(0.01)
    return found


def customer(name: str = "c1", **changes: Any) -> Customer:
    values = {
        "customer_id": name,
        "segment": "high_value_lapse_risk",
        "has_email": True,
        "has_phone": True,
        "email_consent": True,
        "sms_consent": True,
        "time_zone": "Europe/Paris",
        "features": {"activity_status": "Dormant"},
    }
    return Customer(**(values | changes))


class Asker:
    def __init__(self, server: DecisionServer, said: list[tuple[str, str]]) -> None:
        self.server = server
        self.said = said
        self.client = httpx2.Client(base_url=server.address, headers={"authorization": f"Bearer {KEY}"}, timeout=20)

    def ask(self, customer_id: str = "c1", **more: Any) -> Any:
        return self.client.post("/decide", json={"customer_id": customer_id, **more})

    def decision(self, customer_id: str = "c1", **more: Any) -> dict[str, Any]:
        answer = self.ask(customer_id, **more)
        assert answer.status_code == 200, answer.text
        return answer.json()


@pytest.fixture
def asking(shop: Candidates, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    monkeypatch.setenv("HEADWATER_DECIDE_KEY", KEY)

    @contextmanager
    def made(settings: DecisionSettings = OPEN, *, start: bool = True) -> Iterator[Asker]:
        said: list[tuple[str, str]] = []
        server = DecisionServer(settings, FixedClock(NOON), DEFAULT, lambda *words: said.append(words))
        asker = Asker(server, said)
        try:
            if start:
                server.start(shop.warehouse)
            yield asker
        finally:
            asker.client.close()
            server.close()

    return made


def test_the_answer_tells_the_decision_and_it_is_in_the_log(shop, asking):
    shop.fill([customer()])
    with asking() as web:
        answer = web.decision(key="page-view-1", goal="90d_clv")
    assert (answer["action"], answer["channel"], answer["template"]) == ("winback_soft", "email", "winback_soft")
    assert (answer["discount_pct"], answer["blocked_by"], answer["released"]) == (5.0, None, False)
    assert [step["step"] for step in answer["trace"]] == list(range(14))
    (row,) = log.read(shop.warehouse, "true", [])
    assert (row.decision_id, row.idempotency_key, row.run_id) == (answer["decision_id"], "page-view-1", "http")
    assert answer["as_of"] == "2026-03-01T00:00:00.000000Z"


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=shops())
def test_it_is_the_decision_that_the_batch_makes_whichever_comes_first(shop, world):
    moment = FixedClock(world.moment.replace(tzinfo=UTC))
    config = world.settings.model_copy(update={"budgets": []})
    for batch_first in (True, False):
        shop.empty_ledgers()
        shop.fill(world.customers)
        for name, contacts in world.contacts.items():
            for channel, at in contacts:
                shop.contact(name, channel, at)
        for name, words in world.said.items():
            for channel, yes, at in words:
                shop.say(name, channel, yes, at)
        switches = world.switches
        for scope in [
            *(["global"] if switches.everything else []),
            *(f"channel:{name}" for name in switches.channels),
            *(f"campaign:{name}" for name in switches.campaigns),
        ]:
            shop.switch(scope)
        present = Present(shop.warehouse)
        present.load()
        ledgers = RememberedLedgers(shop.warehouse)
        desk = Desk(config, moment, world.table)
        desk._present = present
        if batch_first:
            decide_batch(shop.warehouse, config, moment, "night", table=world.table)
        answers = desk._decide(ledgers, [Question(one.customer_id) for one in world.customers])
        assert {answer.status for answer in answers} == {200}
        if not batch_first:
            decide_batch(shop.warehouse, config, moment, "night", table=world.table)
        rows = log.read(shop.warehouse, "true", [])
        chosen = {
            (run == "http"): {
                one.customer_id: (one.action, one.channel, one.discount_pct, one.blocked_by, one.propensity)
                for one in rows
                if (one.run_id == "http") == (run == "http")
            }
            for run in ("http", "night")
        }
        if batch_first:
            assert not chosen[True], "the batch had decided already, so nothing new is written"
        elif world.settings.policy in ("default_table", "decision_cases:PeekingPolicy"):
            assert chosen[True] == chosen[False]


def test_the_same_key_gives_the_same_decision_and_no_second_contact(shop, asking):
    shop.fill([customer(), customer("c2")])
    with asking() as web:
        first = web.decision(key="page-view-1", release=True)
        again = web.decision(key="page-view-1", release=True)
        assert (first["released"], first["repeated"]) == (True, False)
        assert again == first | {"repeated": True}
        assert shop.count("contact_ledger") == 1
        refused = web.ask("c2", key="page-view-1", release=True)
        assert (refused.status_code, refused.json()["error"]) == (409, "key_reused")
        assert web.ask(key="page-view-1", goal="engagement").status_code == 409
        assert web.decision(key="page-view-2")["blocked_by"] == "frequency", "the contact counts at once"
    with asking() as web:
        assert web.decision(key="page-view-1") == again, "a process later"


def test_a_decision_asked_for_never_unmakes_what_the_batch_proposed(shop, asking):
    shop.fill([customer()])
    batch = decide_batch(shop.warehouse, OPEN, FixedClock(NOON), "night", table=DEFAULT)
    with asking() as web:
        assert web.decision()["repeated"], "without a key it is the batch's own decision"
        assert not web.decision(goal="engagement", key="page-view-1")["repeated"]
    again = decide_batch(shop.warehouse, OPEN, FixedClock(NOON), "morning", table=DEFAULT)
    assert (batch.decided, again.decided, again.known) == (1, 0, 1)


def test_what_others_write_counts_for_the_next_request(shop, asking):
    shop.fill([customer(f"c{number}") for number in range(4)])
    with asking() as web:
        assert web.decision(key="before-all-1")["action"] == "winback_soft"
        shop.say("c0", "all", False, naive_utc(NOON))
        assert web.decision("c0", key="consent-1")["blocked_by"] == "consent"
        shop.contact("c1", "cs_ticket", naive_utc(NOON))
        assert web.decision("c1", key="contact-1")["blocked_by"] == "frequency"
        shop.warehouse.execute("delete from headwater.contact_ledger")
        assert web.decision("c1", key="contact-2")["action"] == "winback_soft"
        shop.switch("global")
        assert web.decision("c2", key="switch-1")["blocked_by"] == "kill_switch"


def test_customers_that_a_batch_changed_are_read_again(shop, asking):
    shop.fill([customer(), customer("gone")])
    with asking() as web:
        assert web.decision(key="before-all-1")["action"] == "winback_soft"
        shop.fill([customer(email_consent=False, sms_consent=False), customer("new")])
        changed = [(key, number) for number, key in enumerate(("c1", "gone", "new"), 1)]
        for key, version in changed:
            shop.warehouse.execute(
                "insert into headwater.model_changes values ('int_customer_360', ?, 'update', null, null, ?, null)",
                [key, version],
            )
        web.server.moved()
        until(lambda: web.ask("new").status_code == 200, "the new customer is known")
        assert web.decision(key="after-all-1")["blocked_by"] == "consent"
        assert web.ask("gone").json()["error"] == "unknown_customer"


def test_customers_whose_ml_segment_has_moved_are_read_again(shop, asking):
    """No live model has changed: memberships follow in transactions of their own, after the batch."""
    shop.fill([customer(features={"ml_segment": "Loyal Customers"})])
    with asking() as web:
        present = web.server._reader.present
        assert present.find("c1").features["ml_segment"] == "Loyal Customers"
        shop.fill([customer(features={"ml_segment": "Champions (VIPs)"})])
        shop.warehouse.execute(
            "insert into headwater.segment_assignments (customer_id, segment_id, valid_from, entered_version)"
            " values ('c1', 3, timestamp '2026-07-01', 7)"
        )
        shop.warehouse.execute("insert into headwater.change_cursors values ('segment_assignments', 7, null)")
        web.server.moved()
        until(lambda: present.find("c1").features["ml_segment"] == "Champions (VIPs)", "the new segment is known")


@pytest.mark.parametrize(
    ("given", "status", "said"),
    [
        ({"json": {"customer_id": "nobody"}}, 404, "there is no customer 'nobody' in 1"),
        ({"json": {"customer_id": 3}}, 400, "Expected `str`, got `int` - at `$.customer_id`"),
        ({"json": {"customer_id": "c1", "segment": "all"}}, 400, "unknown field `segment`"),
        ({"content": b"{"}, 400, "expected JSON with customer_id"),
        (
            {"json": {"customer_id": " ", "goal": "profit", "channel": "fax", "key": "x", "release": True}},
            400,
            "customer_id: found an empty text; expected the shop's own id of the customer; goal: found 'profit'; allowed:"
            " 90d_clv, engagement, conversion, retention; channel: found 'fax'; allowed: email, cs_ticket; key: found 1"
            " characters; expected 8 to 200, different for each decision",
        ),
        ({"json": {"customer_id": "c1", "release": True}}, 400, "key: missing; release needs one"),
        ({"content": b" " * 20_000}, 413, "found more than 16,384 bytes"),
        ({"json": {"customer_id": "c1"}, "headers": {"authorization": "Bearer other"}}, 401, "send the key as"),
    ],
)
def test_what_cannot_be_answered_is_said(shop, asking, given, status, said):
    shop.fill([customer()])
    with asking() as web:
        answer = web.client.post("/decide", **given)
        assert answer.status_code == status, answer.text
        assert said in answer.json()["message"]
        assert web.client.get("/decide").status_code == 405
        assert web.client.get("/elsewhere").status_code == 404
    assert shop.count("decision_log") == 0


def test_a_channel_is_an_answer_by_that_channel_or_none(shop, asking):
    shop.fill([customer(), customer("c2", segment="churn_rescue_nps")])
    with asking() as web:
        assert web.decision("c2")["channel"] == "cs_ticket"
        assert web.decision("c2", channel="email")["blocked_by"] == "reachability"
        assert web.decision(channel="email")["channel"] == "email"


def test_a_customer_whose_row_cannot_be_used_is_a_row_with_the_reason(shop, asking):
    shop.fill([replace(customer(), segment="a segment of the past")])
    with asking() as web:
        answer = web.ask()
    assert (answer.status_code, answer.json()["error"]) == (422, "unusable_customer")
    assert shop.count("decision_rejects", "field = 'segment'") == 1


def test_what_is_too_much_is_refused_and_what_waits_is_answered(shop, asking):
    shop.fill([customer()])
    crowded = OPEN.model_copy(update={"realtime": RealtimeSettings(port=0, max_waiting=1)})
    with asking(crowded) as web:
        waiting: list[int] = []
        with WarehouseLedgers(shop.warehouse).lock:
            first = threading.Thread(target=lambda: waiting.append(web.ask(key="in-the-queue").status_code))
            first.start()
            refused = (
                until(
                    lambda: (answer := web.ask(key="one-too-many")).status_code == 429 and answer,
                    "the second is refused",
                )
                if until(lambda: web.server._desk._depth._value == 0, "the first waits")
                else None
            )
            assert (refused.json()["error"], refused.headers["retry-after"]) == ("overloaded", "1")
        first.join()
        assert waiting == [200]
        assert web.decision(key="one-too-many")["repeated"] is False


def test_while_the_file_is_given_away_nothing_is_decided_and_the_address_stays(shop, asking):
    shop.fill([customer()])
    with asking(start=False) as web:
        answer = web.ask()
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert answer.json()["error"] == "unavailable"
        assert web.client.get("/health").status_code == 503
        web.server.start(shop.warehouse)
        assert web.decision(key="page-view-1")["repeated"] is False
        assert web.client.get("/health").json()["customers"] == 1
        web.server.pause()
        assert web.ask().status_code == 503
        web.server.start(shop.warehouse)
        assert web.decision(key="page-view-1")["repeated"] is True


def test_what_cannot_be_written_was_never_answered(shop, asking):
    shop.fill([customer()])
    with asking() as web:
        web.decision(key="page-view-1")
        shop.warehouse.execute("alter table headwater.decision_log rename to put_aside")
        answer = web.ask(key="page-view-2", release=True)
        assert (answer.status_code, answer.json()["error"]) == (503, "not_written")
        shop.warehouse.execute("alter table headwater.put_aside rename to decision_log")
        assert shop.count("contact_ledger") == 0
        assert web.decision(key="page-view-2", release=True)["action"] == "winback_soft"
        assert web.decision(key="page-view-1")["repeated"] is True
    assert shop.count("decision_log") == 2


def test_a_budget_holds_over_requests_that_are_decided_together(shop):
    config = OPEN.model_copy(
        update={"budgets": [BudgetSettings(name="b", amount=1.0, cost_per_contact={"email": 0.25})]}
    )
    shop.fill([customer(f"c{number}") for number in range(7)])
    present = Present(shop.warehouse)
    present.load()
    desk = Desk(config, FixedClock(NOON), DEFAULT)
    desk._present = present
    ledgers = RememberedLedgers(shop.warehouse)
    goals = ["90d_clv", "conversion", "retention"]
    desk._decide(ledgers, [Question(f"c{n}", key=f"request-{n}", goal=goals[n % 3]) for n in range(7)])
    assert (
        shop.count("decision_log", "action = 'winback_soft'"),
        shop.count("decision_log", "blocked_by = 'budget'"),
    ) == (
        4,
        3,
    )
    later = FixedClock(NOON + timedelta(minutes=2))
    again = Desk(config, later, DEFAULT)
    again._present = present
    asked = [Question("c0", key="request-again", goal="engagement"), Question("c5", key="request-last")]
    again._decide(ledgers, asked[:1])
    assert shop.count("decision_log", "idempotency_key = 'request-again' and blocked_by = 'budget'") == 1
    again._clock.push(timedelta(minutes=2))
    again._decide(ledgers, asked[1:])
    assert shop.warehouse.value("select sum(amount) from headwater.budget_ledger") == 1, "what c0 had is free for c5"
    assert shop.count("decision_log", "idempotency_key = 'request-last' and action = 'winback_soft'") == 1


def test_metrics_tell_answers_actions_and_blocks(shop, asking):
    shop.fill([customer(), customer("c2", segment=None)])
    with asking() as web:
        for name in ("c1", "c2", "c1", "nobody"):
            web.ask(name)
        text = web.client.get("/metrics").text
    for line in (
        'headwater_decide_answers_total{error="",status="200"} 3.0',
        'headwater_decide_answers_total{error="unknown_customer",status="404"} 1.0',
        'headwater_decide_actions_total{action="winback_soft"} 1.0',
        'headwater_decide_blocked_total{rule="eligibility"} 1.0',
        "headwater_decide_repeated_total 1.0",
        "headwater_decide_customers 2.0",
        "headwater_decide_seconds_count 4.0",
    ):
        assert line in text


def test_without_a_key_or_a_free_port_it_does_not_start(shop, asking, monkeypatch):
    with asking(start=False) as web:
        port = int(web.server.address.rpartition(":")[2])
        taken = OPEN.model_copy(update={"realtime": RealtimeSettings(port=port)})
        with pytest.raises(ConfigError, match=f"cannot be asked for on 127.0.0.1:{port}"), asking(taken, start=False):
            pass
    monkeypatch.setenv("HEADWATER_DECIDE_KEY", "short")
    with pytest.raises(ConfigError, match="HEADWATER_DECIDE_KEY holds 5 characters; expected a key of at least 16"):
        DecisionServer(OPEN, FixedClock(NOON), DEFAULT, print)


ASKED_AND_KILLED = """
import os, sys, threading
from datetime import UTC, datetime
from headwater.clock import FixedClock
from headwater.decisions.realtime.serve import DecisionServer
from headwater.decisions.realtime.settings import RealtimeSettings
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.warehouse import Warehouse
warehouse = Warehouse(sys.argv[1])
clock = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))
settings = DecisionSettings(holdout_share=0, realtime=RealtimeSettings(port=0))
server = DecisionServer(settings, clock, DEFAULT, lambda *_: None)
server.start(warehouse)
print(server.address, flush=True)
threading.Event().wait()
"""


@pytest.mark.crash
def test_what_was_answered_is_in_the_ledger_after_a_kill(tmp_path):
    path = tmp_path / "shop.duckdb"
    with Warehouse(path) as warehouse:
        Candidates(warehouse).fill([customer(f"c{number}") for number in range(500)])
    answered: list[str] = []
    asked: list[str] = []
    for life in range(4):
        process = subprocess.Popen(
            [sys.executable, "-c", ASKED_AND_KILLED, str(path)],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "HEADWATER_DECIDE_KEY": KEY},
        )
        address = process.stdout.readline().strip()

        def work(worker: int, life: int = life, address: str = address) -> None:
            with httpx2.Client(base_url=address, headers={"authorization": f"Bearer {KEY}"}, timeout=20) as client:
                for number in range(1000):
                    key = f"life-{life}-{worker}-{number}"
                    question = {"customer_id": f"c{(worker * 60 + number) % 500}", "key": key, "release": True}
                    asked.append(key)
                    try:
                        answer = client.post("/decide", json=question)
                    except httpx2.HTTPError:
                        return
                    assert answer.status_code == 200, answer.text
                    answered.append(key)

        workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        before = len(answered)
        for worker in workers:
            worker.start()
        until(lambda before=before, life=life: len(answered) > before + 30 + 20 * life, "some were answered")
        process.kill()
        process.wait()
        process.stdout.close()
        for worker in workers:
            worker.join()
    with Warehouse(path) as warehouse:
        rows = warehouse.execute("select idempotency_key, decision_id, action from headwater.decision_log").fetchall()
        contacts = {row[0] for row in warehouse.execute("select decision_id from headwater.contact_ledger").fetchall()}
    keys = [key for key, *_ in rows]
    assert set(answered) <= set(keys) <= set(asked)
    assert len(set(keys)) == len(keys)
    assert contacts == {decision for _, decision, action in rows if action != "none"}, "all of a group, or none of it"
