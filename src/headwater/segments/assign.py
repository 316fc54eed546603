"""Everybody's segment by the champion: in Python, in SQL, and as a stage.

`score` and `to_sql` are one definition in two languages and agree row for row; the live model `int_segment_scores` is the same
once more, over a table of centroids. The SQL gives, per customer:

    raw_segment_id             the nearest cluster
    segment_id, segment_name   what it is published as
    margin                     distance to the runner-up minus distance to the own centroid, z units
    gaps                       by cluster, how much farther it is than the nearest one, z units

`assign` is the stage: it scores in the warehouse, settles everybody's membership (hysteresis.py) and publishes (publish.py).
Between two of them `headwater up` follows the live model by the same rule. Recency counts calendar days in both. Running it
twice changes nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from headwater.clock import Clock, naive_utc
from headwater.failpoint import failpoint
from headwater.records.counted import counted
from headwater.segments import centroids, clv, hysteresis, memberships, registry
from headwater.segments.cluster import Model, standardise
from headwater.segments.features import COLUMNS, Matrix, check, spenders
from headwater.segments.publish import Published, publish_segments
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

_MEMBERS = memberships.members_sql(registry.KMEANS)

MIN_PER_CLUSTER = 50
"""Below so many customers per cluster nobody is segmented."""


@dataclass(frozen=True)
class Assignment:
    """What `assign` did. `customers` = the sum of `segments` + the sum of `unsegmented` (reason to count).

    `status` is skipped when there was no model to use or too few customers; then everybody is unsegmented and `message` says
    why. `moved` customers changed their segment, `held` would have without hysteresis."""

    status: Literal["ok", "skipped"]
    message: str
    as_of: datetime
    customers: int
    segments: Mapping[str, int] = field(default_factory=dict)
    unsegmented: Mapping[str, int] = field(default_factory=dict)
    version: int | None = None
    stability: str | None = None
    moved: int = 0
    held: int = 0
    clv_customers: int = 0
    published: Published | None = None
    warnings: tuple[str, ...] = ()


def score(
    model: Model, values: Matrix, held: npt.NDArray[np.int64] | None = None, delta: float = 0.0
) -> tuple[npt.NDArray[np.int64], Matrix]:
    """Cluster (n,) and margin (n,) for features in shop units (n, 3) as `features.COLUMNS`.

    `held` (n,) is the cluster that each customer has now, -1 for none: it is kept unless the nearest one is nearer by more
    than `delta` z units. Ties go to the lower cluster.
    """
    z = standardise(model, values)
    distance = np.empty((len(z), model.k))
    for j, centroid in enumerate(model.centroids):
        gaps = z - centroid
        distance[:, j] = np.sqrt(_row_sums(gaps * gaps))
    rows = np.arange(len(z))
    cluster = distance.argmin(axis=1)
    if held is not None:
        stays = (held >= 0) & (distance[rows, np.maximum(held, 0)] - distance[rows, cluster] <= delta)
        cluster = np.where(stays, held, cluster)
    own = distance[rows, cluster].copy()
    distance[rows, cluster] = np.inf
    return cluster, distance.min(axis=1) - own


def _row_sums(squares: Matrix) -> Matrix:
    total = squares[:, 0].copy()
    for column in range(1, squares.shape[1]):
        total += squares[:, column]
    return total


def to_sql(model: Model, relation: str) -> str:
    """A query that scores `relation` (`customer_id` and `features.COLUMNS`): customer_id, raw_segment_id, segment_id,
    segment_name, margin, gaps; one row per row of `relation`.

    The numbers of the model stand in the text, so any warehouse can run it.
    """
    features = []
    for position, name in enumerate(model.columns):
        value = f"cast(features.{name} as double)"
        if name == "monetary":
            value = f"greatest({value}, {_number(model.floor)})"
        features.append(
            f"(ln(1 + {value}) - {_number(model.means[position])}) / {_number(model.scales[position])} as z{position}"
        )
    distances = [
        "sqrt("
        + " + ".join(
            f"(z{i} - {_number(centre)}) * (z{i} - {_number(centre)})" for i, centre in enumerate(model.centroids[j])
        )
        + f") as d{j}"
        for j in range(model.k)
    ]
    every = ", ".join(f"d{j}" for j in range(model.k))
    nearest = (
        "case "
        + " ".join(f"when d{j} <= least({every}) then {j}" for j in range(model.k - 1))
        + f" else {model.k - 1} end"
    )
    others = ", ".join(f"case when cluster = {j} then 'infinity'::double else d{j} end" for j in range(model.k))
    gaps = ", ".join(f"d{j} - least({every})" for j in range(model.k))
    names = " ".join(
        f"when {j} then '{segment.segment_name.replace(chr(39), chr(39) * 2)}'"
        for j, segment in enumerate(model.segments)
    )
    ids = " ".join(f"when {j} then {segment.segment_id}" for j, segment in enumerate(model.segments))
    return f"""
    with z as (select features.customer_id, {", ".join(features)} from {relation} as features),
    distances as (select customer_id, {", ".join(distances)} from z),
    found as (select *, {nearest} as cluster from distances)
    select customer_id, cast(cluster as bigint) as raw_segment_id, cast(case cluster {ids} end as bigint) as segment_id,
        case cluster {names} end as segment_name, least({others}) - least({every}) as margin, [{gaps}] as gaps
    from found
    """


def by_day_sql(relation: str) -> str:
    """`relation` (the columns of `int_customer_rfm`) with recency in calendar days, as the live model counts it.

    The day of the last order is found again from its age; ten microseconds are more than a float of days can be wrong by.
    """
    day = "cast(as_of - to_microseconds(cast(round(recency_days * 86400e6) as bigint) - 10) as date)"
    return (
        f"select customer_id, cast(greatest(date_diff('day', {day}, cast(as_of as date)), 0) as double) as recency_days,"
        f" frequency, monetary from {relation}"
    )


def _number(value: float) -> str:
    """A float as SQL reads it back to the same bits: a double literal, not a decimal."""
    text = repr(float(value))
    return text if "e" in text else f"{text}e0"


def unsegmented_reason(customers: int, spending: int, k: int | str) -> str | None:
    """The sentence for skipping a shop with fewer than 50 customers per cluster; None when there are enough."""
    clusters = 2 if k == "auto" else int(k)
    if spending >= MIN_PER_CLUSTER * clusters:
        return None
    return (
        f"{spending} of {customers} customers have a positive net spend; ML segments need at least {MIN_PER_CLUSTER * clusters} "
        f"({MIN_PER_CLUSTER} for each of {clusters} clusters): the stage is skipped and everybody is unsegmented"
    )


def assign(
    warehouse: Warehouse,
    settings: MlSegmentSettings,
    clock: Clock,
    artefacts: Path,
    publish: Path | None = None,
    *,
    relation: str = "main.int_customer_rfm",
) -> Assignment:
    """Score every customer of `relation` with the champion, settle memberships, write CLV, and publish to the seed file
    `publish` (or to the table, above `segments.ml.seed_limit`); None publishes nothing.

    Customers whose net spend is not positive are unsegmented and counted. Without a champion, or with fewer than 50 · k
    customers, everybody is unsegmented, the open memberships end, the live model has no centroids any more, and a seed file
    that we did not write is left alone.
    Raises BadFeatures, BrokenArtefact.
    """
    customers, spending = spenders(warehouse, relation)
    as_of = _as_of(warehouse, relation, clock)
    champion = registry.champion(warehouse)
    why = unsegmented_reason(customers, spending, settings.k)
    if why is None and champion is None:
        why = "there is no segment model yet: run `headwater segment train`; until then everybody is unsegmented"
    if why is not None or champion is None:
        return _nobody(warehouse, clock, as_of, customers, str(why), publish, settings)
    model = Model.from_dict(registry.load_artefact(artefacts, champion)["model"])
    moment = memberships.moment_for(warehouse, registry.KMEANS, as_of)
    columns = ", ".join(f"cast({name} as double) as {name}" for name in COLUMNS)
    stability = champion.published_stability
    with warehouse.transaction():
        centroids.put(warehouse, champion.version, stability, model.as_dict())
    warehouse.execute(
        f"create or replace temp table assign_features as select customer_id, as_of, {columns} from {relation}"
    )
    try:
        check(warehouse, "assign_features", relation, constant=False)
        spent = f"({by_day_sql('assign_features')} where monetary > 0)"
        warehouse.execute(
            f"create or replace temp table assign_scores as select *, {champion.version} as version, '{stability}' as stability"
            f" from ({to_sql(model, spent)})"
        )
        now = naive_utc(clock.now())
        settled = hysteresis.settle(warehouse, "assign_scores", moment, settings.hysteresis, now)
        failpoint("segment.assigned")
        counts = warehouse.rows(
            f"select segment_name, count(*) as customers from ({_MEMBERS}) group by segment_name, segment_id order by segment_id"
        )
        moved = int(
            warehouse.value(
                f"select count(*) from ({_MEMBERS}) as new join ({memberships.before_sql(registry.KMEANS, moment)}) as old"
                " on old.customer_id = new.customer_id where old.segment_id <> new.segment_id"
            )
        )
        valued = clv.score_all(warehouse, settings, artefacts, relation, as_of)
        published = publish_segments(warehouse, f"({_MEMBERS})", publish, settings.seed_limit) if publish else None
    finally:
        warehouse.execute("drop table if exists assign_features")
        warehouse.execute("drop table if exists assign_scores")
    segments = {str(row["segment_name"]): int(row["customers"]) for row in counts}
    warnings = list(_warnings(customers - spending, champion, moment, as_of))
    warnings += valued.warnings
    return Assignment(
        "ok",
        f"{sum(segments.values()):,} of {customers:,} customers are in {len(segments)} segments of version {champion.version} ({stability})",
        as_of,
        customers,
        segments,
        {"net spend is not positive": customers - spending} if customers > spending else {},
        champion.version,
        stability,
        moved,
        settled.held,
        valued.customers,
        published,
        tuple(warnings),
    )


def _warnings(unspent: int, champion: registry.Version, moment: datetime, as_of: datetime) -> list[str]:
    found: list[str] = []
    if unspent:
        found.append(
            f"{counted(unspent, 'customer has', 'customers have')} a net spend of zero or less: clipped for clustering only, and unsegmented in what is published"
        )
    if champion.published_stability != "fine":
        found.append(f"the segments are doubtful. {champion.verdict_reason}")
    if moment > as_of:
        found.append(
            f"the memberships already reach to {moment}, later than the as_of {as_of}: they are continued from there, not rewritten"
        )
    return found


def _as_of(warehouse: Warehouse, relation: str, clock: Clock) -> datetime:
    found = warehouse.value(f"select max(as_of) from {relation}")
    return found or warehouse.value("select max(as_of) from headwater.clock") or naive_utc(clock.now())


def _nobody(
    warehouse: Warehouse,
    clock: Clock,
    as_of: datetime,
    customers: int,
    why: str,
    publish: Path | None,
    settings: MlSegmentSettings,
) -> Assignment:
    ours = bool(warehouse.value("select count(*) from headwater.segment_assignments"))
    nobody = "(select customer_id, version, raw_segment_id, segment_id, segment_name, stability, margin, cast(null as double[]) as gaps"
    nobody += " from headwater.segment_assignments limit 0)"
    with warehouse.transaction():
        centroids.put(warehouse, 0, "", None)
        hysteresis.settle(warehouse, nobody, as_of, settings.hysteresis, naive_utc(clock.now()))
    warnings = [why]
    published = None
    if publish and publish.is_file() and not ours and len(publish.read_text(encoding="utf-8").splitlines()) > 1:
        warnings.append(f"{publish.name} holds segments that Headwater did not make; it is left as it is")
    elif publish:
        published = publish_segments(warehouse, f"({_MEMBERS})", publish, settings.seed_limit)
    return Assignment(
        "skipped", why, as_of, customers, {}, {"skipped": customers}, published=published, warnings=tuple(warnings)
    )
