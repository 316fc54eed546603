"""What a customer will bring: BG/NBD for how often, Gamma-Gamma for how much.

Sources of the formulas:
    Fader, Hardie and Lee 2005, "Counting Your Customers the Easy Way", Marketing Science 24(2): BG/NBD, equations 6 and 10
    Fader and Hardie 2013, "The Gamma-Gamma Model of Monetary Value": equations 1a and 5

Per customer (x, t_x, T): repeat purchases (days with a purchase, the first one not counted), age at the last one, age now;
time in weeks. For Gamma-Gamma z is the mean net revenue per repeat purchase, customers with x > 0 and z > 0 only.

Never rank customers by P(alive): BG/NBD lets customers leave only after a repeat purchase, so P(alive) is 1 for every
one-time buyer and it ranks worse than chance (AUC 0.316 on CDNOW). Rank by expected purchases.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

from headwater.records.counted import counted
from headwater.segments import registry
from headwater.segments.features import Matrix
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.threads import one_thread
from headwater.warehouse.connection import Warehouse

DAYS_PER_WEEK = 7.0
DAYS_PER_MONTH = 30.0
MIN_REPEAT_BUYERS = 30
MAX_CORRELATION = 0.3
FIT_SAMPLE = 20_000
"""The likelihood is maximised on at most so many customers, drawn once; everybody is scored."""


@dataclass(frozen=True)
class History:
    """What the models look at, arrays (n,) float64, weeks and shop currency; row i is one customer.

    `x` repeat purchases, `t_x` age at the last purchase, `age` age now (T), `value` mean net revenue per repeat purchase
    (NaN where there is none)."""

    x: Matrix
    t_x: Matrix
    age: Matrix
    value: Matrix


@dataclass(frozen=True)
class BgNbd:
    """Purchase rates Gamma(r, alpha), alpha in weeks; chances to leave after a purchase Beta(a, b).

    `at_bound` names parameters that the data would push further: customers differ less than the model can say."""

    r: float
    alpha: float
    a: float
    b: float
    log_likelihood: float
    at_bound: tuple[str, ...] = ()


@dataclass(frozen=True)
class GammaGamma:
    """Spend per purchase Gamma(p, nu), nu Gamma(q, v), v in shop currency; fitted on `customers`."""

    p: float
    q: float
    v: float
    log_likelihood: float
    customers: int
    at_bound: tuple[str, ...] = ()


@dataclass(frozen=True)
class Lifetime:
    """Both models, and what to know about them."""

    purchases: BgNbd
    spend: GammaGamma
    correlation: float
    warnings: tuple[str, ...]


@dataclass(frozen=True)
class Scored:
    """`customers` have a row in `headwater.clv_scores` now."""

    customers: int
    warnings: tuple[str, ...] = ()


class NotIdentified(ValueError):
    """The data cannot bear the model; the message says why."""


def bgnbd_log_likelihood(params: Matrix, x: Matrix, t_x: Matrix, age: Matrix) -> Matrix:
    """Log-likelihood per customer, (n,), for (r, alpha, a, b)."""
    from scipy.special import betaln, gammaln  # noqa: PLC0415

    r, alpha, a, b = params
    common = gammaln(r + x) - gammaln(r) + r * np.log(alpha)
    stayed = betaln(a, b + x) - betaln(a, b) - (r + x) * np.log(alpha + age)
    left = np.where(
        x > 0, betaln(a + 1, b + np.maximum(x, 1) - 1) - betaln(a, b) - (r + x) * np.log(alpha + t_x), -np.inf
    )
    return common + np.logaddexp(stayed, left)


def fit_bgnbd(x: Matrix, t_x: Matrix, age: Matrix) -> BgNbd:
    """Maximum likelihood. Raises NotIdentified with fewer than 30 repeat buyers, or when a parameter runs to infinity."""
    repeat = int((x > 0).sum())
    if repeat < MIN_REPEAT_BUYERS:
        raise NotIdentified(
            f"{repeat} customers bought on more than one day, at least {MIN_REPEAT_BUYERS} are needed to tell how often they return"
        )
    cells, weight = np.unique(np.column_stack([x, t_x, age]), axis=0, return_counts=True)

    def loss(params: Matrix) -> float:
        return -float(weight @ bgnbd_log_likelihood(params, *cells.T)) / len(x)

    middle = max(float(np.median(age)), 1e-3)
    bounds = {"r": (1e-4, 1, 100), "alpha": (1e-4, middle, 1e5), "a": (1e-4, 1, 50), "b": (1e-4, 1, 1e3)}
    params, edges = _maximise(loss, bounds, "BG/NBD")
    return BgNbd(*params.tolist(), log_likelihood=-loss(params) * len(x), at_bound=edges)


def gamma_gamma_log_likelihood(params: Matrix, x: Matrix, value: Matrix) -> Matrix:
    """Log-likelihood per customer, (n,), for (p, q, v)."""
    from scipy.special import betaln  # noqa: PLC0415

    p, q, v = params
    return (
        -betaln(p * x, q)
        + q * np.log(v)
        + (p * x - 1) * np.log(value)
        + p * x * np.log(x)
        - (p * x + q) * np.log(v + x * value)
    )


def fit_gamma_gamma(x: Matrix, value: Matrix) -> GammaGamma:
    """Maximum likelihood on customers with x > 0 and value > 0. Raises NotIdentified like `fit_bgnbd`."""
    used = (x > 0) & (value > 0)
    if int(used.sum()) < MIN_REPEAT_BUYERS:
        raise NotIdentified(
            f"{int(used.sum())} customers have a repeat purchase of positive value, at least {MIN_REPEAT_BUYERS} are needed to tell what they spend"
        )
    x, value = x[used], value[used]
    unit = float(np.median(value))

    def loss(params: Matrix) -> float:
        return -float(gamma_gamma_log_likelihood(params, x, value / unit).mean())

    bounds = {"p": (1e-3, 2, 1e4), "q": (1e-3, 2, 1e4), "v": (1e-4, 1, 1e6)}
    params, edges = _maximise(loss, bounds, "Gamma-Gamma")
    p, q, v = params.tolist()
    likelihood = float(gamma_gamma_log_likelihood(np.array([p, q, v * unit]), x, value).sum())
    return GammaGamma(p, q, v * unit, likelihood, len(x), edges)


def _maximise(
    loss: Callable[[Matrix], float], bounds: Mapping[str, tuple[float, float, float]], model: str
) -> tuple[Matrix, tuple[str, ...]]:
    """The parameters that make `loss` least (L-BFGS-B on their logarithms, three-point gradients), and the names of those
    that ended at a bound; `bounds` has lowest, start and highest by name."""
    from scipy.optimize import minimize  # noqa: PLC0415

    low, start, high = np.log(np.array(list(bounds.values())).T)
    with one_thread():
        best = minimize(
            lambda logs: loss(np.exp(logs)),
            np.clip(start, low, high),
            jac="3-point",
            method="L-BFGS-B",
            bounds=list(zip(low, high, strict=True)),
            options={"ftol": 1e-13, "gtol": 1e-8, "maxiter": 500},
        )
    if not np.isfinite(best.fun):
        raise NotIdentified(f"{model} has no finite likelihood on these data")
    near = (best.x < low + 1e-3) | (best.x > high - 1e-3)
    return np.exp(best.x), tuple(name for name, edge in zip(bounds, near, strict=True) if edge)


def expected_purchases(model: BgNbd, x: Matrix, t_x: Matrix, age: Matrix, weeks: float) -> Matrix:
    """E[purchases in the next `weeks`], (n,), given each history; equation 10.

    The hypergeometric function is taken after Euler's transformation, so that heavy buyers do not overflow.
    """
    from scipy.special import hyp2f1  # noqa: PLC0415

    r, alpha, a, b = model.r, model.alpha, model.a, model.b
    if abs(a - 1) < 1e-6:
        a = 1 + 1e-6
    z = weeks / (alpha + age + weeks)
    inside = (1 - z) ** (a - 1) * hyp2f1(a + b - 1 - r, a - 1, a + b + x - 1, z)
    odds = np.where(
        x > 0, a / (b + np.maximum(x, 1) - 1) * np.exp((r + x) * np.log((alpha + age) / (alpha + t_x))), 0.0
    )
    return np.maximum((a + b + x - 1) / (a - 1) * (1 - inside), 0.0) / (1 + odds)


def probability_alive(model: BgNbd, x: Matrix, t_x: Matrix, age: Matrix) -> Matrix:
    """P(still a customer), (n,). For display only: never rank by it (see the module docstring)."""
    odds = (
        model.a
        / (model.b + np.maximum(x, 1) - 1)
        * np.exp((model.r + x) * np.log((model.alpha + age) / (model.alpha + t_x)))
    )
    return np.where(x > 0, 1 / (1 + odds), 1.0)


def expected_value(model: GammaGamma, x: Matrix, value: Matrix) -> Matrix:
    """E[spend per purchase], (n,), shop currency; equation 5. Without a repeat purchase of positive value: the shop's mean."""
    seen = (x > 0) & (value > 0)
    times = np.where(seen, x, 0.0)
    total = np.where(seen, x * np.nan_to_num(value), 0.0)
    return model.p * (model.v + total) / (model.p * times + model.q - 1)


