"""The batch gives the same answer as one by one, on every row; twice is once; nothing is lost."""

import os
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from decision_cases import Candidates, shops
from hypothesis import HealthCheck, given, settings

from headwater.clock import FixedClock
from headwater.decisions import log, send, situations
from headwater.decisions.batch import NOBODY_AGREED, decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.guardrails.base import Switches
from headwater.decisions.ledgers import (
    MemoryLedgers,
    WarehouseLedgers,
    newest_words,
    read_switches,
    set_switch,
    switches_sentence,
)
from headwater.decisions.settings import BudgetSettings, DecisionSettings
from headwater.errors import DataError, InvalidValue
from headwater.warehouse import Warehouse

AS_OF = datetime(2026, 3, 1)  # noqa: DTZ001
NOON = FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC))


@settings(max_examples=30, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(case=shops(6))
def test_batch_equals_one_by_one_on_every_row(shop, case):
    shop.empty_ledgers()
    shop.fill(case.customers)
    for customer, contacts in case.contacts.items():
        for channel, at in contacts:
            shop.contact(customer, channel, at)
    words = [(customer, *word) for customer, said in case.said.items() for word in said]
    for customer, channel, consented, at in words:
        shop.say(customer, channel, consented, at)
    on = ["global"] * case.switches.everything
    on += [f"channel:{name}" for name in case.switches.channels]
    on += [f"campaign:{name}" for name in case.switches.campaigns]
    for scope in on:
        shop.switch(scope)
    clock = FixedClock(case.moment.replace(tzinfo=UTC))

    batch = decide_batch(shop.warehouse, case.settings, clock, "r", table=case.table)

    in_batch = log.read(shop.warehouse, "true order by idempotency_key", [])
    assert len(in_batch) == len(case.customers) == batch.decided
    ledgers = MemoryLedgers()
    ledgers.on = case.switches
    ledgers.said = newest_words(words)
    for customer, contacts in case.contacts.items():
        for channel, at in contacts:
            ledgers.contact(customer, channel, at)
    decider = Decider(case.settings, clock, ledgers, table=case.table, run_id="r", as_of=AS_OF)
    by_id = {customer.customer_id: customer for customer in case.customers}
    one_by_one = decider.decide_many([by_id[decision.customer_id] for decision in in_batch])
    for row, single in zip(in_batch, one_by_one, strict=True):
        assert plain(row) == plain(single)
        assert row.trace.trace_id == single.trace.trace_id
    used = shop.warehouse.execute("select budget, sum(amount) from headwater.budget_ledger group by 1").fetchall()
    assert dict(used) == {
        row.budget: sum(r.amount for r in ledgers.entries.reservations if r.budget == row.budget)
        for row in ledgers.entries.reservations
    }


def plain(decision) -> dict:
    return {name: getattr(decision, name) for name in decision.__slots__ if name not in ("decided_at", "trace")} | {
        "trace": decision.trace.text
    }


def customers(count: int) -> list[Customer]:
    segments = ("high_value_lapse_risk", "new_users_first_week_intent", "churn_rescue_nps", None)
    return [
        Customer(f"c{i:04}", segments[i % 4], True, True, True, True, "Europe/Paris", 40.0, {}) for i in range(count)
    ]


def run(shop, run_id="r", clock=NOON, **options):
    config = options.pop("settings", DecisionSettings())
    return decide_batch(shop.warehouse, config, clock, run_id, **options)


def test_counts_add_up_and_say_what_was_done(shop):
    shop.fill(customers(400))
    batch = run(shop)
    assert (batch.considered, batch.decided, batch.known, batch.rejected) == (400, 400, 0, 0)
    assert sum(batch.by_action.values()) == 400
    assert batch.holdout == shop.count("decision_log", "experiment_group = 'holdout'") == pytest.approx(40, abs=15)
    assert batch.blocked == {
        "eligibility": 100 - shop.count("decision_log", "segment is null and blocked_by = 'holdout'"),
        "holdout": batch.holdout,
    }
    assert batch.message == (
        f"{400 - batch.by_action['none']} of 400 customers get an action; 400 decisions are new; "
        f"no action because of: eligibility {batch.blocked['eligibility']}, holdout {batch.holdout}"
    )
    assert shop.count("contact_ledger") == 0
    assert batch.power.startswith(
        "With 400 customers and a holdout of 10%, a difference below 10.2 percentage points cannot"
    )
    assert run(shop, dry_run=True, settings=DecisionSettings(holdout_share=0)).power == (
        "Of 400 customers none is held out, so no effect can be measured"
    )


def test_twice_adds_nothing(shop):
    shop.fill([*customers(40), Customer("bad", "nonsense")])
    config = DecisionSettings(budgets=[BudgetSettings(name="mail", amount=1.0, cost_per_contact={"email": 0.1})])
    first = run(shop, settings=config)
    tables = ("decision_log", "decision_traces", "decision_rejects", "budget_ledger")
    before = {table: shop.warehouse.execute(f"from headwater.{table} order by all").fetchall() for table in tables}
    again = run(shop, "another run", FixedClock(NOON.at + timedelta(hours=1)), settings=config)
    after = {table: shop.warehouse.execute(f"from headwater.{table} order by all").fetchall() for table in tables}
    assert before == after
    assert (again.decided, again.known) == (0, 40)
    assert (again.by_action, again.blocked, again.holdout) == (first.by_action, first.blocked, first.holdout)


def test_what_was_asked_for_last_is_the_newest_decision(shop):
    shop.fill(customers(40))
    for cap in (5.0, 3.0, 5.0, 5.0):
        run(shop, discount_cap=cap)
    newest = shop.warehouse.execute(
        "select max(discount_pct) from (select distinct on (customer_id) * from headwater.decision_log order by customer_id, decided_at desc)"
        " where segment = 'high_value_lapse_risk'"
    ).fetchone()
    assert newest == (5,)
    assert shop.count("decision_log") == 120
    assert shop.warehouse.value("select count(distinct idempotency_key) from headwater.decision_log") == 120


def test_a_new_as_of_gives_new_decisions_and_the_old_reservations_back(shop):
    shop.fill(customers(40))
    config = DecisionSettings(
        holdout_share=0, budgets=[BudgetSettings(name="mail", amount=1.0, cost_per_contact={"email": 0.1})]
    )
    first = run(shop, settings=config)
    assert first.blocked == {"budget": 10, "eligibility": 10}
    shop.set_clock(AS_OF + timedelta(days=1))
    second = run(shop, "r2", FixedClock(NOON.at + timedelta(hours=1)), settings=config)
    assert second.decided == 40
    assert shop.warehouse.value("select sum(amount) from headwater.budget_ledger") == 1
    assert second.blocked == {"budget": 10, "eligibility": 10}


def test_dry_run_writes_nothing_and_shows_everything(shop):
    shop.fill([*customers(40), Customer("bad", "nonsense")])
    batch = run(shop, dry_run=True)
    assert [shop.count(table) for table in ("decision_log", "decision_traces", "decision_rejects")] == [0, 0, 0]
    assert (batch.decided, batch.rejected, batch.dry_run) == (40, 1, True)
    preview = shop.warehouse.rows(f"select * from {batch.relation} order by customer_id")
    assert list(preview[0]) == list(log.COLUMNS)
    run(shop)
    logged = shop.warehouse.rows("select * from headwater.decision_log order by customer_id")
    assert preview == logged


def test_bad_rows_are_rejected_by_field_and_the_rest_goes_on(shop):
    shop.fill(
        [
            Customer("good", "churn_rescue_nps", True, True, True, True),
            Customer("lost", "vip"),
            Customer("nan", "churn_rescue_nps", margin_pct=float("nan")),
            Customer("inf", None, margin_pct=float("inf")),
            Customer("both", "all", margin_pct=101.0),
            Customer(" ", None),
            Customer(None, None),
            Customer("twin", None),
            Customer("twin", None),
        ]
    )
    batch = run(shop)
    assert (batch.considered, batch.decided, batch.rejected) == (9, 1, 8)
    assert batch.rejects == {"customer_id": 4, "margin_pct": 3, "segment": 2}
    rows = shop.warehouse.execute(
        "select customer_id, field, value, reason from headwater.decision_rejects order by all"
    ).fetchall()
    assert (
        "lost",
        "segment",
        "vip",
        "it is not a known segment; allowed: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent, or null",
    ) in rows
    assert (
        "nan",
        "margin_pct",
        "nan",
        "it must be a finite number of percent, at most 100, or null when unknown",
    ) in rows
    assert (
        rows.count(("twin", "customer_id", "twin", "it stands in more than one row; one row per customer is needed"))
        == 2
    )
    assert batch.warnings[0] == "4 rows have a customer_id that cannot be used; see headwater.decision_rejects"


def test_the_same_bad_row_is_refused_one_by_one(shop):
    decider = Decider(DecisionSettings(), NOON)
    with pytest.raises(InvalidValue) as error:
        decider.decide(Customer("lost", "vip"))
    assert str(error.value) == (
        "segment: found vip; it is not a known segment; allowed: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent, or null"
    )


def test_one_segment_only(shop):
    shop.fill(customers(40))
    batch = run(shop, segment="churn_rescue_nps")
    assert batch.considered == batch.decided == 10
    with pytest.raises(
        InvalidValue,
        match=r"^segment: found 'vip'; allowed: churn_rescue_nps, high_value_lapse_risk, new_users_first_week_intent, all$",
    ):
        run(shop, segment="vip")


def test_a_relation_that_lacks_columns_is_refused_with_all_of_them(shop):
    shop.warehouse.execute("create table thin as select 'c' as customer_id, true as has_email")
    with pytest.raises(
        DataError, match="lacks segment, has_phone, email_consent, sms_consent; it has customer_id, has_email"
    ):
        run(shop, relation="thin")
    with pytest.raises(DataError, match="Build it first: `headwater build`"):
        run(shop, relation="nowhere")


def test_without_a_clock_it_says_what_to_do(shop):
    shop.warehouse.execute("delete from headwater.clock")
    with pytest.raises(DataError, match="run `headwater seed` first"):
        run(shop)


def test_a_faulty_filter_is_caught_by_the_final_check(shop, monkeypatch):
    """The rules are read again for step 13, so one that let something pass by mistake is an alarm and not a message."""
    shop.fill([Customer(f"c{i}", "high_value_lapse_risk", True, True, False, False) for i in range(10)])
    applied = situations._applied
    monkeypatch.setattr(
        situations,
        "_applied",
        lambda rule, sql, before: before if rule.name == "consent" else applied(rule, sql, before),
    )
    batch = run(shop, settings=DecisionSettings(holdout_share=0))
    assert batch.by_action == {"none": 10}
    assert batch.alarms == 10
    assert batch.warnings[-1].startswith("ALARM: 10 chosen actions broke a rule at the final check")
    assert shop.count("decision_log", "blocked_by = 'final_check' and propensity is null") == 10


def test_an_unknown_margin_bears_no_discount(shop):
    shop.fill(
        [Customer(f"c{m}", "high_value_lapse_risk", True, True, True, True, margin_pct=m) for m in (None, 2.0, 90.0)]
    )
    run(shop, settings=DecisionSettings(holdout_share=0, min_margin_pct=0))
    found = shop.warehouse.execute(
        "select customer_id, discount_pct from headwater.decision_log order by all"
    ).fetchall()
    assert found == [("c2.0", 2), ("c90.0", 5), ("cNone", 0)]


def test_a_switch_that_cannot_be_read_stops_everything_and_says_so(shop):
    shop.fill(customers(40))
    shop.warehouse.execute("drop table headwater.kill_switch")
    batch = run(shop)
    assert batch.by_action == {"none": 40}
    assert batch.blocked == {"kill_switch": 40}
    assert batch.warnings[0].startswith("the kill switch cannot be read (")


def test_turning_a_switch_gives_new_decisions(shop):
    shop.fill(customers(40))
    set_switch(shop.warehouse, "global", on=True, reason="a wrong price", set_by="ann", clock=NOON)
    stopped = run(shop)
    assert stopped.blocked == {"kill_switch": 40}
    assert stopped.warnings == ("global: a wrong price",)
    set_switch(shop.warehouse, "global", on=False, reason="mended", set_by="ann", clock=NOON)
    assert shop.count("kill_switch") == 1
    going = run(shop)
    assert going.decided == 40
    assert "kill_switch" not in going.blocked


KILLED = """
from datetime import UTC, datetime
import sys
from headwater.clock import FixedClock
from headwater.decisions.batch import decide_batch
from headwater.decisions.settings import BudgetSettings, DecisionSettings
from headwater.warehouse import Warehouse
settings = DecisionSettings(budgets=[BudgetSettings(name="b", amount=1, cost_per_contact={"email": 0.1})])
with Warehouse(sys.argv[1]) as warehouse:
    decide_batch(warehouse, settings, FixedClock(datetime(2026, 3, 2, 12, tzinfo=UTC)), "r")
"""


def test_a_kill_before_the_commit_leaves_nothing_and_the_next_run_equals_an_undisturbed_one(tmp_path):
    tables = ("decision_log", "decision_traces", "decision_rejects", "budget_ledger")
    contents = []
    for name, failpoint in (("undisturbed", ""), ("killed", "decide.written")):
        path = tmp_path / f"{name}.duckdb"
        with Warehouse(path) as warehouse:
            Candidates(warehouse).fill([*customers(60), Customer("bad", "nonsense")])
        command = [sys.executable, "-c", KILLED, str(path)]
        if failpoint:
            killed = subprocess.run(command, env={**os.environ, "HEADWATER_FAILPOINT": failpoint}, check=False)
            assert killed.returncode == 137
            with Warehouse(path) as warehouse:
                assert [warehouse.value(f"select count(*) from headwater.{t}") for t in tables] == [0, 0, 0, 0]
        subprocess.run(command, check=True)
        with Warehouse(path) as warehouse:
            contents.append({t: warehouse.execute(f"from headwater.{t} order by all").fetchall() for t in tables})
    assert contents[0] == contents[1]
    assert all(contents[0].values())


def test_what_the_customer_is_judged_by_makes_a_decision_stand_or_fall(shop):
    """Same as-of, same configuration: only who has changed is decided anew, and what was proposed to them is superseded."""
    sure = Customer(
        "c0", "high_value_lapse_risk", True, True, True, True, "Europe/Paris", 40.0, {"nps_band": "promoter"}
    )
    config = DecisionSettings(holdout_share=0, min_margin_pct=38.0)
    changes = {
        "address": {"has_email": False},
        "consent": {"email_consent": False},
        "segment": {"segment": None},
        "margin": {"margin_pct": 39.0},
        "feature": {"features": {"nps_band": "detractor"}},
    }
    for name, change in changes.items():
        shop.empty_ledgers()
        shop.fill([sure, replace(sure, customer_id="c1")])
        assert run(shop, settings=config).by_action == {"winback_soft": 2}
        shop.fill([replace(sure, **change), replace(sure, customer_id="c1")])
        batch = run(shop, settings=config)
        assert (batch.decided, batch.known) == (1, 1), name
        assert shop.count("decision_log", "customer_id = 'c0'") == 2
        assert (run(shop, settings=config).decided, shop.count("decision_log")) == (0, 3), name
        shop.fill([sure, replace(sure, customer_id="c1")])
        assert run(shop, settings=config).decided == 1, "and back again"
        assert (run(shop, settings=config).decided, shop.count("decision_log")) == (0, 4), name
    shop.empty_ledgers()
    assert run(shop, settings=config).by_action == {"winback_soft": 2}
    shop.say("c0", "email", False, AS_OF)
    assert run(shop, settings=config).by_action == {"none": 1, "winback_soft": 1}


def test_one_by_one_a_decision_stands_and_falls_with_the_same_things(shop):
    sure = Customer(
        "c0", "high_value_lapse_risk", True, True, True, True, "Europe/Paris", 40.0, {"nps_band": "promoter"}
    )
    decider = Decider(DecisionSettings(holdout_share=0), NOON, WarehouseLedgers(shop.warehouse), as_of=AS_OF)
    first = decider.decide(sure)
    assert decider.decide(sure) == first
    assert decider.decide(replace(sure, margin_pct=41.0)) == first, "a margin that no rule looks at changes nothing"
    blocked = decider.decide(replace(sure, has_email=False))
    assert (blocked.action, blocked.blocked_by) == ("none", "reachability")
    assert decider.decide(replace(sure, features={"nps_band": None})).decision_id not in (
        first.decision_id,
        blocked.decision_id,
    )
    shop.fill([sure])
    shop.warehouse.execute("delete from headwater.decision_log where decision_id <> ?", [first.decision_id])
    assert run(shop, settings=DecisionSettings(holdout_share=0)).known == 1, (
        "the batch knows what was decided one by one"
    )


def test_our_own_message_and_the_hour_do_not_unmake_a_decision(shop):
    config = DecisionSettings(holdout_share=0)
    shop.fill(customers(40))
    run(shop, settings=config)
    send.release(shop.warehouse, NOON, "headwater.decision_log")
    for hours in (1, 12, 24 * 9):
        later = run(shop, settings=config, clock=FixedClock(NOON.at + timedelta(hours=hours)))
        assert (later.decided, later.known, later.sent) == (0, 40, 30)
    assert later.message == (
        "30 of 40 customers get an action; 0 decisions are new; 30 decisions were sent before; no action because of: eligibility 10"
    )


def test_a_none_that_a_contact_caused_ends_with_it(shop):
    """Switched off and on again: what was sent keeps silence for its hours and not longer; what was not sent was no contact."""
    config = DecisionSettings(holdout_share=0, suppress_hours=24)
    shop.fill(customers(40))

    def later(hours):
        return FixedClock(NOON.at + timedelta(hours=hours))

    run(shop, settings=config)
    send.release(shop.warehouse, NOON, "(from headwater.decision_log where customer_id < 'c0020')")
    set_switch(shop.warehouse, "global", on=True, reason="a wrong price", set_by="ann", clock=NOON)
    assert run(shop, settings=config, clock=later(1)).by_action == {"none": 40}
    set_switch(shop.warehouse, "global", on=False, reason="", set_by="ann", clock=NOON)
    silent = run(shop, settings=config, clock=later(2))
    assert silent.blocked == {"eligibility": 10, "frequency": 15}
    assert silent.message.endswith(
        "frequency 15 (contacted too recently; the last contact of anybody 2026-03-02 12:00 by cs_ticket), eligibility 10"
    )
    assert run(shop, settings=config, clock=later(3)).decided == 0
    again = run(shop, settings=config, clock=later(25))
    assert (again.decided, again.blocked) == (15, {"eligibility": 10})
    assert run(shop, settings=config, clock=later(26)).decided == 0


def test_one_by_one_a_none_that_a_contact_caused_ends_with_it_too(shop):
    """The same three keys as the batch gives."""
    config = DecisionSettings(holdout_share=0, suppress_hours=24)
    (one,) = customers(1)
    ledgers = MemoryLedgers()
    ledgers.contact(one.customer_id, "email", NOON.at)
    shop.fill([one])
    shop.contact(one.customer_id, "email", NOON.at.replace(tzinfo=None))
    single = []
    for hours in (1, 2, 25, 26):
        clock = FixedClock(NOON.at + timedelta(hours=hours))
        single.append(Decider(config, clock, ledgers, as_of=AS_OF).decide(one))
        run(shop, settings=config, clock=clock)
    assert [decision.action for decision in single] == ["none", "none", "winback_soft", "winback_soft"]
    assert [d.decision_id for d in log.read(shop.warehouse, "true order by decided_at", [])] == [
        single[0].decision_id,
        single[2].decision_id,
    ]
    assert (single[1], single[3]) == (single[0], single[2])


def test_nobody_has_agreed_is_said(shop):
    shop.fill([replace(one, email_consent=False, sms_consent=None) for one in customers(4)])
    assert run(shop).warnings == (NOBODY_AGREED,)
    shop.say("c0000", "all", True, AS_OF)
    assert run(shop).warnings == ()


def test_in_a_rehearsal_it_says_would(shop):
    shop.fill(customers(4))
    config = DecisionSettings(holdout_share=0)
    with shop.warehouse.rehearsal():
        message = run(shop, settings=config).message
    assert (
        message == "3 of 4 customers would get an action; 4 decisions would be new; no action because of: eligibility 1"
    )
    assert run(shop, settings=config, dry_run=True).message == message


def test_who_gets_less_is_said_as_long_as_it_holds(shop):
    shop.warehouse.execute(
        "create table main.dim_customer as select 'c' || lpad(i::varchar, 4, '0') as customer_id,"
        " if(i % 4 = 3, 'x', 'y') as gender from range(800) made(i)"
    )
    shop.fill(customers(800))
    first, second = run(shop), run(shop)
    assert (first.decided, second.decided) == (800, 0)
    assert first.warnings == second.warnings
    assert first.warnings[0].startswith("customers with gender = x get an action 0.00 times as often as all do")


@pytest.mark.parametrize("scope", ["chanel:email", "channel:fax", "channel:", "campaign:", "all", ""])
def test_a_switch_that_would_mean_something_else_is_refused(shop, scope):
    with pytest.raises(InvalidValue) as error:
        set_switch(shop.warehouse, scope, on=True, reason="", set_by="ann", clock=NOON)
    assert str(error.value) == (
        f"scope: found {scope!r}; allowed: global, channel:email, channel:sms, channel:push, channel:cs_ticket, campaign:<name>"
    )
    assert shop.count("kill_switch") == 0
    shop.switch(scope)
    set_switch(shop.warehouse, scope, on=False, reason="", set_by="ann", clock=NOON)
    assert read_switches(shop.warehouse) == Switches(), "what stands there already can be turned off"


def test_the_switches_are_said_with_their_reason(shop):
    assert switches_sentence(shop.warehouse) == "none is on"
    set_switch(shop.warehouse, "channel:email", on=True, reason="wrong template", set_by="ann", clock=NOON)
    set_switch(shop.warehouse, "global", on=True, reason="", set_by="bob", clock=NOON)
    assert switches_sentence(shop.warehouse) == (
        "switches on: channel:email since 2026-03-02 12:00 by ann (wrong template); global since 2026-03-02 12:00 by bob (no reason given)"
    )
