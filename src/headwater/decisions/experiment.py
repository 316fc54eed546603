"""What deciding brought: customers who were decided for against those who were held out, and against business as usual.

The groups are drawn by hash of customer and salt and stay what they are: a customer never changes sides. Compared are all
customers who **could** have got something (they are in a segment and agreed to be written to), whether or not they did: dropping
those who were not reached from one side only would compare different people. A customer counts once, from the first decision on,
for as long as the goal says, once that time is over.

    lift            difference of the means of the reward per customer, with the ordinary interval and one that stays valid
                    however often one looks (sequential.py)
    sample ratio    chi-square of the groups' sizes; below p = .001 nothing is concluded
    detectable      the smallest difference that groups of these sizes find with 80 % power: no effect below it can be seen
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

from headwater.decisions import attribution
from headwater.decisions.health import Check, sample_ratio
from headwater.decisions.outcomes import observed
from headwater.decisions.power import power
from headwater.decisions.sequential import safe_interval
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.situations import table
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

Z = 1.959963984540054
FOUND = 2.8015851
"""So many standard errors a true difference must have to be found with 80 % power at the 5 % level."""
REWARD = "reward"
ALL = "all"
COULD = "l.segment is not null and coalesce(l.blocked_by, '') not in ('kill_switch', 'consent')"
"""Condition on `decision_log l`: no rule that comes before the holdout stood in the way, so it is the same in all groups."""

PAIRS = (("treatment", "holdout"), ("treatment", "business_as_usual"), ("business_as_usual", "holdout"))
CANDIDATES = "main.int_decision_candidates"
LEAST_CUSTOMERS = 30
"""In each group; below it the normal approximation of an interval means nothing, and none is given."""
POINTS = "points"
"""The unit of a difference between shares; every other unit is an amount."""


def written(value: float, *, share: bool, sign: bool = True) -> str:
    """A difference as it is read everywhere: `+7.5 points` of a share, `−0.25` of an amount; without `sign` the value itself, `9.7%`."""
    text = f"{value * 100:{'+' if sign else ''}.1f}" if share else f"{value:{'+' if sign else ''},.2f}"
    return text.replace("-", "\u2212") + ("" if not share else f" {POINTS}" if sign else "%")


def interval(low: float, high: float, *, share: bool) -> str:
    """`[−1.0, +16.0]`, in the unit of what stands before it."""
    return f"[{', '.join(written(end, share=share).removesuffix(f' {POINTS}') for end in (low, high))}]"


def why_none(customers_a: int, customers_b: int) -> str:
    """Why two groups of these sizes have no interval."""
    fewer = min(customers_a, customers_b) < LEAST_CUSTOMERS
    return (
        f"too few to compare, {LEAST_CUSTOMERS} in each group are needed"
        if fewer
        else "all the same, nothing to compare"
    )


@dataclass(frozen=True)
class Lift:
    """One comparison of two groups by one metric (`reward`, or a guardrail metric) in one segment (`all` = over all).

    Means are per customer. `lift` is `mean_a - mean_b`; `low`, `high` its 95 % interval, `safe_low`, `safe_high` the one that is
    valid at every look; both None when a group is too small, or nobody differs. `detectable`: the smallest difference that groups of
    these sizes show, by how much customers differ within them (a group in which all were the same is taken to differ like the other).
    """

    segment: str
    metric: str
    group_a: str
    group_b: str
    customers_a: int
    customers_b: int
    mean_a: float
    mean_b: float
    error: float | None
    low: float | None
    high: float | None
    safe_low: float | None
    safe_high: float | None
    detectable: float | None

    @property
    def lift(self) -> float:
        return self.mean_a - self.mean_b

    @property
    def shown(self) -> bool:
        """Whether the difference is told from chance, however often somebody has looked."""
        return self.safe_low is not None and self.safe_high is not None and (self.safe_low > 0 or self.safe_high < 0)

    def sentence(self, unit: str) -> str:
        """`unit`: `points` for a share, else what is counted."""
        what = f"{self.group_a.replace('_', ' ')} against {self.group_b.replace('_', ' ')}"
        if self.low is None or self.high is None:
            why = why_none(self.customers_a, self.customers_b)
            return f"{what}: {self.customers_a:,} and {self.customers_b:,} customers, {why}"
        share = unit == POINTS
        said = f"{what}: {written(self.lift, share=share)}{'' if share else f' {unit}'} {interval(self.low, self.high, share=share)}"
        if self.shown:
            return f"{said}, told from chance at every look"
        ordinary = self.low > 0 or self.high < 0
        return f"{said}, " + (
            "not yet told from chance for whoever looks more than once" if ordinary else "not told from chance"
        )


@dataclass(frozen=True)
class Experiment:
    """The whole report of one goal. `groups`: customers by group who could have got something, whether or not their time is
    over; `closed`: those of them whose time is. `leaks`: messages that reached somebody in the holdout; must be 0. `decided`: customers
    who were decided for at all, also those for whom there was nothing to do in any group."""

    goal: str
    window_days: int
    unit: str
    groups: dict[str, int]
    closed: dict[str, int]
    crossed: int
    leaks: int
    checks: tuple[Check, ...]
    lifts: tuple[Lift, ...]
    power: str
    decided: int = 0

    @property
    def trusted(self) -> bool:
        return all(check.ok for check in self.checks)

    @property
    def has_result(self) -> bool:
        """Whether somebody's time is over in both groups, so that there is something to compare."""
        return bool(self.main is not None and self.closed)

    @property
    def main(self) -> Lift | None:
        """Treatment against holdout, by the reward, over all."""
        return _main(self.lifts)

    @property
    def message(self) -> str:
        """The verdict in one sentence."""
        failed = [check.sentence for check in self.checks if not check.ok]
        if failed:
            return "nothing can be concluded: " + "; ".join(failed)
        if not self.groups and self.decided:
            whose = "the one customer" if self.decided == 1 else f"each of the {self.decided:,} customers"
            return (
                f"{self.goal}: the decision for {whose} was to do nothing (no segment, no consent or a kill switch), so there are "
                f"no groups to compare. {self.power}"
            )
        if not self.groups:
            return f"nothing was decided for {self.goal} yet. {self.power}"
        if self.main is None or not self.closed:
            return f"no customer's {self.window_days} days are over yet. {self.power}"
        return f"{self.goal}: {self.main.sentence(self.unit)}. {self.power}"


