"""No executed decision breaks a hard rule; with any one rule taken out, one does."""

from datetime import UTC

import pytest
from decision_cases import Shop, broken_rules, shops
from hypothesis import HealthCheck, find, given, settings

from headwater.clock import FixedClock
from headwater.decisions.decide import Decider
from headwater.decisions.guardrails import GUARDRAILS, sentences
from headwater.decisions.ledgers import MemoryLedgers, newest_words

QUICK = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


def decide(shop: Shop) -> list:
    ledgers = MemoryLedgers()
    ledgers.on = shop.switches
    for customer, contacts in shop.contacts.items():
        for channel, at in contacts:
            ledgers.contact(customer, channel, at)
    words = [(customer, *word) for customer, said in shop.said.items() for word in said]
    ledgers.said = newest_words(words)
    decider = Decider(shop.settings, FixedClock(shop.moment.replace(tzinfo=UTC)), ledgers, table=shop.table)
    return decider.decide_many(shop.customers)


def breaches(shop: Shop) -> set[str]:
    return {
        rule
        for customer, decision in zip(shop.customers, decide(shop), strict=True)
        for rule in broken_rules(shop, customer, decision)
    }


@given(shops())
@QUICK
def test_no_executed_decision_breaks_a_hard_rule(shop):
    assert breaches(shop) == set()


@pytest.mark.parametrize("rule", list(GUARDRAILS))
def test_without_one_rule_a_decision_breaks_it(rule, monkeypatch):
    monkeypatch.delitem(GUARDRAILS, rule)
    search = settings(
        QUICK, max_examples=6000, phases=[phase for phase in settings().phases if phase.name == "generate"]
    )
    find(shops(4), lambda shop: rule in breaches(shop), settings=search)


def test_every_rule_has_a_sentence_for_the_console():
    said = sentences()
    assert set(GUARDRAILS) < set(said)
    assert all(sentence.endswith(".") for sentence in said.values())
    assert said["consent"] == "The person has not agreed to be contacted by this channel; no answer counts as no."
