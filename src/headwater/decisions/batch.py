"""A whole relation of customers at once: the rules as SQL, the same answer as `Decider` on every row.

How it stays quick: each rule turns a customer into a few facts (booleans, small integers). Customers with the same facts form
one situation; rules, policy and trace are worked out once per situation and the rows then only draw. Tables, all temporary:

    decision_facts       one row per good customer: id, segment, facts, features
    decision_situations  one row per distinct (segment, facts, features the policy reads)
    decision_choices     one row per situation and action with a probability above 0
    decision_buckets     one row per distinct combination of features, with its JSON
    decision_drawn       one row per customer: key, choice, and whether the key is known already
    decision_preview     (view) one row per new decision, columns of `decision_log`

What it writes, in one transaction: log, traces, reservations, rejects. A kill before the commit leaves nothing. The decisions
are proposals: contacts are written when activation releases them (send.py). A newer decision for a customer supersedes the
older one; what the older one had reserved and not sent is given back.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

import numpy as np

from headwater.clock import Clock, naive_utc
from headwater.decisions import budget, inputs, log
from headwater.decisions import setup as setups
from headwater.decisions.customer import COLUMNS, FEATURES, FLAGS, MARGIN_REASON, token, unknown_segment
from headwater.decisions.guardrails import CHANNEL_STEP, load_all
from headwater.decisions.guardrails.base import Guardrail, Now, RuleSql, Setup
from headwater.decisions.guardrails.holdout import in_holdout_sql
from headwater.decisions.hashing import digest_sql, text_sql, unit_sql
from headwater.decisions.ledgers import WarehouseLedgers, insert_reservations, read_switches
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.settle import CHANNEL_ORDER, Choice, Settled, Verdict, compact, options, settle
from headwater.decisions.setup import UNSET
from headwater.decisions.table import NONE, Table
from headwater.errors import DataError
from headwater.failpoint import failpoint
from headwater.warehouse import Warehouse

PREVIEW = "decision_preview"
TYPES = (
    dict.fromkeys(("position", "choice", "situation", "bucket", "discount"), "integer")
    | dict.fromkeys(("lower", "upper", "propensity"), "double")
    | {"segments": ["varchar"]}
)


@dataclass(frozen=True)
class Batch:
    """What a batch did, or with `dry_run` would do. Counts are of customers.

    `considered` = `decided` + `known` + `rejected`: decided now; already decided under the same key; unusable. `by_action` and
    `blocked` (rule → customers who get `none` because of it) cover decided and known alike. `relation` holds the new rows with
    the columns of `decision_log` until the next batch on this connection.
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
    rejected: int
    holdout: int
    situations: int
    alarms: int
    by_action: dict[str, int]
    blocked: dict[str, int]
    rejects: dict[str, int]
    relation: str = PREVIEW
    warnings: tuple[str, ...] = field(default_factory=tuple)

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        done = sum(count for action, count in self.by_action.items() if action != NONE)
        verb = "would get" if self.dry_run else "get"
        return (
            f"{done:,} of {self.considered:,} customers {verb} an action, {self.holdout:,} are held out, "
            f"{self.decided:,} decisions are new, {self.rejected:,} rows could not be used"
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
    setup = setups.make(settings, table, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
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
        self.sqls = [rule.sql(self.now) for rule in self.rules]
        self.run_id = run_id
        self.relation = relation
        self.segment = segment
        self.config = setups.config_hash(setup, self.rules, self.now.switches)
        self.as_of = naive_utc(as_of) if as_of is not None else _data_moment(warehouse)
        last = warehouse.value("select max(decided_at) from headwater.decision_log")
        self.decided_at = moment if last is None or moment > last else last + timedelta(microseconds=1)
        self.listed = options(setup.table)
        self.facts = dict(item for sql in self.sqls for item in sql.facts.items())
        self.facts.setdefault("in_holdout", in_holdout_sql(setup.settings))
        self.reads = [name for name in FEATURES if name in setup.policy.features]
        self.key = ["segment", *self.facts, *self.reads]

    def run(self, dry_run: bool) -> Batch:
        self._candidates()
        considered, rejects = self._rejects()
        self._facts()
        settled = self._situations()
        self._choices(settled)
        self._buckets()
        self._draw()
        reservations = self._reserve()
        self._preview()
        result = self._count(considered, rejects, len(settled), dry_run)
        if not dry_run:
            self._write(settled, reservations)
        return result

    def _table(self, name: str, sql: str) -> None:
        self.warehouse.execute(f"create or replace temp table {name} as {sql}")

    def _given(self, name: str, columns: dict[str, Any]) -> None:
        rows, parameters = log.given(columns, TYPES)
        self.warehouse.execute(f"create or replace temp table {name} as select * from {rows}", parameters)

    def _candidates(self) -> None:
        """The relation with every column that is looked at, in its type; optional ones that are absent are null."""
        try:
            described = self.warehouse.execute(f"describe select * from {self.relation}").fetchall()
        except Exception as error:
            raise DataError(
                f"the relation {self.relation} cannot be read: {error}. Build it first: `headwater build`"
            ) from error
        present = {row[0] for row in described}
        missing = [name for name in ("customer_id", "segment", *FLAGS) if name not in present]
        if missing:
            raise DataError(
                f"the relation {self.relation} lacks {', '.join(missing)}; it has {', '.join(sorted(present))}. "
                "Decisions need the columns of int_decision_candidates"
            )
        kinds = dict.fromkeys(FLAGS, "boolean") | {"margin_pct": "double"}
        columns = []
        for name in COLUMNS:
            source = name if name in present else "null"
            columns.append(f"{source}::{kinds.get(name, 'varchar')} as {name}")
        where = "" if self.segment == "all" else f" where segment = {text_sql(self.segment)}"
        self.warehouse.execute(
            f"create or replace temp view decision_candidates as select {', '.join(columns)} from {self.relation}{where}"
        )

    def _rejects(self) -> tuple[int, dict[str, int]]:
        """Put the bad rows into `decision_bad`, one row per bad field; returns rows in all, and bad ones by field."""
        total, distinct = self.warehouse.execute(
            "select count(*), count(distinct customer_id) from decision_candidates"
        ).fetchone() or (0, 0)
        self._table(
            "decision_doubles",
            "select customer_id from decision_candidates where customer_id is not null group by 1 having count(*) > 1"
            if distinct < total
            else "select null::varchar as customer_id where false",
        )
        segments = self.setup.table.segments
        known = ", ".join(text_sql(name) for name in segments)
        twice = "c.customer_id in (from decision_doubles)" if distinct < total else "false"
        problems = [
            ("customer_id", "c.customer_id is null or trim(c.customer_id) = ''", EMPTY_REASON),
            ("customer_id", twice, DOUBLE_REASON),
            ("segment", f"c.segment not in ({known})", unknown_segment(segments)),
            ("margin_pct", "not isfinite(c.margin_pct) or c.margin_pct > 100", MARGIN_REASON),
        ]
        self.bad = " or ".join(f"coalesce({wrong}, false)" for _, wrong, _ in problems)
        selects = [
            f"select c.customer_id, {text_sql(name)} as field, c.{name}::varchar as value, {text_sql(reason)} as reason"
            f" from decision_candidates c where {wrong}"
            for name, wrong, reason in problems
            if wrong != "false"
        ]
        self._table("decision_bad", " union all ".join(selects))
        by_field = self.warehouse.execute("select field, count(*) from decision_bad group by 1 order by 1").fetchall()
        return total, dict(by_field)

    def _facts(self) -> None:
        joins = " ".join(join for sql in self.sqls for join in sql.joins)
        facts = [f"{expression} as {name}" for name, expression in self.facts.items()]
        columns = ", ".join(["c.customer_id", "c.segment", *(f"c.{name}" for name in FEATURES), *facts])
        self._table("decision_facts", f"select {columns} from decision_candidates c {joins} where not ({self.bad})")

    def _situations(self) -> list[Settled]:
        """Number the situations, judge every option in each, settle each; the list's index is the number."""
        self._table(
            "decision_situations",
            f"select (row_number() over (order by {', '.join(self.key)}) - 1)::integer as situation, * from"
            f" (select distinct {', '.join(self.key)} from decision_facts)",
        )
        verdicts = self._verdicts()
        columns = ", ".join(["segment", *self.reads])
        rows = self.warehouse.rows(f"select {columns} from decision_situations order by situation")
        goal = self.setup.settings.goal
        shared: dict[tuple, Settled] = {}
        found = []
        for row, judged in zip(rows, verdicts, strict=True):
            features = {name: token(row.get(name)) for name in self.setup.policy.features}
            key = (row["segment"], tuple(features.values()), judged)
            if key not in shared:
                shared[key] = settle(self.setup, self.rules, goal, row["segment"], features, self.listed, judged)
            found.append(shared[key])
        return found

    def _verdicts(self) -> list[tuple[Verdict, ...]]:
        """What became of each option, one tuple per situation: rule after rule, as nested selects over (s, o, blocked_by)."""
        sql = "select s, o, null::varchar as blocked_by from decision_situations s cross join decision_options o"
        ordered = False
        for rule, rule_sql in zip(self.rules, self.sqls, strict=True):
            if not ordered and rule.step > CHANNEL_STEP:
                sql = FIRST_CHANNEL.format(sql=sql)
                ordered = True
            sql = _applied(rule, rule_sql, sql)
        self._given(
            "decision_options",
            {
                "position": range(len(self.listed)),
                "action_id": [option.action.action_id for option in self.listed],
                "channel": [option.channel for option in self.listed],
                "campaign": [option.action.campaign for option in self.listed],
                "discount": [option.discount for option in self.listed],
                "segments": [option.action.segments for option in self.listed],
            },
        )
        rows = self.warehouse.execute(
            f"select s.situation, blocked_by, o.discount from ({sql}) order by s.situation, o.position"
        ).fetchall()
        width = len(self.listed)
        return [
            tuple((by, discount) for _, by, discount in rows[start : start + width])
            for start in range(0, len(rows), width)
        ]

    def _choices(self, settled: list[Settled]) -> None:
        rows = [(number, one, choice) for number, one in enumerate(settled) for choice in one.choices]
        segments = {action.action_id: action.segments for action in self.setup.table.actions}
        choices: list[Choice] = [choice for _, _, choice in rows]
        self._given(
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
                "feasible_actions": [one.feasible_text for _, one, _ in rows],
                "probabilities": [one.probabilities_text for _, one, _ in rows],
            },
        )
        self._table(
            "decision_choices",
            "select c.*, s.segment, s.in_holdout from decision_given c join decision_situations s using (situation)",
        )

    def _buckets(self) -> None:
        """Number the distinct combinations of features and write each as JSON, cleaned of everything that is not a bucket."""
        names = ", ".join(FEATURES)
        self._table(
            "decision_combinations",
            f"select (row_number() over () - 1)::integer as bucket, {names} from (select distinct {names} from decision_facts)",
        )
        rows = self.warehouse.execute(f"select {names} from decision_combinations order by bucket").fetchall()
        texts = [compact({n: token(v) for n, v in zip(FEATURES, row, strict=True)}) for row in rows]
        self._given("decision_buckets", {"bucket": range(len(rows)), "features": texts})

    def _draw(self) -> None:
        """Keys, draws and the final check, row by row."""
        settings = self.setup.settings
        key = digest_sql(
            *(text_sql(part) for part in ("key", settings.goal, self.as_of.isoformat(), self.config)),
            "coalesce(s.segment, '')",
            "s.customer_id",
        )
        same = " and ".join(f"s.{name} is not distinct from t.{name}" for name in self.key)
        alike = " and ".join(f"s.{name} is not distinct from b.{name}" for name in FEATURES)
        u = unit_sql(text_sql("sample"), text_sql(str(settings.seed)), "s.idempotency_key")
        broken = " or ".join(f"({sql.blocked})" for sql in self._final())
        lowered = " or ".join(f"{sql.discount} <> o.discount" for sql in self._final() if sql.discount)
        self._table(
            "decision_drawn",
            f"""with keyed as (select *, {key} as idempotency_key from decision_facts s),
            drawn as (
                select s.*, t.situation, b.bucket, {u} as u
                from keyed s
                join decision_situations t on {same}
                join decision_combinations b on {alike}
            )
            select row_number() over () as number, s.customer_id, s.idempotency_key, s.bucket, o.choice,
                s.idempotency_key in (select idempotency_key from headwater.decision_log) as known,
                case when o.action_id <> 'none' and (({broken}) or ({lowered or "false"})) then 'final_check' end as ended
            from drawn s join decision_choices o on o.situation = s.situation and s.u >= o.lower and s.u < o.upper""",
        )

    def _final(self) -> list[RuleSql]:
        """The rules as read afresh from the list, for step 13."""
        return [rule.sql(self.now) for rule in load_all(self.setup)]

    def _reserve(self) -> list[budget.Reservation]:
        """Step 12, in the order of the keys (which is no order of customers): who does not fit gets `none`."""
        current = budget.budgets(self.setup.settings, self.decided_at)
        if not current:
            return []
        ledger = WarehouseLedgers(self.warehouse)
        used = {b.name: ledger.used(b.name, b.period_start) for b in current}
        priced = sorted({channel for b in current for channel, cost in b.costs.items() if cost})
        rows = self.warehouse.execute(
            f"""select d.number, {digest_sql("'decision'", "d.idempotency_key")}, c.channel
                from decision_drawn d join decision_choices c using (choice)
                where not d.known and d.ended is null and c.channel in ({", ".join(text_sql(p) for p in priced) or "null"})
                order by d.idempotency_key"""
        ).fetchall()
        found, refused = [], []
        for number, decision_id, channel in rows:
            reserved = budget.reserve(current, used, channel, decision_id)
            if reserved is None:
                refused.append(number)
            else:
                found += reserved
        if refused:
            with self.warehouse.relation("decision_refused", {"number": np.array(refused)}) as numbers:
                self.warehouse.execute(
                    f"update decision_drawn set ended = 'budget' where number in (select number from {numbers})"
                )
        return found

    def _preview(self) -> None:
        settings, policy = self.setup.settings, self.setup.policy
        literal = {
            "decided_at": f"timestamp '{self.decided_at.isoformat(sep=' ')}'",
            "run_id": text_sql(self.run_id),
            "goal": text_sql(settings.goal),
            "policy": text_sql(policy.name),
            "policy_version": text_sql(policy.version),
            "seed": text_sql(str(settings.seed)),
            "config_hash": text_sql(self.config),
        }
        done = "d.ended is null and c.action_id <> 'none'"
        computed = {
            "decision_id": digest_sql("'decision'", "d.idempotency_key"),
            "idempotency_key": "d.idempotency_key",
            "customer_id": "d.customer_id",
            "experiment_group": "case when c.in_holdout then 'holdout' else 'treatment' end",
            "segment": "c.segment",
            "features": "b.features",
            "feasible_actions": "c.feasible_actions",
            "probabilities": "c.probabilities",
            "action": "case when d.ended is null then c.action_id else 'none' end",
            "channel": f"case when {done} then c.channel end",
            "template": f"case when {done} then c.template end",
            "discount_pct": f"case when {done} then (c.discount / 100.0)::decimal(5,2) end",
            "propensity": "case when d.ended is null then c.propensity end",
            "trace_id": "case d.ended when 'budget' then c.budget_trace when 'final_check' then c.final_check_trace else c.trace_id end",
            "blocked_by": "coalesce(d.ended, c.blocked_by)",
        }
        columns = ", ".join(f"{(literal | computed)[name]} as {name}" for name in log.COLUMNS)
        self.warehouse.execute(
            f"""create or replace temp view {PREVIEW} as select {columns}
                from decision_drawn d join decision_choices c using (choice) join decision_buckets b using (bucket)
                where not d.known"""
        )

    def _count(self, considered: int, rejects: dict[str, int], situations: int, dry_run: bool) -> Batch:
        rows = self.warehouse.execute(
            """select d.known, c.in_holdout, case when d.ended is null then c.action_id else 'none' end,
                   coalesce(d.ended, c.blocked_by), count(*)
               from decision_drawn d join decision_choices c using (choice) where not d.known group by all
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
        return Batch(
            run_id=self.run_id,
            segment=self.segment,
            goal=self.setup.settings.goal,
            policy=self.setup.policy.name,
            policy_version=self.setup.policy.version,
            config_hash=self.config,
            as_of=self.as_of,
            decided_at=self.decided_at,
            dry_run=dry_run,
            considered=considered,
            decided=decided,
            known=known,
            rejected=considered - decided - known,
            holdout=sum(count for _, held, *_, count in rows if held),
            situations=situations,
            alarms=alarms,
            by_action=dict(sorted(by_action.items())),
            blocked=dict(sorted(blocked.items())),
            rejects=rejects,
            warnings=tuple(self._warnings(rejects, alarms)),
        )

    def _warnings(self, rejects: dict[str, int], alarms: int) -> Iterator[str]:
        yield from self.now.switches.reasons
        for name, count in rejects.items():
            yield f"{count:,} rows have a {name} that cannot be used; they are in headwater.decision_rejects"
        if alarms:
            yield (
                f"ALARM: {alarms:,} chosen actions broke a rule at the final check and were set to none; "
                "a guardrail or the policy is faulty, look at blocked_by = 'final_check' in headwater.decision_log"
            )

    def _write(self, settled: list[Settled], reservations: list[budget.Reservation]) -> None:
        """Log, traces, reservations, rejects: one transaction."""
        traces = {
            trace.trace_id: trace.text
            for one in settled
            for choice in one.choices
            for trace in (choice.trace, choice.refused, choice.broken)
        }
        moment = f"timestamp '{self.decided_at.isoformat(sep=' ')}'"
        with self.warehouse.transaction():
            log.insert_traces(self.warehouse, traces)
            self.warehouse.execute(
                f"insert into headwater.decision_log ({', '.join(log.COLUMNS)}) select * from {PREVIEW}"
            )
            give_back(self.warehouse, self.decided_at)
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


def give_back(warehouse: Warehouse, moment: datetime) -> None:
    """Return what superseded decisions reserved and never sent, by a negative row each. Once: a balance of 0 is left alone."""
    if not warehouse.value("select count(*) from headwater.budget_ledger"):
        return
    warehouse.execute(
        f"""insert into headwater.budget_ledger (reservation_id, budget, period_start, decision_id, amount, reserved_at)
            select {digest_sql("'returned'", "any_value(b.budget)", "b.decision_id")}, b.budget, b.period_start, b.decision_id,
                -sum(b.amount), timestamp '{moment.isoformat(sep=" ")}'
            from headwater.budget_ledger b
            join headwater.decision_log l using (decision_id)
            join (select customer_id, max(decided_at) as newest from headwater.decision_log group by 1) n
                on n.customer_id = l.customer_id and n.newest > l.decided_at
            anti join headwater.contact_ledger k on k.decision_id = b.decision_id
            group by b.budget, b.period_start, b.decision_id
            having sum(b.amount) > 0"""
    )


EMPTY_REASON = "it is empty; every customer needs an id"
DOUBLE_REASON = "it stands in more than one row; one row per customer is needed"

FIRST_CHANNEL = f"""select s, o, case
        when blocked_by is null
            and o.position > min(o.position) filter (where blocked_by is null) over (partition by s.situation, o.action_id)
        then '{CHANNEL_ORDER}' else blocked_by end as blocked_by
    from ({{sql}})"""


def _applied(rule: Guardrail, sql: RuleSql, before: str) -> str:
    """The nested select after one more rule."""
    blocked = f"blocked_by is null and ({sql.blocked})"
    option = "o"
    if sql.discount:
        lowered = f"case when blocked_by is null and not ({sql.blocked}) then {sql.discount} else o.discount end"
        option = f"struct_update(o, discount := {lowered}) as o"
    return f"select s, {option}, case when {blocked} then {text_sql(rule.name)} else blocked_by end as blocked_by from ({before})"


def _data_moment(warehouse: Warehouse) -> datetime:
    as_of = warehouse.value("select max(as_of) from headwater.clock")
    if as_of is None:
        raise DataError("the clock is not set: run `headwater seed` first, it loads the files and sets it")
    return as_of
