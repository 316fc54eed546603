"""Which outcome belongs to which decision, and when a decision's window has closed.

A decision **opens a window** (as long as its goal says) when the policy had a choice: more than `none` was feasible. Decisions
for the same customer and goal that fall into it open none of their own: the first one stands for what followed from it, so
windows of a customer never overlap and no outcome is told twice. A decision that another replaced within the hour, before
anything was sent, opens none: it never came into force.

An outcome belongs to **at most one** decision: the newest window of the customer that holds its moment (start ≤ moment < end),
whose goal counts its kind, and, where the outcome names a campaign or a decision, that is that one. An outcome whose newest
window is still open waits for it and is not given to an older one.

A window has closed when the data's moment (`headwater.clock`) has passed its end. Everything is worked out anew each time from
the log and what was observed, and replaced as a whole: outcomes that arrive late count, and running it twice changes nothing.
"""

import json
from dataclasses import dataclass
from datetime import datetime

from headwater.decisions.hashing import digest_sql, text_sql
from headwater.decisions.log import ON_DEMAND
from headwater.decisions.outcomes import observed
from headwater.decisions.settings import DecisionSettings, GoalSettings
from headwater.decisions.situations import table
from headwater.errors import DataError
from headwater.failpoint import failpoint
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

REPLACED_WITHIN = "1 hour"

ASKED_FOR = f"coalesce(l.run_id = {text_sql(ON_DEMAND)}, false)"
"""Condition on `decision_log l`: somebody asked for it over HTTP, and carries it out himself."""

CHOICE = "l.experiment_group <> 'holdout' and json_array_length(l.feasible_actions) > 1"
"""Condition on `decision_log l`: the policy had a choice."""


@dataclass(frozen=True)
class Attributed:
    """What was found. `decisions` = `no_choice` + `replaced` + `inside` + `closed` + `open`. `outcomes` = `attributed` (to a
    closed window) + `waiting` (in an open one) + `unattributed`."""

    as_of: datetime
    decisions: int
    no_choice: int
    replaced: int
    inside: int
    closed: int
    open: int
    outcomes: int
    attributed: int
    waiting: int
    unattributed: int

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        return (
            f"{counted(self.closed, 'window has', 'windows have')} closed, {self.open:,} still open; "
            f"{counted(self.attributed, 'outcome belongs', 'outcomes belong')} to them, {self.waiting:,} wait for an open window"
        )


def attribute(warehouse: Warehouse, settings: DecisionSettings) -> Attributed:
    """Replace `outcome_log` and `outcome_attributions` by what the log and the outcomes say now.

    Raises DataError when the clock is not set.
    """
    as_of = data_moment(warehouse)
    reasons = windows(warehouse, settings, "decision_windows", CHOICE)
    closed = f"w.window_end <= timestamp '{as_of.isoformat(sep=' ')}'"
    table(warehouse, "outcomes_seen", observed(warehouse, settings))
    table(
        warehouse,
        "outcomes_given",
        f"""select o.outcome_id, o.kind, o.customer_id, o.value, o.occurred_at, w.decision_id, {closed} as is_closed
            from outcomes_seen o join decision_windows w on w.customer_id = o.customer_id
                and o.occurred_at >= w.window_start and o.occurred_at < w.window_end
                and {_counts(settings)}
                and (o.decision_id is null or o.decision_id = w.decision_id or o.decision_id in (
                    select decision_id from decision_inside i where i.opened_by = w.decision_id))
                and (o.campaign is null or o.campaign in (w.template, w.campaign))
            where o.customer_id is not null
            qualify row_number() over (partition by o.outcome_id, o.kind, o.customer_id
                order by w.window_start desc, w.decision_id desc) = 1""",
    )
    stamp = f"timestamp '{as_of.isoformat(sep=' ')}'"
    with warehouse.transaction():
        warehouse.execute("delete from headwater.outcome_attributions")
        warehouse.execute(
            """insert into headwater.outcome_attributions
               select outcome_id, kind, customer_id, decision_id, value, occurred_at from outcomes_given where is_closed"""
        )
        warehouse.execute("delete from headwater.outcome_log")
        warehouse.execute(
            f"""insert into headwater.outcome_log
                    (outcome_id, decision_id, customer_id, goal, value, window_start, window_end, recorded_at, metrics)
                select {digest_sql("'closed'", "w.decision_id")}, w.decision_id, w.customer_id, w.goal, {_reward(settings)},
                    w.window_start, w.window_end, {stamp}, {_metrics(settings)}
                from decision_windows w left join outcomes_given o using (decision_id)
                where {closed}
                group by w.decision_id, w.customer_id, w.goal, w.window_start, w.window_end"""
        )
        failpoint("outcomes.written")
    seen, given, ended = warehouse.execute(
        """select (select count(*) from outcomes_seen), count(*), count(*) filter (is_closed) from outcomes_given"""
    ).fetchone() or (0, 0, 0)
    opened, done = warehouse.execute(
        f"select count(*), count(*) filter ({closed}) from decision_windows w"
    ).fetchone() or (0, 0)
    total = warehouse.value("select count(*) from headwater.decision_log")
    return Attributed(
        as_of=as_of, decisions=total, no_choice=reasons["no_choice"], replaced=reasons["replaced"], inside=reasons["inside"],
        closed=done, open=opened - done, outcomes=seen, attributed=ended, waiting=given - ended, unattributed=seen - given,
    )  # fmt: skip


