"""A whole relation of customers at once: the rules as SQL, the same answer as `Decider` on every row.

How it stays quick: rules, policy and trace are worked out once per situation (situations.py), and the rows then only draw.
Temporary tables, after those of situations.py:

    decision_choices     one row per situation and action with a probability above 0
    decision_drawn       one row per customer: key, choice, how it ended, and whether this decision stands already
    decision_tallies     one row per choice and how it ended: for how many customers, new decisions and standing ones apart
    decision_preview     (view) one row per new decision, columns of `decision_log`

What it writes, in one transaction: log, traces, reservations, rejects. A kill before the commit leaves nothing. The decisions
are proposals: contacts are written when activation releases them (send.py). A newer decision for a customer supersedes the
older one; what the older one had reserved and not sent is given back.

A decision stands, and is not made again, when it is the customer's newest and everything it was judged by is the same: its key
says so (judged.py). A `none` that the hour or an earlier contact had caused stands only as long as that would still stop it.
A key that was used before and has been superseded since (cap 5, then 10, then 5 again) is used again with the id of the
superseding decision added, so that the newest row is always the one that was asked for last.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal

import numpy as np

from headwater.clock import Clock, naive_utc
from headwater.decisions import budget, inputs, judged, log
from headwater.decisions import setup as setups
from headwater.decisions.exposure import Exposure, measure
from headwater.decisions.guardrails import load_all
from headwater.decisions.guardrails.base import Now, RuleSql, Setup
from headwater.decisions.hashing import digest_sql, text_sql, unit_sql
from headwater.decisions.ledgers import WarehouseLedgers, insert_reservations, read_switches, return_superseded
from headwater.decisions.power import power
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.settle import Choice, Settled
from headwater.decisions.setup import UNSET
from headwater.decisions.situations import Situations, given_table
from headwater.decisions.situations import table as make_table
from headwater.decisions.table import NONE, Table
from headwater.errors import DataError
from headwater.failpoint import failpoint
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

PREVIEW = "decision_preview"

ACTION = "case when d.ended is null then c.action_id else 'none' end"
BLOCKED_BY = "coalesce(d.ended, c.blocked_by)"
TRACE_ID = (
    "case d.ended when 'budget' then c.budget_trace when 'final_check' then c.final_check_trace else c.trace_id end"
)
"""What became of a choice, as SQL over `d` (its `ended`) and `c` (a row of decision_choices)."""

NOBODY_AGREED = (
    "no customer has agreed to any channel, so nobody can be contacted: no column fills email_opt_in or sms_opt_in (map one in "
    "mapping.yml), or all of them say no, and headwater.consent_state has no yes either"
)
"""What is said when consent alone stops everybody."""


@dataclass(frozen=True)
class Batch:
    """What a batch did, or with `dry_run` would do. Counts are of customers.

    `considered` = `decided` + `known` + `rejected`: decided now; already decided under the same key; unusable. `sent`: of those
    known, released before. `by_action` and `blocked` (rule → customers who get `none` because of it) cover decided and known
    alike, and so do `exposures`: who gets more and who less, by gender and country where `dim_customer` knows them. `power`:
    what a holdout of this size can see, one sentence. `last_contact`: of anybody, naive UTC and its channel. `relation` holds the new rows with the columns of `decision_log` until
    the next batch on this connection.
    """

    run_id: str
    segment: str
    goal: str
    policy: str
    policy_version: str
    config_hash: str
    as_of: datetime
    decided_at: datetime
    dry_run: bool
    considered: int
    decided: int
    known: int
    sent: int
    rejected: int
    holdout: int
    situations: int
    alarms: int
    by_action: dict[str, int]
    blocked: dict[str, int]
    rejects: dict[str, int]
    exposures: tuple[Exposure, ...] = ()
    power: str = ""
    last_contact: tuple[datetime, str] | None = None
    relation: str = PREVIEW
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        done = sum(count for action, count in self.by_action.items() if action != NONE)
        verb, one, be = ("would get", "would be", "would be") if self.dry_run else ("get", "is", "are")
        new = counted(self.decided, f"decision {one}", f"decisions {be}")
        sent = f"; {counted(self.sent, 'decision was', 'decisions were')} sent before" if self.sent else ""
        silence = {}
        if self.last_contact:
            at, by = self.last_contact
            silence["frequency"] = f" (contacted too recently; the last contact of anybody {at:%Y-%m-%d %H:%M} by {by})"
        reasons = sorted(self.blocked.items(), key=lambda item: -item[1])
        kept = ", ".join(f"{rule} {number:,}{silence.get(rule, '')}" for rule, number in reasons)
        return (
            f"{done:,} of {self.considered:,} customers {verb} an action; {new} new{sent}"
            + (f"; no action because of: {kept}" if kept else "")
            + (f"; {counted(self.rejected, 'row')} could not be used" if self.rejected else "")
        )


def decide_batch(
    warehouse: Warehouse,
    settings: DecisionSettings,
    clock: Clock,
    run_id: str,
    relation: str = "main.int_decision_candidates",
    segment: str = "all",
    dry_run: bool = False,
    *,
    table: Table | None = None,
    goal: object = UNSET,
    discount_cap: object = UNSET,
    suppress_hours: object = UNSET,
    as_of: datetime | None = None,
) -> Batch:
    """Decide for every customer of `relation` (columns of `int_decision_candidates`; `all`, or those in `segment`).

    `table`: the project's table (`headwater.decisions.table.load(folder)`), the default table when left out. `goal`,
    `discount_cap` (percent) and `suppress_hours` replace the settings' values. `as_of`: the data's moment, read from
    `headwater.clock` when left out. Dry run writes nothing.

    Raises InvalidValue naming the field and the allowed values for a bad argument, DataError when the relation lacks columns.
    A bad row is no error: it is counted, and is a row in `decision_rejects`.
    """
    setup = setups.make(
        settings, table, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours, warehouse=warehouse
    )
    inputs.segment(segment, setup.table.segments)
    with WarehouseLedgers(warehouse).lock:
        return _Run(warehouse, setup, naive_utc(clock.now()), run_id, relation, segment, as_of).run(dry_run)


class _Run:
    """One batch: what is known of it while its tables are built one after the other."""

    def __init__(
        self,
        warehouse: Warehouse,
        setup: Setup,
        moment: datetime,
        run_id: str,
        relation: str,
        segment: str,
        as_of: datetime | None,
    ) -> None:
        self.warehouse = warehouse
        self.setup = setup
        self.now = Now(moment, read_switches(warehouse))
        self.rules = load_all(setup)
        self.situations = Situations(warehouse, setup, self.now, self.rules)
        self.run_id = run_id
        self.relation = relation
        self.segment = segment
        self.config = setups.config_hash(setup, self.rules, self.now.switches)
        self.as_of = naive_utc(as_of) if as_of is not None else _data_moment(warehouse)
        last = warehouse.value("select max(decided_at) from headwater.decision_log")
        self.decided_at = moment if last is None or moment > last else last + timedelta(microseconds=1)

    def run(self, dry_run: bool) -> Batch:
        considered, rejects = self.situations.collect(self.relation, self.segment)
        question = judged.asked(self.setup.settings.goal, self.as_of.isoformat(), self.config)
        settled = self.situations.judge(question)
        self.situations.buckets()
        self._choices(settled)
        self._draw(sure=all(len(one.choices) == 1 for one in settled))
        reservations = self._reserve()
        self._preview()
        make_table(
            self.warehouse,
            "decision_tallies",
            "select known, choice, ended, count(*) as customers from decision_drawn group by all",
        )
        result = self._count(considered, rejects, len(settled), dry_run)
        if not dry_run:
            self._write(settled, reservations)
        return result

    def _choices(self, settled: list[Settled]) -> None:
        rows = [(number, one, choice) for number, one in enumerate(settled) for choice in one.choices]
        segments = {action.action_id: action.segments for action in self.setup.table.actions}
        choices: list[Choice] = [choice for _, _, choice in rows]
        given_table(
            self.warehouse,
            "decision_given",
            {
                "choice": range(len(rows)),
                "situation": [number for number, _, _ in rows],
                "lower": [choice.lower for choice in choices],
                "upper": [choice.upper for choice in choices],
                "propensity": [choice.probability for choice in choices],
                "discount": [choice.discount for choice in choices],
                "action_id": [choice.action for choice in choices],
                "channel": [choice.channel for choice in choices],
                "template": [choice.template for choice in choices],
                "campaign": [choice.campaign for choice in choices],
                "segments": [segments.get(choice.action, ()) for choice in choices],
                "trace_id": [choice.trace.trace_id for choice in choices],
                "budget_trace": [choice.refused.trace_id for choice in choices],
                "final_check_trace": [choice.broken.trace_id for choice in choices],
                "blocked_by": [one.blocked_by if choice.action == NONE else None for _, one, choice in rows],
                "feasible_actions": [one.feasible for _, one, _ in rows],
                "probabilities": [one.probabilities for _, one, _ in rows],
                "policy": [one.policy for _, one, _ in rows],
                "policy_version": [one.policy_version for _, one, _ in rows],
            },
        )
        make_table(
            self.warehouse,
            "decision_choices",
            "select c.*, s.segment, s.in_holdout, s.usual from decision_given c join decision_situations s using (situation)",
        )

    def _draw(self, *, sure: bool) -> None:
        """Keys, draws and the final check, row by row. `sure`: no situation leaves a choice, so nothing needs to be drawn."""
        u = (
            "0.0"
            if sure
            else unit_sql(text_sql("sample"), text_sql(str(self.setup.settings.seed)), "s.idempotency_key")
        )
        final = self._final()
        broken = " or ".join(f"({sql.blocked})" for sql in final)
        lowered = " or ".join(f"{sql.discount} <> o.discount" for sql in final if sql.discount) or "false"
        make_table(
            self.warehouse,
            "decision_drawn",
            f"""with keyed as ({self._keyed()})
            select s.customer_id, s.idempotency_key, s.known, s.bucket, o.choice,
                case when o.action_id <> 'none' and (({broken}) or ({lowered})) then 'final_check' end as ended
            from (select *, {u} as u from keyed s) s
            join decision_choices o on o.situation = s.situation and s.u >= o.lower and s.u < o.upper""",
        )

    def _keyed(self) -> str:
        """`decision_facts` with each customer's key, and whether the customer's newest decision is this one already."""
        based = f"""select s.*, t.situation, t.blocks, b.bucket, {judged.key_sql("t.judged", "b.looked", "s.customer_id")} as base
            from decision_facts s
            join decision_standings t on t.standing = s.standing
            join decision_buckets b on b.look = s.look"""
        if not self.warehouse.value("select count(*) from headwater.decision_log"):
            return f"select * exclude (base, blocks), base as idempotency_key, false as known from ({based})"
        passing = ", ".join(text_sql(name) for name in sorted(judged.momentary(self.rules))) or "null"
        return f"""select * exclude (base, blocks, newest, older),
                case when known then newest.idempotency_key
                     when base in (select idempotency_key from headwater.decision_log)
                     then {judged.again_sql("base", "newest.decision_id")} else base end as idempotency_key
            from (
                select s.*, n.newest, coalesce(
                    n.newest.idempotency_key in (s.base, {judged.again_sql("s.base", "coalesce(n.older, '')")})
                    and not (coalesce(n.newest.blocked_by in ({passing}), false) and s.blocks is distinct from n.newest.blocked_by),
                    false) as known, n.older
                from ({based}) s
                left join (
                    select customer_id, last[1] as newest, last[2].decision_id as older from (
                        select customer_id, max_by(
                            struct_pack(decision_id := decision_id, idempotency_key := idempotency_key, blocked_by := blocked_by),
                            decided_at, 2) as last
                        from headwater.decision_log where run_id <> '{log.ON_DEMAND}' group by 1
                    )
                ) n on n.customer_id = s.customer_id
            )"""

    def _final(self) -> list[RuleSql]:
        """Step 13: the rules once more, read from the list afresh and judged on the customer's own row."""
        return [rule.sql(self.now) for rule in load_all(self.setup)]

    def _reserve(self) -> list[budget.Reservation]:
        """Step 12, in the order of the keys (which is no order of customers): who does not fit gets `none`."""
        current = budget.budgets(self.setup.settings, self.decided_at)
        if not current:
            return []
        ledger = WarehouseLedgers(self.warehouse)
        used = {b.name: ledger.used(b.name, b.period_start) - self._returnable(b) for b in current}
        priced = sorted({channel for b in current for channel, cost in b.costs.items() if cost})
        rows = self.warehouse.execute(
            f"""select d.rowid, {digest_sql("'decision'", "d.idempotency_key")}, c.channel
                from decision_drawn d join decision_choices c using (choice)
                where not d.known and d.ended is null and c.channel in ({", ".join(text_sql(p) for p in priced) or "null"})
                order by d.idempotency_key"""
        ).fetchall()
        found, refused = [], []
        for place, decision_id, channel in rows:
            reserved = budget.reserve(current, used, channel, decision_id)
            if reserved is None:
                refused.append(place)
            else:
                found += reserved
        if refused:
            with self.warehouse.relation("decision_refused", {"place": np.array(refused)}) as given:
                self.warehouse.execute(
                    f"update decision_drawn set ended = 'budget' where rowid in (select place from {given})"
                )
        return found

    def _returnable(self, current: budget.Budget) -> Decimal:
        """What this batch's decisions give back of a budget by superseding ones that were not sent."""
        return self.warehouse.value(
            f"""select coalesce(sum(b.amount), 0)::decimal(18,4) from headwater.budget_ledger b
               join headwater.decision_log l using (decision_id)
               semi join (select customer_id from decision_drawn where not known) d on d.customer_id = l.customer_id
               anti join headwater.contact_ledger k on k.decision_id = b.decision_id
               where b.budget = ? and b.period_start = ? and l.run_id <> '{log.ON_DEMAND}'""",
            [current.name, current.period_start],
        )

    def _preview(self) -> None:
        settings = self.setup.settings
        literal = {
            "decided_at": f"timestamp '{self.decided_at.isoformat(sep=' ')}'",
            "run_id": text_sql(self.run_id),
            "goal": text_sql(settings.goal),
            "seed": text_sql(str(settings.seed)),
            "config_hash": text_sql(self.config),
            "as_of": f"timestamp '{self.as_of.isoformat(sep=' ')}'",
        }
        done = "d.ended is null and c.action_id <> 'none'"
        computed = {
            "decision_id": digest_sql("'decision'", "d.idempotency_key"),
            "idempotency_key": "d.idempotency_key",
            "customer_id": "d.customer_id",
            "experiment_group": "case when c.in_holdout then 'holdout' when c.usual then 'business_as_usual' else 'treatment' end",
            "policy": "c.policy",
            "policy_version": "c.policy_version",
            "segment": "c.segment",
            "features": "b.features",
            "feasible_actions": "c.feasible_actions",
            "probabilities": "c.probabilities",
            "action": ACTION,
            "channel": f"case when {done} then c.channel end",
            "template": f"case when {done} then c.template end",
            "discount_pct": f"case when {done} then (c.discount / 100.0)::decimal(5,2) end",
            "propensity": "case when d.ended is null then c.propensity end",
            "trace_id": TRACE_ID,
            "blocked_by": BLOCKED_BY,
        }
        columns = ", ".join(f"{(literal | computed)[name]} as {name}" for name in log.COLUMNS)
        self.warehouse.execute(
            f"""create or replace temp view {PREVIEW} as select {columns}
                from decision_drawn d join decision_choices c using (choice) join decision_buckets b using (bucket)
                where not d.known"""
        )

    def _count(self, considered: int, rejects: dict[str, int], situations: int, dry_run: bool) -> Batch:
        rows = self.warehouse.execute(
            f"""select d.known, c.in_holdout, {ACTION}, {BLOCKED_BY}, sum(d.customers)::bigint
               from decision_tallies d join decision_choices c using (choice) where not d.known group by all
               union all
               select true, l.experiment_group = 'holdout', l.action, l.blocked_by, count(*)
               from headwater.decision_log l semi join (select * from decision_drawn where known) using (idempotency_key)
               group by all"""
        ).fetchall()
        by_action: dict[str, int] = {}
        blocked: dict[str, int] = {}
        for _, _, action, rule, count in rows:
            by_action[action] = by_action.get(action, 0) + count
            if rule is not None:
                blocked[rule] = blocked.get(rule, 0) + count
        decided = sum(count for known, *_, count in rows if not known)
        known = sum(count for known, *_, count in rows if known)
        alarms = blocked.get("final_check", 0)
        exposures = tuple(measure(self.warehouse, self._all(known)))
        return Batch(
            run_id=self.run_id,
            segment=self.segment,
            goal=self.setup.settings.goal,
            policy=self.setup.policy.name,
            policy_version=self.setup.policy.version,
            config_hash=self.config,
            as_of=self.as_of,
            decided_at=self.decided_at,
            dry_run=dry_run or self.warehouse.rehearsing,
            considered=considered,
            decided=decided,
            known=known,
            sent=self._sent() if known else 0,
            rejected=considered - decided - known,
            holdout=sum(count for _, held, *_, count in rows if held),
            situations=situations,
            alarms=alarms,
            by_action=dict(sorted(by_action.items())),
            blocked=dict(sorted(blocked.items())),
            rejects=rejects,
            exposures=exposures,
            last_contact=self.warehouse.execute(
                "select contacted_at, channel from headwater.contact_ledger order by contacted_at desc, channel limit 1"
            ).fetchone(),
            power=_power(decided + known, self.setup.settings.holdout_share),
            warnings=(*self._warnings(rejects, alarms), *(e.sentence for e in exposures if e.low)),
        )

    def _all(self, known: int) -> str:
        """Customer and action of every decision that holds now, new or not."""
        if not known:
            return PREVIEW
        return f"""(select customer_id, action from {PREVIEW} union all
            select l.customer_id, l.action from headwater.decision_log l
            semi join (select idempotency_key from decision_drawn where known) using (idempotency_key))"""

    def _sent(self) -> int:
        """How many of the decisions that stand have been released."""
        return self.warehouse.value(
            """select count(distinct l.decision_id) from headwater.decision_log l
               semi join (select idempotency_key from decision_drawn where known) using (idempotency_key)
               semi join headwater.contact_ledger k on k.decision_id = l.decision_id"""
        )

    def _warnings(self, rejects: dict[str, int], alarms: int) -> Iterator[str]:
        yield from self.now.switches.reasons
        if self.situations.nobody_agreed:
            yield NOBODY_AGREED
        for name, rows in rejects.items():
            yield f"{counted(rows, 'row has', 'rows have')} a {name} that cannot be used; see headwater.decision_rejects"
        if alarms:
            yield (
                f"ALARM: {alarms:,} chosen actions broke a rule at the final check and were set to none; "
                "a guardrail or the policy is faulty, look at blocked_by = 'final_check' in headwater.decision_log"
            )

    def _write(self, settled: list[Settled], reservations: list[budget.Reservation]) -> None:
        """Log, traces, reservations, rejects: one transaction."""
        asked = f"select distinct {TRACE_ID} from decision_tallies d join decision_choices c using (choice) where not d.known"
        used = {trace_id for (trace_id,) in self.warehouse.execute(asked).fetchall()}
        traces = {
            trace.trace_id: trace.text
            for one in settled
            for choice in one.choices
            for trace in (choice.trace, choice.refused, choice.broken)
            if trace.trace_id in used
        }
        moment = f"timestamp '{self.decided_at.isoformat(sep=' ')}'"
        with self.warehouse.transaction():
            log.insert_traces(self.warehouse, traces)
            self.warehouse.execute(
                f"insert into headwater.decision_log ({', '.join(log.COLUMNS)}) select * from {PREVIEW}"
            )
            return_superseded(self.warehouse, self.decided_at)
            insert_reservations(self.warehouse, reservations, self.decided_at)
            self.warehouse.execute(
                f"""insert into headwater.decision_rejects
                    select {moment}, {text_sql(self.run_id)}, customer_id, field, value, reason from decision_bad b
                    where not exists (
                        select 1 from headwater.decision_rejects r
                        where (r.customer_id, r.field, r.value, r.reason) is not distinct from (b.customer_id, b.field, b.value, b.reason)
                    )"""
            )
            failpoint("decide.written")


def _power(customers: int, holdout_share: float) -> str:
    if not 0 < round(customers * holdout_share) < customers:
        return f"Of {customers:,} customers none is held out, so no effect can be measured"
    return power(customers, holdout_share).sentence


def _data_moment(warehouse: Warehouse) -> datetime:
    as_of = warehouse.value("select max(as_of) from headwater.clock")
    if as_of is None:
        raise DataError("the clock is not set: run `headwater seed` first, it loads the files and sets it")
    return as_of
