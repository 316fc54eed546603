"""From a relation of customers to judged situations: the part of a batch where the rules speak SQL.

Each rule turns a customer into a few facts (booleans, small integers). Customers with the same facts form one situation; every
option is judged once per situation. Temporary tables:

    decision_facts       one row per good customer: id, segment, facts, features, and the hashes of the last two
    decision_bad         one row per bad field of a bad customer
    decision_situations  one row per distinct (segment, facts, features the policy reads)
    decision_options     one row per action and channel
    decision_standings   one row per situation: the first part of the key, and why nothing is done where nothing is
    decision_buckets     one row per distinct combination of features, with its JSON and the second part of the key
"""

from functools import cache
from typing import Any

from headwater.decisions import judged, log
from headwater.decisions.customer import COLUMNS, EMPTY_REASON, FEATURES, FLAGS, MARGIN_REASON, token, unknown_segment
from headwater.decisions.guardrails import CHANNEL_STEP
from headwater.decisions.guardrails.base import Guardrail, Now, RuleSql, Setup
from headwater.decisions.guardrails.holdout import in_holdout_sql, usual_sql
from headwater.decisions.hashing import text_sql
from headwater.decisions.settle import CHANNEL_ORDER, Settled, Verdict, options, settle
from headwater.errors import DataError
from headwater.warehouse import Warehouse

DOUBLE_REASON = "it stands in more than one row; one row per customer is needed"

TYPES = (
    dict.fromkeys(("position", "choice", "situation", "bucket", "discount"), "integer")
    | dict.fromkeys(("lower", "upper", "propensity"), "double")
    | dict.fromkeys(("features", "feasible_actions", "probabilities"), "json")
    | {"segments": ["varchar"]}
)
"""Types of columns that come from Python; the others are varchar."""


def table(warehouse: Warehouse, name: str, sql: str) -> None:
    """A temporary table from a select."""
    warehouse.execute(f"create or replace temp table {name} as {sql}")


def given_table(warehouse: Warehouse, name: str, columns: dict[str, Any]) -> None:
    """A temporary table from Python values."""
    rows, parameters = log.given(columns, TYPES)
    warehouse.execute(f"create or replace temp table {name} as select * from {rows}", parameters)


