"""Step 15, at the moment of sending: switches, consent, reachability and frequency once more, then the release into the ledgers.

Activation calls these with the name of a relation, one row per operation: `operation_id`, `decision_id` (more columns may be
there). They run inside activation's transaction and open none of their own. A run that was killed may send the same operation
again: what a decision itself has released earlier never counts against it, and releasing it twice changes nothing.
"""

from datetime import datetime

from headwater.clock import Clock, naive_utc
from headwater.decisions import budget, log
from headwater.decisions import setup as setups
from headwater.decisions.channels import CHANNELS
from headwater.decisions.guardrails import load_all, sentences
from headwater.decisions.guardrails.base import Now, Setup
from headwater.decisions.guardrails.frequency import Frequency
from headwater.decisions.hashing import digest_sql, text_sql
from headwater.decisions.ledgers import read_switches
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT, NONE, Table
from headwater.warehouse import Warehouse

RULES = ("kill_switch", "consent", "reachability", "frequency")
"""Steps 1, 2, 4 and 5: what may have changed since the decision was made."""

REASONS = {
    "unknown_decision": "There is no such decision in the log, and only decisions are sent.",
    "no_action": "The decision is to do nothing.",
    "superseded": "A newer decision for this person has taken its place.",
    "unlisted": "The action is not, or no longer, on the shop's list of actions.",
}
"""Why an operation is held before any rule is asked; holdout and budget have the sentences of their rules."""


def recheck(
    warehouse: Warehouse,
    settings: DecisionSettings,
    clock: Clock,
    relation: str,
    *,
    table: Table | None = None,
    candidates: str = "main.int_decision_candidates",
) -> list[tuple[str, str, str]]:
    """(operation_id, rule, sentence) of every operation that must not go out now, ordered by operation: the first that holds it.

    Reads only. `table` is the project's table, as for `decide_batch`. A customer who is no longer in `candidates` has agreed to
    nothing. Raises nothing of its own; a kill switch that cannot be read holds everything.
    """
    setup = setups.make(settings, table)
    moment = naive_utc(clock.now())
    now = Now(moment, read_switches(warehouse))
    _asked(warehouse, setup, relation, candidates)
    rules = load_all(setup, RULES)
    for rule in rules:
        if isinstance(rule, Frequency):
            rule.contacts = OTHER_CONTACTS
    sqls = [(rule.name, rule.sql(now)) for rule in rules]
    facts = "".join(f", {expression} as {name}" for _, sql in sqls for name, expression in sql.facts.items())
    joins = " ".join(join for _, sql in sqls for join in sql.joins)
    holds = [
        ("unknown_decision", "s.decision_id is null"),
        ("no_action", f"s.action = {text_sql(NONE)}"),
        ("holdout", "s.experiment_group = 'holdout'"),
        ("superseded", "not s.is_newest"),
        ("unlisted", "s.campaign is null"),
        *((name, sql.blocked) for name, sql in sqls),
        ("budget", _unaffordable(setup, moment)),
    ]
    cases = " ".join(f"when {condition} then {text_sql(name)}" for name, condition in holds)
    known = sentences() | REASONS
    rows = warehouse.execute(
        f"""select operation_id, rule from (
                select s.operation_id, case {cases} end as rule
                from (select c.*{facts} from send_asked c {joins}) s,
                    lateral (select s.action as action_id, s.channel as channel, s.campaign as campaign) o
            ) where rule is not null order by operation_id"""
    ).fetchall()
    return [(operation, rule, known[rule]) for operation, rule in rows]


