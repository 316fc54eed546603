"""Which new cluster continues which old segment.

Cluster indices mean nothing across fits (two seeds agree on a few customers in a hundred by chance). `align` matches the
clusters of a new fit to the segments of the model before, one to one, so that the most customers stay where they are
(Hungarian method, scipy's `linear_sum_assignment`, on the table of common customers). A matched pair is *carried* when it is
recognisably the same group: its Jaccard is at least `MIN_CARRIED`. Other new clusters are *new*, other old segments *retired*.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
from scipy.optimize import linear_sum_assignment

from headwater.segments.cluster import Segment

MIN_CARRIED = 0.3


@dataclass(frozen=True)
class Match:
    """One new cluster, or one old segment that ended (`cluster` None).

    `overlap` is the Jaccard of the pair, 0 to 1; `customers` how many are in the new cluster (of a retired one: in the old)."""

    outcome: Literal["carried", "new", "retired"]
    cluster: int | None
    previous: Segment | None
    overlap: float
    customers: int


@dataclass(frozen=True)
class Alignment:
    """`overlap` is the share of all customers that stay in their segment, 0 to 1; the gate looks at it."""

    matches: tuple[Match, ...]
    overlap: float

    @property
    def carried(self) -> dict[int, Segment]:
        """New cluster to the segment it continues."""
        return {
            m.cluster: m.previous
            for m in self.matches
            if m.outcome == "carried" and m.cluster is not None and m.previous
        }


def align(
    labels: npt.NDArray[np.signedinteger], k: int, before: npt.NDArray[np.signedinteger], segments: Sequence[Segment]
) -> Alignment:
    """Match the new clusters `labels` (n,), of `k`, to the old ones `before` (n,), published as `segments`.

    Both speak of the same customers now: the old model scored on today's features, so that what changed is the model and
    not the customers.
    """
    old = len(segments)
    table = np.bincount(labels.astype(np.int64) * old + before, minlength=k * old).reshape(k, old)
    rows, columns = linear_sum_assignment(table, maximize=True)
    sizes, old_sizes = table.sum(axis=1), table.sum(axis=0)
    pair = dict(zip(rows.tolist(), columns.tolist(), strict=True))
    matches: list[Match] = []
    kept = 0
    for cluster in range(k):
        partner = pair.get(cluster)
        common = int(table[cluster, partner]) if partner is not None else 0
        union = int(sizes[cluster] + old_sizes[partner] - common) if partner is not None else 1
        jaccard = common / max(union, 1)
        if partner is not None and jaccard >= MIN_CARRIED:
            kept += common
            matches.append(Match("carried", cluster, segments[partner], jaccard, int(sizes[cluster])))
        else:
            pair.pop(cluster, None)
            matches.append(Match("new", cluster, None, jaccard, int(sizes[cluster])))
    for partner in sorted(set(range(old)) - set(pair.values())):
        matches.append(Match("retired", None, segments[partner], 0.0, int(old_sizes[partner])))
    return Alignment(tuple(matches), kept / max(len(labels), 1))