def _main(lifts: Sequence[Lift]) -> Lift | None:
    wanted = (ALL, REWARD, "treatment", "holdout")
    return next((one for one in lifts if (one.segment, one.metric, one.group_a, one.group_b) == wanted), None)


def report(warehouse: Warehouse, settings: DecisionSettings, goal: str | None = None) -> Experiment:
    """Compare the groups of a goal as things stand. Reads only. Raises DataError when the clock is not set."""
    goal = goal or settings.goal
    goals = settings.goal_of(goal)
    as_of = attribution.data_moment(warehouse)
    _units(warehouse, settings, goal, as_of.isoformat(sep=" "))
    groups = dict(
        warehouse.execute("select experiment_group, count(*) from experiment_units group by 1 order by 1").fetchall()
    )
    closed = dict(
        warehouse.execute(
            "select experiment_group, count(*) from experiment_units where is_closed group by 1 order by 1"
        ).fetchall()
    )
    crossed = warehouse.value(
        """select count(*) from (select customer_id from headwater.decision_log where goal = ?
           group by 1 having count(distinct experiment_group) > 1)""",
        [goal],
    )
    decided = warehouse.value("select count(distinct customer_id) from headwater.decision_log where goal = ?", [goal])
    leaks = warehouse.value(
        """select count(*) from headwater.contact_ledger k join headwater.decision_log l using (decision_id)
           where l.experiment_group = 'holdout'"""
    )
    checks = [_ratio(groups, settings)] if groups else []
    if leaks:
        checks.append(
            Check(
                "holdout_contacted",
                False,
                leaks,
                f"{counted(leaks, 'message')} went to customers in the holdout; it must be none",
            )
        )
    if crossed:
        said = (
            f"{crossed:,} customers were in more than one group (salt or shares were changed); they count in the first"
        )
        checks.append(Check("crossed", crossed <= 0.01 * max(1, sum(groups.values())), crossed, said))
    _totals(warehouse, settings, goal)
    lifts = [
        one
        for metric in (REWARD, *goals.guardrail_metrics)
        for segment in (ALL, *_segments(warehouse))
        for one in _compare(warehouse, metric, segment)
    ]
    return Experiment(
        goal, goals.window_days, POINTS if goals.reward == "any" else "of reward a customer", groups, closed, crossed, leaks,
        tuple(checks), tuple(lifts), _power(warehouse, settings, goal, groups, _main(lifts)), decided,
    )  # fmt: skip


