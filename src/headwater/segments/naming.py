"""Names for clusters, by rules on the ranks of their centroids; never by the index of a cluster.

The five names and their ids are the public contract of the seed `customer_segments`. The rules go from the best customers
down; each takes one cluster away (ranks are among the clusters that are left, by the mean of ln(1 + x)):

    Champions (VIPs)      recent, frequent and rich: the best sum of the three ranks; most of them bought twice
    Big Spenders          of the others, the highest spend
    At-Risk (Lapsing)     of the others that are gone longer than the average customer, the most orders: active once
    Loyal Customers       of the others, the best sum of ranks by recency and by orders; most of them bought twice
    Occasional Shoppers   what is left

With fewer than five clusters the names are given up in the order Loyal, Big Spenders, At-Risk, Champions.

A name that the data cannot bear is refused with a sentence: where hardly anybody bought twice there is no loyalty to see,
and a cluster of mostly one-time buyers is not loyal either. Clusters beyond the bearable names share the nearest base name
that is true of them, with a suffix that says how they differ, and get ids from 5 on; a name keeps its id for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from headwater.segments.cluster import Segment
from headwater.segments.features import COLUMNS, Features, Matrix

SEGMENT_IDS = {
    "Big Spenders": 0,
    "At-Risk (Lapsing)": 1,
    "Occasional Shoppers": 2,
    "Champions (VIPs)": 3,
    "Loyal Customers": 4,
}
_RULES = ("Champions (VIPs)", "Big Spenders", "At-Risk (Lapsing)", "Loyal Customers", "Occasional Shoppers")
_GIVEN_UP = ("Loyal Customers", "Big Spenders", "At-Risk (Lapsing)", "Champions (VIPs)")
NEED_REPEATS = ("Champions (VIPs)", "Loyal Customers")
MIN_REPEAT_SHARE = 0.05
"""Below this share of customers with two or more orders the data cannot bear the names of `NEED_REPEATS`."""
MIN_CLUSTER_REPEAT_SHARE = 0.5
"""And a cluster bears them only when at least so many of its customers bought twice."""

_SUFFIX = {
    "recency_days": ("more recent", "longer ago"),
    "frequency": ("fewer orders", "more orders"),
    "monetary": ("lower spend", "higher spend"),
}


@dataclass(frozen=True)
class Profile:
    """What the clusters look like, in shop units; arrays are (k,) and row j is cluster j.

    `log_means` is (k, 3): the mean of ln(1 + x) per column of `features.COLUMNS`.
    """

    customers: npt.NDArray[np.int64]
    recency_days: Matrix
    frequency: Matrix
    monetary: Matrix
    repeat_share: Matrix
    log_means: Matrix

    @property
    def average(self) -> Matrix:
        """(3,): the mean of ln(1 + x) over all customers."""
        return self.customers @ self.log_means / max(int(self.customers.sum()), 1)


@dataclass(frozen=True)
class Naming:
    """`segments[j]` is what cluster j is called; `refusals` says which names were refused and why, one sentence each."""

    segments: tuple[Segment, ...]
    refusals: tuple[str, ...]


def profile(features: Features, labels: npt.NDArray[np.int32], k: int) -> Profile:
    """The means of each cluster."""
    counts = np.bincount(labels, minlength=k)
    safe = np.maximum(counts, 1)
    means = [np.bincount(labels, features.values[:, i], k) / safe for i in range(len(COLUMNS))]
    logs = [np.bincount(labels, np.log1p(np.maximum(features.values[:, i], 0)), k) / safe for i in range(len(COLUMNS))]
    repeats = np.bincount(labels, features.values[:, COLUMNS.index("frequency")] >= 2, k) / safe
    return Profile(counts, means[0], means[1], means[2], repeats, np.column_stack(logs))


def name(
    found: Profile,
    repeat_share: float,
    keep: Mapping[int, Segment] | None = None,
    known: Mapping[str, int] | None = None,
) -> Naming:
    """Names for all clusters of `found`. `keep` are clusters that carry a name from the model before; the rules name
    the others with the names that are left. `repeat_share` is that of all customers; `known` are names that earlier
    versions have published, with their ids."""
    segments: dict[int, Segment] = dict(keep or {})
    refusals: list[str] = []
    wanted = list(_RULES)
    if repeat_share < MIN_REPEAT_SHARE:
        segments = {j: kept for j, kept in segments.items() if not kept.segment_name.startswith(NEED_REPEATS)}
        wanted = [rule for rule in wanted if rule not in NEED_REPEATS]
        refusals.append(
            f"the names {' and '.join(NEED_REPEATS)} are refused: {repeat_share:.1%} of the customers bought more than once, "
            f"and below {MIN_REPEAT_SHARE:.0%} the data cannot show loyalty; the other names are used"
        )
    taken = {segment.segment_name for segment in segments.values()}
    left = len(found.customers) - len(segments)
    for rule in _GIVEN_UP:
        if len([w for w in wanted if w not in taken]) > left and rule in wanted and rule not in taken:
            wanted.remove(rule)
    for rule in wanted:
        free = [j for j in range(len(found.customers)) if j not in segments]
        if rule in taken or not free:
            continue
        best = max(free, key=lambda j, rule=rule, free=free: _fitness(rule, found, free, j))
        if rule in NEED_REPEATS and found.repeat_share[best] < MIN_CLUSTER_REPEAT_SHARE:
            refusals.append(
                f"the name {rule} is refused: of the cluster that comes nearest {found.repeat_share[best]:.0%} bought more than "
                f"once, and at least {MIN_CLUSTER_REPEAT_SHARE:.0%} should; the cluster gets another name"
            )
            continue
        segments[best] = Segment(SEGMENT_IDS[rule], rule)
        taken.add(rule)
    _name_the_rest(segments, found, {**SEGMENT_IDS, **(known or {})})
    return Naming(tuple(segments[j] for j in range(len(found.customers))), tuple(refusals))


def _fitness(rule: str, found: Profile, free: list[int], j: int) -> tuple[float, ...]:
    """Larger fits better; later entries break ties."""
    recency, frequency, monetary = found.log_means.T

    def rank(values: Matrix) -> int:
        return sum(bool(values[other] < values[j]) for other in free)

    if rule == "Champions (VIPs)":
        return (rank(-recency) + rank(frequency) + rank(monetary), monetary[j])
    if rule == "Big Spenders":
        return (monetary[j],)
    if rule == "At-Risk (Lapsing)":
        return (float(recency[j] > found.average[0]), frequency[j], recency[j])
    if rule == "Loyal Customers":
        return (rank(-recency) + rank(frequency), frequency[j])
    return (-monetary[j],)


def _name_the_rest(segments: dict[int, Segment], found: Profile, ids: dict[str, int]) -> None:
    """Clusters that no name was left for: the nearest true name, and how they differ most from the cluster that has it."""
    spread = found.log_means.std(axis=0)
    spread[spread == 0] = 1.0
    bases = {segment.segment_name: j for j, segment in segments.items() if segment.segment_name in SEGMENT_IDS}
    names = {segment.segment_name for segment in segments.values()}
    for j in range(len(found.customers)):
        if j in segments:
            continue
        gaps = {base: (found.log_means[j] - found.log_means[other]) / spread for base, other in bases.items()}
        near = sorted(
            (base for base in bases if _true(base, found, j)), key=lambda base: float(np.abs(gaps[base]).sum())
        )
        called = "Occasional Shoppers"
        if near:
            most = int(np.abs(gaps[near[0]]).argmax())
            called = f"{near[0]} - {_SUFFIX[COLUMNS[most]][int(gaps[near[0]][most] > 0)]}"
        plain, times = called, 1
        while called in names:
            times += 1
            called = f"{plain} {times}"
        names.add(called)
        ids.setdefault(called, max(4, *ids.values()) + 1)
        segments[j] = Segment(ids[called], called)


def _true(base: str, found: Profile, j: int) -> bool:
    """Whether the base name says nothing false about cluster j."""
    recency, _, monetary = found.log_means[j]
    if base in NEED_REPEATS:
        return bool(found.repeat_share[j] >= MIN_CLUSTER_REPEAT_SHARE)
    if base == "At-Risk (Lapsing)":
        return bool(recency > found.average[0])
    if base == "Big Spenders":
        return bool(monetary > found.average[2])
    return True