def lifetime_value(
    purchases: BgNbd, spend: GammaGamma, history: History, horizon_days: int, monthly_discount: float
) -> tuple[Matrix, Matrix, Matrix]:
    """Expected purchases, expected spend per purchase and CLV, each (n,), over the next `horizon_days`.

    CLV adds up months of 30 days: purchases expected within each, times the spend, discounted to today by
    (1 + monthly_discount) for each month that is over at its end; the last month may be a part of one.
    """
    value = expected_value(spend, history.x, history.value)
    clv = np.zeros(len(history.x))
    before = np.zeros(len(history.x))
    end = 0.0
    while end < horizon_days:
        end = min(end + DAYS_PER_MONTH, horizon_days)
        until = expected_purchases(purchases, history.x, history.t_x, history.age, end / DAYS_PER_WEEK)
        clv += (until - before) * value / (1 + monthly_discount) ** (end / DAYS_PER_MONTH)
        before = until
    return before, value, clv


def fit(history: History, seed: int) -> Lifetime:
    """Both models. Raises NotIdentified."""
    warnings: list[str] = []
    used = (history.x > 0) & (history.value > 0)
    correlation = float(np.corrcoef(history.x[used], history.value[used])[0, 1]) if used.sum() > 2 else 0.0
    if abs(correlation) > MAX_CORRELATION:
        warnings.append(
            f"frequency and spend per purchase correlate at {correlation:.2f} (beyond ±{MAX_CORRELATION}): Gamma-Gamma assumes that they "
            "do not, so read CLV as a ranking, not as money"
        )
    rows = np.arange(len(history.x))
    if len(rows) > FIT_SAMPLE:
        rows = np.sort(np.random.default_rng(seed).choice(len(rows), FIT_SAMPLE, replace=False))
    spend = fit_gamma_gamma(history.x[rows], history.value[rows])
    if spend.q <= 1:
        raise NotIdentified(f"Gamma-Gamma finds q = {spend.q:.2f}; with q at or below 1 the expected spend is infinite")
    purchases = fit_bgnbd(history.x[rows], history.t_x[rows], history.age[rows])
    if edges := (*purchases.at_bound, *spend.at_bound):
        warnings.append(
            f"CLV: {', '.join(edges)} ended at the bound of what is looked for: on these data the customers differ less than the model "
            "allows for; read CLV as a ranking, not as money"
        )
    return Lifetime(purchases, spend, correlation, tuple(warnings))