def goals_with_result(warehouse: Warehouse, settings: DecisionSettings) -> list[str]:
    """Goals that were decided for of which the groups can be compared. Reads only."""
    goals = warehouse.execute("select distinct goal from headwater.decision_log order by 1").fetchall()
    return [goal for (goal,) in goals if report(warehouse, settings, goal).has_result]


def write(warehouse: Warehouse, found: Experiment) -> None:
    """Replace the goal's rows of `headwater.experiment_results` and `headwater.experiment_reports`."""
    moment = attribution.data_moment(warehouse)
    checks = [{"name": one.name, "ok": bool(one.ok), "sentence": one.sentence} for one in found.checks]
    with warehouse.transaction():
        warehouse.execute("delete from headwater.experiment_reports where goal = ?", [found.goal])
        warehouse.execute(
            "insert into headwater.experiment_reports values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [found.goal, found.window_days, found.unit, json.dumps(found.groups), json.dumps(found.closed), found.trusted,
             found.message, found.power, json.dumps(checks), moment],
        )  # fmt: skip
        warehouse.execute("delete from headwater.experiment_results where goal = ?", [found.goal])
        for one in found.lifts:
            unit = found.unit if one.metric == REWARD else "a customer"
            warehouse.execute(
                f"insert into headwater.experiment_results values ({', '.join('?' * 19)})",
                [found.goal, one.segment, one.metric, one.group_a, one.group_b, one.customers_a, one.customers_b, one.mean_a,
                 one.mean_b, one.lift, one.error, one.low, one.high, one.safe_low, one.safe_high, one.detectable, found.trusted,
                 one.sentence(unit), moment],
            )  # fmt: skip


def _units(warehouse: Warehouse, settings: DecisionSettings, goal: str, as_of: str) -> None:
    """Fill `experiment_units`: one row per customer who could have got something, from the first such decision on."""
    days = settings.goal_of(goal).window_days
    table(
        warehouse,
        "experiment_units",
        f"""select customer_id, experiment_group, segment, decided_at as started, decided_at + to_days({days}) as ended,
                decided_at + to_days({days}) <= timestamp '{as_of}' as is_closed
            from headwater.decision_log l
            where l.goal = '{goal}' and {COULD}
            qualify row_number() over (partition by customer_id order by decided_at, decision_id) = 1""",
    )


def _totals(warehouse: Warehouse, settings: DecisionSettings, goal: str) -> None:
    """Fill `experiment_totals`: one row per closed unit and metric, with its value."""
    goals = settings.goal_of(goal)
    metrics = "".join(
        f", (count(*) filter (o.kind = '{metric}'))::double as m{i}" for i, metric in enumerate(goals.guardrail_metrics)
    )
    names = [REWARD, *goals.guardrail_metrics]
    columns = ["r", *(f"m{i}" for i in range(len(goals.guardrail_metrics)))]
    table(
        warehouse,
        "experiment_values",
        f"""select u.customer_id, u.experiment_group, u.segment, ({attribution.reward_sql(goals)})::double as r{metrics}
            from experiment_units u
            left join ({observed(warehouse, settings)}) o on o.customer_id = u.customer_id
                and o.occurred_at >= u.started and o.occurred_at < u.ended
            where u.is_closed group by u.customer_id, u.experiment_group, u.segment""",
    )
    table(
        warehouse,
        "experiment_totals",
        " union all ".join(
            f"select experiment_group, segment, '{name}' as metric, {column} as value from experiment_values"
            for name, column in zip(names, columns, strict=True)
        ),
    )


