"""Names for clusters, by rules on the ranks of their centroids; never by the index of a cluster.

The five names and their ids are the public contract of the seed `customer_segments`. The Champions are named first, the
others together, so that the names fit best as a whole (Hungarian method). What fits, by ranks among the clusters that are
left, of the mean of ln(1 + x) per cluster:

    Champions (VIPs)      recent + frequent + rich; most of them bought twice
    Big Spenders          3 · rich; richer than the average customer
    At-Risk (Lapsing)     2 · long gone + frequent: active once; gone longer than the average customer
    Loyal Customers       2 · recent + frequent; most of them bought twice; not gone longer than the average customer
    Occasional Shoppers   seldom + poor

With fewer than five clusters the names are given up in the order Loyal, Big Spenders, At-Risk, Champions.

A name that the data cannot bear is refused with a sentence: where hardly anybody bought twice there is no loyalty to see,
and a cluster of mostly one-time buyers is not loyal either. Clusters beyond the bearable names share the nearest base name
that is true of them, with a suffix that says how they differ, and get ids from 5 on; a name keeps its id for ever.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

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
    for rules in (_RULES[:1], _RULES[1:]):
        free = [j for j in range(len(found.customers)) if j not in segments]
        open_ = [rule for rule in rules if rule in wanted and rule not in taken]
        for rule, j in _matched(found, open_, free):
            if rule in NEED_REPEATS and not _true(rule, found, j):
                refusals.append(
                    f"the name {rule} is refused: of the cluster that comes nearest {found.repeat_share[j]:.0%} bought more than "
                    f"once (at least {MIN_CLUSTER_REPEAT_SHARE:.0%} should), and their last order is {found.recency_days[j]:.0f} days old; "
                    "the cluster gets another name"
                )
            else:
                segments[j] = Segment(SEGMENT_IDS[rule], rule)
                taken.add(rule)
    _name_the_rest(segments, found, {**SEGMENT_IDS, **(known or {})})
    return Naming(tuple(segments[j] for j in range(len(found.customers))), tuple(refusals))


def _matched(found: Profile, rules: list[str], free: list[int]) -> list[tuple[str, int]]:
    """One cluster of `free` for each of `rules`, so that the sum of fitness is largest; a name that would be false of its
    cluster is given only when there is no other way."""
    if not rules or not free:
        return []
    recency, frequency, monetary = (_rank(column[free]) for column in found.log_means.T)
    fitness = {
        "Champions (VIPs)": frequency + monetary - recency,
        "Big Spenders": 3 * monetary,
        "At-Risk (Lapsing)": 2 * recency + frequency,
        "Loyal Customers": frequency - 2 * recency,
        "Occasional Shoppers": -frequency - monetary,
    }
    table = np.array([fitness[rule] - 1_000 * ~np.array([_true(rule, found, j) for j in free]) for rule in rules])
    rows, columns = linear_sum_assignment(table, maximize=True)
    return [(rules[row], free[column]) for row, column in zip(rows, columns, strict=True)]


def _rank(values: Matrix) -> Matrix:
    """How many of `values` (n,) are smaller, plus a little of the value itself to break ties."""
    spread = np.ptp(values) or 1.0
    return (values[None, :] < values[:, None]).sum(axis=1) + 0.01 * (values - values.min()) / spread


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
    if base in NEED_REPEATS and found.repeat_share[j] < MIN_CLUSTER_REPEAT_SHARE:
        return False
    if base == "Loyal Customers":
        return bool(recency <= found.average[0])
    if base == "At-Risk (Lapsing)":
        return bool(recency > found.average[0])
    if base == "Big Spenders":
        return bool(monetary > found.average[2])
    return True
