"""Is the champion still about today's customers?

`monitor` measures, writes one row per measure to `headwater.segment_monitor`, and raises an alert only for what chance does
not explain:

    psi             per feature, today against training: Σ (p − q) · ln(p / q) over the deciles of training
    share_drift     the same over the segments
    inertia         mean squared distance to the own centroid, z units squared
    share           per segment, today
    transition:<to> per segment: share of those who were in it and are in <to> since the last change
    forecast        per segment: expected share after another such period (Markov chain with a prior)
    silhouette      −1 to 1, of at most 2,000 customers; for information

A rule of thumb like "PSI above 0.1" alarms small shops for nothing and large ones never. Under no change n customers against m
have PSI ≈ chi²(B − 1) · (1/n + 1/m), so the threshold is its 95 % point (Yurdakul and Naranjo 2020, "Statistical properties of
the population stability index"): 5 % of the alerts are false at any size.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from headwater.clock import Clock, naive_utc
from headwater.records.counted import counted
from headwater.segments import memberships, registry
from headwater.segments.assign import score, unsegmented_reason
from headwater.segments.cluster import Model, standardise
from headwater.segments.features import COLUMNS, Features, Matrix, read, spenders
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

BINS = 10
CONFIDENCE = 0.95
MATERIAL_PSI = 0.10
"""An alert says that a change is not chance. Above this it is also large enough to train again for (train.is_due)."""
PRIOR_CUSTOMERS = 10.0
"""The forecast starts from so many imagined customers per segment who stay where they are."""
SILHOUETTE_SAMPLE = 2_000
UNSEGMENTED = "Unsegmented"


@dataclass(frozen=True)
class Drift:
    """`value` is an alert when it is above `threshold`; `bins` were not empty on both sides."""

    value: float
    threshold: float
    bins: int

    @property
    def alert(self) -> bool:
        return self.value > self.threshold


@dataclass(frozen=True)
class Measure:
    """One row of `headwater.segment_monitor`; `threshold` None: not judged."""

    measure: str
    subject: str
    value: float
    threshold: float | None = None
    alert: bool = False


@dataclass(frozen=True)
class Monitoring:
    """What `monitor` found; `status` is skipped, with the reason in `message`, when there is nothing to measure.

    `alerts` are sentences; `transitions[from][to]` and `forecast[segment]` are shares, empty before memberships have
    changed for the first time."""

    status: Literal["ok", "skipped"]
    message: str
    as_of: datetime | None = None
    version: int | None = None
    measures: tuple[Measure, ...] = ()
    alerts: tuple[str, ...] = ()
    shares: Mapping[str, float] = field(default_factory=dict)
    transitions: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    forecast: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


def edges(values: Matrix) -> Matrix:
    """The inner edges of at most ten bins with about as many of `values` (n,) each; a bin is (edge, next edge]."""
    cuts = np.quantile(values, np.linspace(0, 1, BINS + 1)[1:-1], method="higher")
    return np.unique(cuts)


def histogram(values: Matrix, cuts: Matrix) -> npt.NDArray[np.int64]:
    """How many of `values` lie in each bin, (len(cuts) + 1,)."""
    return np.bincount(np.searchsorted(cuts, values, side="left"), minlength=len(cuts) + 1)


def psi(before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> Drift:
    """Population stability index of two histograms over the same bins, with the threshold that chance respects.

    Half a customer is added to each bin, so that an empty one is not infinitely surprising; bins empty on both sides are
    left out."""
    from scipy.stats import chi2  # noqa: PLC0415

    seen = (before + after) > 0
    before, after = before[seen], after[seen]
    count = len(before)
    n, m = int(before.sum()), int(after.sum())
    if count < 2 or not n or not m:
        return Drift(0.0, math.inf, count)
    p = (before + 0.5) / (n + 0.5 * count)
    q = (after + 0.5) / (m + 0.5 * count)
    value = float(((p - q) * np.log(p / q)).sum())
    return Drift(value, float(chi2.ppf(CONFIDENCE, count - 1)) * (1 / n + 1 / m), count)


def reference(features: Features, model: Model) -> dict[str, Any]:
    """What a later `monitor` compares with: bins of every feature, segment counts, inertia; as JSON can hold it."""
    found: dict[str, Any] = {"bins": {}}
    for position, name in enumerate(COLUMNS):
        cuts = edges(features.values[:, position])
        found["bins"][name] = {
            "edges": cuts.tolist(),
            "counts": histogram(features.values[:, position], cuts).tolist(),
        }
    labels, _ = score(model, features.values)
    squared = ((standardise(model, features.values) - model.centroids[labels]) ** 2).sum(axis=1)
    found["clusters"] = np.bincount(labels, minlength=model.k).tolist()
    found["inertia"] = [float(squared.mean()), float(squared.std())]
    return found


def forecast(counts: Matrix, transitions: Matrix, entered: Matrix) -> Matrix:
    """Expected shares (k,) after one more period like the last.

    `counts` (k,) are the customers now; `transitions` (k, k + 1) counts of who went from where to where in the last period,
    the last column who left; `entered` (k,) who came new. Each row of the chain starts from a prior of customers who stay,
    so a segment that nobody was seen in is forecast to stay as it is (Dirichlet-multinomial mean)."""
    k = len(counts)
    prior = np.hstack([np.eye(k) * PRIOR_CUSTOMERS, np.zeros((k, 1))])
    chain = transitions + prior
    chain = chain / chain.sum(axis=1, keepdims=True)
    expected = counts @ chain[:, :k] + entered
    return expected / expected.sum() if expected.sum() else expected


def monitor(
    warehouse: Warehouse,
    settings: MlSegmentSettings,
    clock: Clock,
    run_id: str,
    *,
    relation: str = "main.int_customer_rfm",
) -> Monitoring:
    """Measure the champion on `relation` as it is now, and write the rows of this `run_id` (again: they replace the first).

    Skipped, with a sentence, while there is no champion or fewer than 50 · k customers. Raises BadFeatures."""
    customers, spending = spenders(warehouse, relation)
    champion = registry.champion(warehouse)
    if champion is None:
        return Monitoring("skipped", "there is no segment model to monitor yet: run `headwater segment train`")
    if why := unsegmented_reason(customers, spending, settings.k):
        return Monitoring("skipped", why)
    model = Model.from_dict(champion.params["model"])
    features = read(warehouse, relation)
    labels, _ = score(model, features.values)
    names = [segment.segment_name for segment in model.segments]
    measures = [
        *_drifts(features, labels, champion, model, names),
        _inertia(features, labels, champion, model),
        _silhouette(features, labels, model, settings.seed),
    ]
    shares = np.bincount(labels, minlength=model.k) / len(labels)
    measures += [Measure("share", name, float(share)) for name, share in zip(names, shares, strict=True)]
    transitions, coming = _transitions(warehouse, names)
    for source, row in transitions.items():
        measures += [Measure(f"transition:{to}", source, share) for to, share in row.items()]
    measures += [Measure("forecast", name, share) for name, share in coming.items()]
    _write(warehouse, run_id, naive_utc(clock.now()), features.as_of, champion, measures)
    alerts = tuple(_sentence(measure) for measure in measures if measure.alert)
    return Monitoring(
        "ok",
        f"version {champion.version} on {features.customers:,} customers: {counted(len(alerts), 'alert')}"
        + ("" if transitions else "; memberships have not changed yet, so there are no moves to forecast from"),
        features.as_of,
        champion.version,
        tuple(measures),
        alerts,
        dict(zip(names, shares.tolist(), strict=True)),
        transitions,
        coming,
    )


def _drifts(
    features: Features, labels: npt.NDArray[np.int64], champion: registry.Version, model: Model, names: Sequence[str]
) -> list[Measure]:
    before = champion.metrics["reference"]
    found: list[Measure] = []
    for position, name in enumerate(COLUMNS):
        bins = before["bins"][name]
        drift = psi(np.asarray(bins["counts"]), histogram(features.values[:, position], np.asarray(bins["edges"])))
        found.append(Measure("psi", name, drift.value, drift.threshold, drift.alert))
    drift = psi(np.asarray(before["clusters"]), np.bincount(labels, minlength=model.k))
    found.append(Measure("share_drift", "all segments", drift.value, drift.threshold, drift.alert))
    return found


def _inertia(features: Features, labels: npt.NDArray[np.int64], champion: registry.Version, model: Model) -> Measure:
    mean, spread = champion.metrics["reference"]["inertia"]
    squared = ((standardise(model, features.values) - model.centroids[labels]) ** 2).sum(axis=1)
    chance = 1.645 * spread * math.sqrt(1 / champion.metrics["customers"] + 1 / features.customers)
    now = float(squared.mean())
    return Measure("inertia", "per customer", now, mean + chance, now > mean + chance)


def _silhouette(features: Features, labels: npt.NDArray[np.int64], model: Model, seed: int) -> Measure:
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    drawn = np.arange(features.customers)
    if features.customers > SILHOUETTE_SAMPLE:
        drawn = np.random.default_rng(seed).choice(features.customers, SILHOUETTE_SAMPLE, replace=False)
    if len(np.unique(labels[drawn])) < 2:
        return Measure("silhouette", "all segments", 0.0)
    return Measure(
        "silhouette", "all segments", float(silhouette_score(standardise(model, features.values[drawn]), labels[drawn]))
    )


def _transitions(warehouse: Warehouse, names: Sequence[str]) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Who went where on the last day on which memberships changed, and the shares after another such period; both empty
    before there is a second day. A day, because live memberships change one customer at a time."""
    newest = warehouse.value(
        "select date_trunc('day', max(greatest(valid_from, coalesce(valid_to, valid_from)))) from headwater.segment_assignments where model = ?",
        [registry.KMEANS],
    )
    if newest is None:
        return {}, {}
    moves = warehouse.rows(
        f"""
        select coalesce(before.segment_name, '{UNSEGMENTED}') as source, coalesce(after.segment_name, '{UNSEGMENTED}') as target,
            count(*) as customers
        from ({memberships.before_sql(registry.KMEANS, newest)}) as before
        full join (
            select customer_id, segment_name from headwater.segment_assignments where model = '{registry.KMEANS}' and valid_to is null
        ) as after on after.customer_id = before.customer_id
        group by 1, 2
        """
    )
    if all(row["source"] == UNSEGMENTED for row in moves):
        return {}, {}
    sources = sorted({row["source"] for row in moves})
    known = sorted({*names, *sources, *(row["target"] for row in moves)} - {UNSEGMENTED})
    place = {name: position for position, name in enumerate([*known, UNSEGMENTED])}
    table = np.zeros((len(place), len(place)))
    for row in moves:
        table[place[row["source"]], place[row["target"]]] = row["customers"]
    transitions = {
        source: {
            target: float(table[place[source], place[target]] / table[place[source]].sum())
            for target in place
            if table[place[source], place[target]]
        }
        for source in sources
    }
    counts = table[:, :-1].sum(axis=0)
    expected = forecast(counts, table[:-1], table[-1, :-1])
    return transitions, dict(zip(known, expected.tolist(), strict=True))


def _write(
    warehouse: Warehouse,
    run_id: str,
    measured_at: datetime,
    as_of: datetime,
    champion: registry.Version,
    measures: Sequence[Measure],
) -> None:
    with warehouse.transaction():
        warehouse.execute("delete from headwater.segment_monitor where run_id = ?", [run_id])
        for found in measures:
            warehouse.execute(
                "insert into headwater.segment_monitor values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    run_id,
                    measured_at,
                    as_of,
                    champion.model,
                    champion.version,
                    found.measure,
                    found.subject,
                    found.value,
                    found.threshold,
                    found.alert,
                ],
            )


def _sentence(found: Measure) -> str:
    return (
        f"{found.measure} of {found.subject} is {found.value:.4f}, and chance explains up to {found.threshold:.4f}: "
        "it has changed since the model was trained"
    )