def _segments(warehouse: Warehouse) -> list[str]:
    return [row[0] for row in warehouse.execute("select distinct segment from experiment_values order by 1").fetchall()]


def _compare(warehouse: Warehouse, metric: str, segment: str) -> list[Lift]:
    where = "" if segment == ALL else "and segment = $2"
    rows = warehouse.execute(
        f"""select experiment_group, count(*), avg(value), coalesce(var_samp(value), 0) from experiment_totals
            where metric = $1 {where} group by 1""",
        [metric] if segment == ALL else [metric, segment],
    ).fetchall()
    known = {group: (int(n), float(mean), float(variance)) for group, n, mean, variance in rows}
    found = []
    for a, b in PAIRS:
        if a not in known or b not in known:
            continue
        (n, mean, variance), (m, other, other_variance) = known[a], known[b]
        error = low = high = safe_low = safe_high = detectable = None
        if (
            min(n, m) >= LEAST_CUSTOMERS and variance + other_variance > 0
        ):  # nothing seen anywhere is no proof of nothing
            error = sqrt(variance / n + other_variance / m)
            low, high = mean - other - Z * error, mean - other + Z * error
            safe_low, safe_high = safe_interval(mean - other, error, n + m)
            # where all were the same by chance, they would not be another time
            detectable = FOUND * sqrt((variance or other_variance) / n + (other_variance or variance) / m)
        found.append(Lift(segment, metric, a, b, n, m, mean, other, error, low, high, safe_low, safe_high, detectable))
    return found


def _ratio(groups: dict[str, int], settings: DecisionSettings) -> Check:
    held, usual = settings.holdout_share, settings.business_as_usual_share
    shares = {"treatment": (1 - held) * (1 - usual), "business_as_usual": (1 - held) * usual, "holdout": held}
    meant = {group: share for group, share in shares.items() if share > 0 or group in groups}
    return sample_ratio(groups, {group: max(share, 1e-9) for group, share in meant.items()})


def _power(
    warehouse: Warehouse, settings: DecisionSettings, goal: str, groups: dict[str, int], main: Lift | None
) -> str:
    """What this base can show at all: once windows have closed by how much customers differ within their groups, before that by the
    plan. Before anything was decided the base is everybody who could get something now."""
    total = sum(groups.values()) or _candidates(warehouse)
    if not 0 < round(total * settings.holdout_share) < total:
        return f"Of {total:,} customers who could get something none is held out, so no effect can be measured"
    counts_people = settings.goal_of(goal).reward == "any"
    if main is not None and main.detectable is not None:
        least = written(main.detectable, share=counts_people, sign=False).removesuffix("%")
        return (
            f"With {main.customers_a:,} and {main.customers_b:,} customers, a difference below {least}{' percentage points' if counts_people else ' of reward a customer'} "
            "cannot be seen (power 80%, level 5%)."
        )
    said = power(total, settings.holdout_share).sentence
    return f"{said}." if counts_people else f"{said}, in the share of customers who do something at all."


def _candidates(warehouse: Warehouse) -> int:
    """Customers who could get something now: in a segment, and agreed to a channel."""
    if not warehouse.exists(CANDIDATES):
        return 0
    return int(
        warehouse.value(
            f"select count(*) from {CANDIDATES} where segment is not null and (coalesce(email_consent, false) or coalesce(sms_consent, false))"
        )
    )
