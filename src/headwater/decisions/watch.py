"""Whether the champion makes people leave: each guardrail metric under it against what is decided without it.

Compared are decisions of the treatment group within the first days after them (`learning.guardrail_days`), once these days are
over, so that both sides have been seen for equally long. The other side is the group business as usual in the same weeks, where
there is one; without it the decisions before the promotion, and then a season may speak as well as the policy.

It is looked at after every attribution of outcomes, so the interval is one that stays valid however often one looks
(sequential.py). "Significantly worse" is its lower bound above zero.
"""

from dataclasses import dataclass
from math import sqrt

from headwater.decisions.attribution import data_moment
from headwater.decisions.champion import Version, aliased
from headwater.decisions.hashing import text_sql
from headwater.decisions.outcomes import observed
from headwater.decisions.sequential import safe_interval
from headwater.decisions.settings import DecisionSettings
from headwater.warehouse import Warehouse

LEAST_DECISIONS = 100
"""On either side; fewer say nothing yet."""


@dataclass(frozen=True)
class Watched:
    """One guardrail metric. Shares of decisions after which it happened; `difference` is champion minus the other side."""

    goal: str
    version: int
    metric: str
    compared_with: str
    decisions: int
    others: int
    share: float
    other_share: float
    low: float
    high: float

    @property
    def worse(self) -> bool:
        """Whether it is significantly worse."""
        return self.low > 0

    @property
    def sentence(self) -> str:
        return (
            f"{self.metric} after {self.share:.2%} of {self.decisions:,} decisions of version {self.version}, "
            f"{self.other_share:.2%} of {self.others:,} {self.compared_with} (difference {(self.share - self.other_share) * 100:+.2f} points, "
            f"at least {self.low * 100:+.2f})"
        )


def watch(warehouse: Warehouse, settings: DecisionSettings, goal: str) -> list[Watched]:
    """One entry per guardrail metric that can be compared; none without a champion, or before there is enough to see."""
    champion = aliased(warehouse, goal, "champion")
    if champion is None or champion.promoted_at is None:
        return []
    found = []
    for metric in settings.goal_of(goal).guardrail_metrics:
        one = _compare(warehouse, settings, champion, metric)
        if one is not None:
            found.append(one)
    return found


def _compare(warehouse: Warehouse, settings: DecisionSettings, champion: Version, metric: str) -> Watched | None:
    days = settings.learning.guardrail_days
    since = f"timestamp '{champion.promoted_at}'"
    ours = f"l.experiment_group = 'treatment' and l.policy_version = {text_sql(champion.policy_version)}"
    usual = f"l.experiment_group = 'business_as_usual' and l.decided_at >= {since}"
    before = f"l.experiment_group = 'treatment' and l.decided_at < {since} and l.policy_version <> {text_sql(champion.policy_version)}"
    rows = warehouse.execute(
        f"""with sides as (
                select l.decision_id, l.customer_id, l.decided_at,
                    case when {ours} then 'ours' when {usual} then 'usual' when {before} then 'before' end as side
                from headwater.decision_log l
                where l.goal = {text_sql(champion.goal)} and json_array_length(l.feasible_actions) > 1
                    and l.decided_at + to_days({days}) <= timestamp '{data_moment(warehouse)}'
            ),
            firsts as (
                select * from sides where side is not null
                qualify row_number() over (partition by side, customer_id order by decided_at) = 1
            ),
            happened as (select customer_id, occurred_at from ({observed(warehouse, settings)}) where kind = {text_sql(metric)})
        select side, count(*), count(*) filter (exists (
            select 1 from happened h where h.customer_id = f.customer_id
                and h.occurred_at >= f.decided_at and h.occurred_at < f.decided_at + to_days({days})))
        from firsts f group by 1"""
    ).fetchall()
    counts = {side: (int(n), int(hit)) for side, n, hit in rows}
    n, hit = counts.get("ours", (0, 0))
    side = "usual" if counts.get("usual", (0, 0))[0] >= LEAST_DECISIONS else "before"
    m, other = counts.get(side, (0, 0))
    if n < LEAST_DECISIONS or m < LEAST_DECISIONS:
        return None
    share, other_share = hit / n, other / m
    near, other_near = (
        (hit + 1) / (n + 2),
        (other + 1) / (m + 2),
    )  # Agresti and Caffo: so that a handful of events proves nothing
    error = sqrt(near * (1 - near) / (n + 2) + other_near * (1 - other_near) / (m + 2))
    low, high = safe_interval(near - other_near, error, min(n, m))
    words = {"usual": "of business as usual", "before": "before it"}
    return Watched(champion.goal, champion.version, metric, words[side], n, m, share, other_share, low, high)