_HISTORY = f"""
    cast(repeat_purchases as double) as x, last_purchase_age_days / {DAYS_PER_WEEK} as t_x, tenure_days / {DAYS_PER_WEEK} as age,
    coalesce(cast(repeat_value as double), 'nan'::double) as value
"""


def read_history(warehouse: Warehouse, relation: str) -> History:
    """The histories of a relation with the columns of `int_customer_rfm`, sorted by customer_id."""
    found = warehouse.execute(f"select {_HISTORY} from {relation} order by customer_id").fetchnumpy()
    return History(*(np.asarray(found[name], float) for name in ("x", "t_x", "age", "value")))


def score_all(
    warehouse: Warehouse, settings: MlSegmentSettings, artefacts: Path, relation: str, as_of: datetime
) -> Scored:
    """Replace `headwater.clv_scores` by the champion's scores of every customer in `relation`; empty without a champion."""
    champion = registry.champion(warehouse, registry.CLV)
    if champion is None:
        warehouse.execute("delete from headwater.clv_scores")
        return Scored(0, ("there is no CLV model: predicted_clv stays empty",))
    found: Mapping[str, Mapping[str, Any]] = registry.load_artefact(artefacts, champion)
    warehouse.execute(
        f"create or replace temp table clv_histories as select customer_id, tenure_days, repeat_purchases, last_purchase_age_days, repeat_value "
        f"from {relation} order by customer_id"
    )
    try:
        history = read_history(warehouse, "clv_histories")
        often, spend, clv = lifetime_value(
            BgNbd(**found["purchases"]),
            GammaGamma(**found["spend"]),
            history,
            settings.clv_horizon_days,
            settings.clv_discount_rate_monthly,
        )
        # beside one another by position: handing a million ids to Python and back would take longer than the formulas
        columns = {"often": often, "spend": spend, "clv": clv}
        with warehouse.relation("clv_found", columns), warehouse.transaction():
            warehouse.execute("delete from headwater.clv_scores")
            warehouse.execute(
                f"insert into headwater.clv_scores select customer_id, timestamp '{as_of}', '{registry.CLV}', {champion.version}, often, "
                f"cast(spend as decimal(18, 4)), cast(clv as decimal(18, 4)), {settings.clv_horizon_days} "
                "from clv_histories positional join clv_found where isfinite(often) and isfinite(spend) and isfinite(clv)"
            )
    finally:
        warehouse.execute("drop table if exists clv_histories")
    lost = int((~(np.isfinite(often) & np.isfinite(spend) & np.isfinite(clv))).sum())
    warning = f"CLV could not be computed for {counted(lost, 'customer')}: predicted_clv stays empty"
    return Scored(len(history.x) - lost, (warning,) if lost else ())