def release(warehouse: Warehouse, clock: Clock, relation: str, *, table: Table | None = None) -> None:
    """Write the contact of every decision in `relation` into the ledger, once, and reserve again what had been given back.

    Called in the transaction that claims the operations, before anything is sent.
    """
    moment = f"timestamp '{naive_utc(clock.now()).isoformat(sep=' ')}'"
    warehouse.execute(
        f"""insert into headwater.contact_ledger (contact_id, customer_id, channel, campaign, decision_id, contacted_at)
            select contact_id, customer_id, channel, campaign, decision_id, {moment} from (
                select distinct {digest_sql("'contact'", "l.decision_id")} as contact_id, l.customer_id, l.channel,
                    coalesce({_campaign(table or DEFAULT)}, l.template) as campaign, l.decision_id
                from headwater.decision_log l semi join {relation} r on r.decision_id = l.decision_id
                where l.action <> 'none'
            ) anti join headwater.contact_ledger using (contact_id)"""
    )
    warehouse.execute(
        f"""insert into headwater.budget_ledger (reservation_id, budget, period_start, decision_id, amount, reserved_at)
            select {digest_sql("'again'", "b.budget", "b.decision_id", "count(*)::varchar")}, b.budget, b.period_start,
                b.decision_id, max(b.amount), {moment}
            from headwater.budget_ledger b semi join {relation} r on r.decision_id = b.decision_id
            group by b.budget, b.period_start, b.decision_id having sum(b.amount) = 0"""
    )


def give_back(warehouse: Warehouse, clock: Clock, relation: str) -> None:
    """Undo the release of decisions that certainly did not reach the person: the contact goes, the reservation is returned."""
    moment = f"timestamp '{naive_utc(clock.now()).isoformat(sep=' ')}'"
    warehouse.execute(f"delete from headwater.contact_ledger where decision_id in (select decision_id from {relation})")
    warehouse.execute(
        f"""insert into headwater.budget_ledger (reservation_id, budget, period_start, decision_id, amount, reserved_at)
            select {digest_sql("'returned'", "b.budget", "b.decision_id", "count(*)::varchar")}, b.budget, b.period_start,
                b.decision_id, -sum(b.amount), {moment}
            from headwater.budget_ledger b semi join {relation} r on r.decision_id = b.decision_id
            group by b.budget, b.period_start, b.decision_id having sum(b.amount) > 0"""
    )


OTHER_CONTACTS = """(
    from headwater.contact_ledger k anti join (select decision_id from send_asked where is_newest) a
        on a.decision_id = k.decision_id
)"""
"""Contacts but those of the very decisions that are asked about."""


def _asked(warehouse: Warehouse, setup: Setup, relation: str, candidates: str) -> None:
    """`send_asked`: one row per operation with its decision and what the shop's own data say of consent and address now."""
    flags = sorted({column for channel in CHANNELS.values() for column in (*channel.consent, *channel.reach)})
    if warehouse.exists(candidates):
        source = f"left join {candidates} p on p.customer_id = l.customer_id"
        said = ", ".join(f"coalesce(p.{column}, false) as {column}" for column in flags)
    else:
        source, said = "", ", ".join(f"false as {column}" for column in flags)
    warehouse.execute(
        f"""create or replace temp table send_asked as
            select r.operation_id, l.decision_id, l.customer_id, l.segment, l.experiment_group, l.action, l.channel,
                l.decided_at = n.newest as is_newest, {_campaign(setup.table)} as campaign, {said}
            from {relation} r
            left join headwater.decision_log l on l.decision_id = r.decision_id
            left join (select customer_id, max(decided_at) as newest from headwater.decision_log
                where run_id <> '{log.ON_DEMAND}' group by 1) n
                on n.customer_id = l.customer_id
            {source}"""
    )


def _campaign(table: Table) -> str:
    """SQL over `l`: the campaign of the logged action by that channel, null when the list does not hold it."""
    cases = [
        f"when l.action = {text_sql(action.action_id)} and l.channel = {text_sql(channel)} then {text_sql(action.campaign)}"
        for action in table.actions
        for channel in action.channels
    ]
    return f"case {' '.join(cases)} end" if cases else "null"


def _unaffordable(setup: Setup, moment: datetime) -> str:
    """SQL over `s`: the decision's reservation was given back, and its budget of today cannot bear it again."""
    limits = [f"({text_sql(b.name)}, {b.amount})" for b in budget.budgets(setup.settings, moment)]
    if not limits:
        return "false"
    return f"""s.decision_id in (
        select b.decision_id from headwater.budget_ledger b
        join (select budget, period_start, sum(amount) as used from headwater.budget_ledger group by all) u
            using (budget, period_start)
        join (values {", ".join(limits)}) limits (budget, amount) on limits.budget = b.budget
        group by b.decision_id, b.budget, u.used, limits.amount
        having sum(b.amount) = 0 and u.used + max(b.amount) > limits.amount
    )"""
