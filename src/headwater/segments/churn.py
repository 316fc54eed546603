"""The churn head: can the features tell, ahead of time, who will not come back?

It stands beside the clusters as a check on the features, not as a product: a feature that knows the future shows here as an
AUC too good to be true, features that know nothing as an AUC below what recency alone reaches.

Out of time means: fit on what was known at `as_of − 2h` and who bought in the `h` after; judge on what was known at
`as_of − h` and who bought since. No label of the fit lies after the moment at which the judged features are taken. The head
is a logistic regression (scikit-learn) on log recency, frequency, money and tenure, and one interaction that BG/NBD knows
(Fader, Hardie and Lee 2005, the odds of having left): x · ln((T + 30) / (t_x + 30)), in days.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.segments.features import Matrix, at_sql
from headwater.segments.threads import one_thread
from headwater.warehouse.connection import Warehouse

HORIZON_DAYS = 90
MIN_HORIZON_DAYS = 14
MIN_PER_CLASS = 30
"""With fewer customers who come back, or who stay away, an AUC says nothing."""
SAMPLE = 200_000
_SMOOTH_DAYS = 30.0


@dataclass(frozen=True)
class Head:
    """`model` is the fitted scikit-learn pipeline. `auc` and `baseline` (recency alone) are out of time, 0.5 to 1;
    `noise` is how far chance moves their difference (one-sided 95 %, DeLong); `customers` those judged."""

    model: Any
    auc: float
    baseline: float
    noise: float
    horizon_days: int
    customers: int


FeatureQuery = Callable[[str, datetime], str]


def out_of_time(
    warehouse: Warehouse, orders: str, as_of: datetime, *, seed: int, features: FeatureQuery = at_sql
) -> Head | str:
    """Fit and judge the head on the orders relation (as in `features.at_sql`); a sentence when the orders do not reach.

    The horizon is 90 days, or a quarter of the orders' time span when that is shorter. `features` is the query that gives
    the features at a moment; a test puts a leaking one in its place. At most 200,000 customers are looked at.
    """
    first = warehouse.value(
        f"select min(ordered_at) from {orders} where customer_id is not null and order_number is not null"
    )
    span = (as_of - first).days if first else 0
    horizon = min(HORIZON_DAYS, span // 4)
    if horizon < MIN_HORIZON_DAYS:
        return (
            f"the churn head was not judged: the orders span {span} days, and two periods of at least {MIN_HORIZON_DAYS} days "
            "after a first half are needed"
        )
    step = timedelta(days=horizon)
    early = _at(warehouse, orders, as_of - 2 * step, as_of - step, features)
    late = _at(warehouse, orders, as_of - step, as_of, features)
    return judge(early, late, horizon, seed)


def judge(
    early: tuple[Matrix, npt.NDArray[np.bool_]], late: tuple[Matrix, npt.NDArray[np.bool_]], horizon: int, seed: int
) -> Head | str:
    """Fit on `early`, judge on `late`: each the columns of `_COLUMNS` (n, 5) and whether the customer stayed away (n,)."""
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415
    from sklearn.pipeline import make_pipeline  # noqa: PLC0415
    from sklearn.preprocessing import StandardScaler  # noqa: PLC0415

    for when, (_, away) in (("earlier", early), ("later", late)):
        if min(int(away.sum()), int((~away).sum())) < MIN_PER_CLASS:
            return (
                f"the churn head was not judged: in the {when} period {int((~away).sum())} customers came back and {int(away.sum())} "
                f"did not; at least {MIN_PER_CLASS} of each are needed"
            )
    random = np.random.default_rng(seed)
    early, late = _thin(early, random), _thin(late, random)
    head = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    with one_thread():
        head.fit(design(early[0]), early[1])
        score = head.decision_function(design(late[0]))
    recency = late[0][:, 0]
    away = late[1]
    noise = 1.645 * _paired_error(score, recency, away)
    return Head(head, float(roc_auc_score(away, score)), float(roc_auc_score(away, recency)), noise, horizon, len(away))


def design(known: Matrix) -> Matrix:
    """The head's input (n, 5) from recency_days, frequency, monetary, tenure_days, repeat_purchases (n, 5)."""
    recency, frequency, monetary, tenure, repeats = known.T
    left = repeats * np.log((tenure + _SMOOTH_DAYS) / (tenure - recency + _SMOOTH_DAYS))
    return np.column_stack(
        [np.log1p(recency), np.log1p(frequency), np.log1p(np.maximum(monetary, 0)), np.log1p(tenure), left]
    )


def _at(
    warehouse: Warehouse, orders: str, moment: datetime, until: datetime, features: FeatureQuery
) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    columns = ("recency_days", "frequency", "monetary", "tenure_days", "repeat_purchases")
    found = warehouse.execute(
        f"""
        select {", ".join(f"cast({name} as double) as {name}" for name in columns)}, later.customer_id is null as away
        from ({features(orders, moment)}) as known
        left join (
            select distinct customer_id from {orders}
            where order_number is not null and ordered_at > timestamp '{moment}' and ordered_at <= timestamp '{until}'
        ) as later on later.customer_id = known.customer_id
        order by known.customer_id
        """
    ).fetchnumpy()
    return np.column_stack([found[name] for name in columns]), np.asarray(found["away"], bool)


def _thin(
    rows: tuple[Matrix, npt.NDArray[np.bool_]], random: np.random.Generator
) -> tuple[Matrix, npt.NDArray[np.bool_]]:
    if len(rows[1]) <= SAMPLE:
        return rows
    drawn = np.sort(random.choice(len(rows[1]), SAMPLE, replace=False))
    return rows[0][drawn], rows[1][drawn]


def _paired_error(first: Matrix, second: Matrix, away: npt.NDArray[np.bool_]) -> float:
    """Standard error of the difference of two AUCs on the same customers (DeLong, DeLong and Clarke-Pearson 1988),
    computed from mid-ranks (Sun and Xu 2014)."""
    from scipy.stats import rankdata  # noqa: PLC0415

    m, n = int(away.sum()), int((~away).sum())
    above, below = [], []
    for score in (first, second):
        ranks = rankdata(score)
        above.append((ranks[away] - rankdata(score[away])) / n)
        below.append(1 - (ranks[~away] - rankdata(score[~away])) / m)
    over = np.var(above[0] - above[1], ddof=1) / m
    under = np.var(below[0] - below[1], ddof=1) / n
    return float(np.sqrt(over + under))