class Situations:
    """The facts of one relation under one setup at one moment. `key` are the columns that make a situation."""

    def __init__(self, warehouse: Warehouse, setup: Setup, now: Now, rules: list[Guardrail]) -> None:
        self.warehouse = warehouse
        self.setup = setup
        self.rules = rules
        self.sqls = [rule.sql(now) for rule in rules]
        facts = dict(item for sql in self.sqls for item in sql.facts.items())
        usual = usual_sql(setup.settings) if setup.usual else "false"
        self.facts = {"in_holdout": in_holdout_sql(setup.settings), "usual": usual} | facts
        self.reads = [name for name in FEATURES if name in setup.policy.features]
        self.key = ["segment", *self.facts, *self.reads]
        self.listed = options(setup.table)

    def collect(self, relation: str, segment: str) -> tuple[int, dict[str, int]]:
        """Fill `decision_facts` and `decision_bad`, reading the relation once; returns its rows, and bad ones by field.

        Raises DataError when the relation or a column of it is missing or of an unusable type.
        """
        source = self._source(relation, segment)
        joins = " ".join(join for sql in self.sqls for join in sql.joins)
        facts = [f"{expression} as {name}" for name, expression in self.facts.items()]
        columns = ", ".join(["c.customer_id", "c.segment", "c.margin_pct", *(f"c.{name}" for name in FEATURES), *facts])
        try:
            table(
                self.warehouse,
                "decision_facts",
                f"""select *, hash({", ".join(self.key)}) as standing, hash({", ".join(FEATURES)}) as look
                    from (select {columns} from ({source}) c {joins})""",
            )
        except Exception as error:
            raise DataError(
                f"the relation {relation} cannot be judged: {error}. Its columns must have the types of int_decision_candidates"
            ) from error
        return self._put_aside()

    def judge(self, question: str) -> list[Settled]:
        """Number the situations, judge every option in each, settle each; the list's index is the number. `question`: see
        `judged.asked`."""
        table(
            self.warehouse,
            "decision_situations",
            f"select (row_number() over (order by {', '.join(self.key)}) - 1)::integer as situation, * from"
            f" (select distinct standing, {', '.join(self.key)} from decision_facts)",
        )
        self._no_collision("decision_situations", "standing")
        self._options()
        verdicts = self._verdicts(self.rules)
        lasting = self._lasting(verdicts)
        columns = ", ".join(["segment", "usual", *self.reads])
        rows = self.warehouse.rows(f"select {columns} from decision_situations order by situation")
        goal = self.setup.settings.goal
        shared: dict[tuple, Settled] = {}
        found = []
        for row, verdict in zip(rows, verdicts, strict=True):
            features = {name: token(row.get(name)) for name in self.setup.policy.features}
            key = (row["segment"], row["usual"], tuple(features.values()), verdict)
            if key not in shared:
                shared[key] = settle(
                    self.setup, self.rules, goal, row["segment"], features, self.listed, verdict, usual=row["usual"]
                )
            found.append(shared[key])
        standings = [
            judged.first(question, judged.standing(row["segment"], kept))
            for row, kept in zip(rows, lasting, strict=True)
        ]
        given_table(
            self.warehouse,
            "decision_judged",
            {
                "situation": range(len(rows)),
                "judged": standings,
                "blocks": [one.blocked_by for one in found],
            },
        )
        table(
            self.warehouse,
            "decision_standings",
            "select s.standing, j.* from decision_situations s join decision_judged j using (situation)",
        )
        return found

    @property
    def nobody_agreed(self) -> bool:
        """Whether there are customers, and none of them has agreed to any channel."""
        flags = [name for name in self.facts if name.startswith("consent_")]
        if not flags:
            return False
        return self.warehouse.value(f"select not bool_or({' or '.join(flags)}) from decision_situations") or False

    def buckets(self) -> None:
        """Fill `decision_buckets`: each distinct combination of features as JSON, cleaned of all that is not a bucket."""
        names = ", ".join(FEATURES)
        table(self.warehouse, "decision_combinations", f"select distinct look, {names} from decision_facts")
        self._no_collision("decision_combinations", "look")
        rows = self.warehouse.execute(f"select look::varchar, {names} from decision_combinations").fetchall()
        texts = [{n: token(v) for n, v in zip(FEATURES, row[1:], strict=True)} for row in rows]
        looks = [judged.look(list(text.values())) for text in texts]
        columns = {"look": [row[0] for row in rows], "looked": looks, "features": texts}
        given_table(self.warehouse, "decision_looks", columns)
        table(
            self.warehouse,
            "decision_buckets",
            "select (row_number() over () - 1)::integer as bucket, look::ubigint as look, looked, features from decision_looks",
        )

    def _source(self, relation: str, segment: str) -> str:
        """A select of every column that is looked at, in its type; optional ones that are absent are null."""
        try:
            described = self.warehouse.execute(f"describe select * from {relation}").fetchall()
        except Exception as error:
            raise DataError(
                f"the relation {relation} cannot be read: {error}. Build it first: `headwater build`"
            ) from error
        present = {row[0] for row in described}
        missing = [name for name in ("customer_id", "segment", *FLAGS) if name not in present]
        if missing:
            raise DataError(
                f"the relation {relation} lacks {', '.join(missing)}; it has {', '.join(sorted(present))}. "
                "Decisions need the columns of int_decision_candidates"
            )
        kinds = dict.fromkeys(FLAGS, "boolean") | {"margin_pct": "double"}
        columns = []
        for name in COLUMNS:
            source = name if name in present else "null"
            columns.append(f"{source}::{kinds.get(name, 'varchar')} as {name}")
        where = "" if segment == "all" else f" where segment = {text_sql(segment)}"
        return f"select {', '.join(columns)} from {relation}{where}"

    def _put_aside(self) -> tuple[int, dict[str, int]]:
        """Move the bad rows from `decision_facts` to `decision_bad`."""
        segments = self.setup.table.segments
        known = ", ".join(text_sql(name) for name in segments)
        problems = [
            ("customer_id", "customer_id is null or trim(customer_id) = ''", EMPTY_REASON),
            ("segment", f"segment not in ({known})", unknown_segment(segments)),
            ("margin_pct", "not isfinite(margin_pct) or margin_pct > 100", MARGIN_REASON),
        ]
        wrong = " or ".join(f"coalesce({condition}, false)" for _, condition, _ in problems)
        total, distinct, bad = self.warehouse.execute(
            f"select count(*), count(distinct customer_id), count(*) filter ({wrong}) from decision_facts"
        ).fetchone() or (0, 0, 0)
        if distinct < total:
            twice = "select customer_id from decision_facts group by 1 having count(*) > 1 and customer_id is not null"
            table(self.warehouse, "decision_doubles", twice)
            problems.append(("customer_id", "customer_id in (from decision_doubles)", DOUBLE_REASON))
        selects = [
            f"select customer_id, {text_sql(name)} as field, {name}::varchar as value, {text_sql(reason)} as reason"
            f" from decision_facts where {wrong}"
            for name, wrong, reason in problems
        ]
        some = " union all ".join(selects)
        table(self.warehouse, "decision_bad", some if bad or distinct < total else f"{some} limit 0")
        by_field = dict(
            self.warehouse.execute("select field, count(*) from decision_bad group by 1 order by 1").fetchall()
        )
        if by_field:
            bad_row = " or ".join(f"coalesce({wrong}, false)" for _, wrong, _ in problems)
            self.warehouse.execute(f"delete from decision_facts where {bad_row}")
        return total, by_field

    def _no_collision(self, name: str, column: str) -> None:
        """Rows are joined by a hash of 64 bits; that two differ in it is checked, not hoped."""
        rows, different = self.warehouse.execute(
            f"select count(*), count(distinct {column}) from {name}"
        ).fetchone() or (0, 0)
        if rows != different:
            raise DataError(
                f"two rows of {name} have the same hash; decide for one segment at a time (SEGMENT=…) to get around it"
            )

    def _lasting(self, verdicts: list[tuple[Verdict, ...]]) -> list[tuple[Verdict, ...]]:
        """The verdicts of each situation as the lasting rules alone give them."""
        passing = judged.momentary(self.rules)
        rest = [rule for rule in self.rules if not rule.momentary]
        without = cache(lambda: self._verdicts(rest))
        return [
            judged.lasting(passing, verdict, lambda number=number: without()[number])
            for number, verdict in enumerate(verdicts)
        ]

    def _options(self) -> None:
        given_table(
            self.warehouse,
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

    def _verdicts(self, rules: list[Guardrail]) -> list[tuple[Verdict, ...]]:
        """What became of each option, one tuple per situation: rule after rule, as nested selects over (s, o, blocked_by)."""
        sql = "select s, o, null::varchar as blocked_by from decision_situations s cross join decision_options o"
        ordered = False
        for rule, rule_sql in zip(self.rules, self.sqls, strict=True):
            if rule not in rules:
                continue
            if not ordered and rule.step > CHANNEL_STEP:
                sql = FIRST_CHANNEL.format(sql=sql)
                ordered = True
            sql = _applied(rule, rule_sql, sql)
        rows = self.warehouse.execute(
            f"select s.situation, blocked_by, o.discount from ({sql}) order by s.situation, o.position"
        ).fetchall()
        width = len(self.listed)
        return [
            tuple((by, discount) for _, by, discount in rows[start : start + width])
            for start in range(0, len(rows), width)
        ]


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