def windows(warehouse: Warehouse, settings: DecisionSettings, name: str, choice: str) -> dict[str, int]:
    """Fill the temporary table `name` with the windows of the decisions that fulfil `choice` (a condition on `decision_log l`):
    decision_id, customer_id, goal, experiment_group, segment, template, campaign, window_start, window_end; and
    `decision_inside` with what fell into one (decision_id, opened_by).

    Returns how many decisions open none, by reason: no_choice, replaced, inside.
    """
    lengths = " ".join(f"when {text_sql(goal)} then {one.window_days}" for goal, one in settings.goals.items())
    table(
        warehouse,
        "window_candidates",
        f"""select decision_id, customer_id, goal, experiment_group, segment, template, campaign,
                decided_at as window_start, decided_at + to_days(case goal {lengths} end) as window_end, has_choice,
                not sent and coalesce(next_at < decided_at + interval '{REPLACED_WITHIN}', false) as replaced
            from (
                select l.*, k.campaign, k.decision_id is not null or {ASKED_FOR} as sent, {choice} as has_choice,
                    lead(l.decided_at) over (partition by l.customer_id, l.goal, {ASKED_FOR} order by l.decided_at) as next_at
                from headwater.decision_log l
                left join (select decision_id, min(campaign) as campaign from headwater.contact_ledger group by 1) k
                    on k.decision_id = l.decision_id
            )""",
    )
    no_choice, replaced = warehouse.execute(
        "select count(*) filter (not has_choice), count(*) filter (has_choice and replaced) from window_candidates"
    ).fetchone() or (0, 0)
    warehouse.execute("delete from window_candidates where replaced or not has_choice")
    table(warehouse, name, "select * exclude (has_choice, replaced) from window_candidates limit 0")
    table(warehouse, "decision_inside", "select decision_id, decision_id as opened_by from window_candidates limit 0")
    inside = 0
    while warehouse.value("select count(*) from window_candidates"):  # one turn per window that a customer has, at most
        table(
            warehouse,
            "windows_opened",
            """select * exclude (has_choice, replaced) from window_candidates
               qualify row_number() over (partition by customer_id, goal order by window_start, decision_id) = 1""",
        )
        warehouse.execute(f"insert into {name} select * from windows_opened")
        warehouse.execute(
            """insert into decision_inside select c.decision_id, w.decision_id from window_candidates c
               join windows_opened w on w.customer_id = c.customer_id and w.goal = c.goal
                   and c.window_start < w.window_end and c.decision_id <> w.decision_id"""
        )
        warehouse.execute(
            """delete from window_candidates c using windows_opened w
               where w.customer_id = c.customer_id and w.goal = c.goal and c.window_start < w.window_end"""
        )
    inside = warehouse.value("select count(*) from decision_inside")
    return {"no_choice": no_choice, "replaced": replaced, "inside": inside}


def data_moment(warehouse: Warehouse) -> datetime:
    """The moment up to which outcomes are known. Raises DataError before the first `seed`."""
    as_of = warehouse.value("select max(as_of) from headwater.clock")
    if as_of is None:
        raise DataError(
            "the clock is not set, so no window can close: run `headwater seed` first, it loads the files and sets it"
        )
    return as_of


def reward_sql(goal: GoalSettings) -> str:
    """SQL of a goal's reward, an aggregate over rows `o` of outcomes; 0 without any."""
    kinds = ", ".join(text_sql(kind) for kind in goal.outcomes)
    if goal.reward == "value":
        return f"coalesce(sum(o.value) filter (o.kind in ({kinds})), 0)::decimal(18,4)"
    made = f"count(*) filter (o.kind in ({kinds}) and not (o.kind = 'order' and o.value < 0))"  # a return is no order
    return f"{made}::decimal(18,4)" if goal.reward == "count" else f"({made} > 0)::integer::decimal(18,4)"


def _counts(settings: DecisionSettings) -> str:
    """Whether the goal of window `w` counts outcome `o`, as reward or as guardrail metric."""
    cases = []
    for name, goal in settings.goals.items():
        kinds = ", ".join(text_sql(kind) for kind in sorted({*goal.outcomes, *goal.guardrail_metrics}))
        cases.append(f"when {text_sql(name)} then o.kind in ({kinds})")
    return f"case w.goal {' '.join(cases)} end"


def _reward(settings: DecisionSettings) -> str:
    cases = [f"when {text_sql(name)} then {reward_sql(goal)}" for name, goal in settings.goals.items()]
    return f"case w.goal {' '.join(cases)} end"


def _metrics(settings: DecisionSettings) -> str:
    """A JSON object: guardrail metric of the goal → how often it happened in the window."""
    cases = []
    for name, goal in settings.goals.items():
        pairs = ", ".join(
            f"{text_sql(metric)}, count(*) filter (o.kind = {text_sql(metric)})" for metric in goal.guardrail_metrics
        )
        cases.append(f"when {text_sql(name)} then json_object({pairs})")
    return f"case w.goal {' '.join(cases)} end"


def metrics_of(text: str | None) -> dict[str, float]:
    """Guardrail metrics as `outcome_log.metrics` keeps them."""
    return {name: float(value) for name, value in json.loads(text or "{}").items()}
