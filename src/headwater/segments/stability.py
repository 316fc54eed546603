"""Would other customers of the same kind give the same segments, and is there anything to segment?

`measure` refits the clustering on bootstrap resamples and looks for each original cluster in the new ones: the per-cluster
Jaccard of clusterboot (Hennig 2007, "Cluster-wise assessment of cluster stability"), with the adjusted Rand index beside it
for information. The gate is the smallest Jaccard: a mean hides a cluster that dissolves.

With many customers even pure noise is cut the same way each time, so stability alone would let it through. `structure`
therefore compares with shuffled copies of the data, each column permuted on its own: noise clusters no tighter than these.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from headwater.segments.cluster import lloyd
from headwater.segments.features import Matrix

Trust = Literal["fine", "doubtful", "not trusted"]

STRUCTURE_SAMPLE = 5_000
SHUFFLES = 20
CHANCE = 3.0
"""Standard deviations of the shuffled copies by which the data must be tighter."""
SEPARATED = 0.5
"""A mean silhouette from which clusters stand apart whatever the shuffled copies do (Kaufman and Rousseeuw 1990)."""

AUTO_K = range(2, 9)
AUTO_SAMPLE = 5_000
AUTO_REFITS = 20


@dataclass(frozen=True)
class Stability:
    """`jaccard` is (k,), 0 to 1, row j is cluster j, the mean over `refits` resamples; `ari` the mean adjusted Rand index;
    `sample` the customers drawn from."""

    jaccard: tuple[float, ...]
    ari: float
    sample: int
    refits: int

    @property
    def smallest(self) -> float:
        return min(self.jaccard)

    def trust(self, not_below: float, fine_from: float) -> Trust:
        """The verdict on the smallest Jaccard, by the two thresholds of the settings."""
        if self.smallest < not_below:
            return "not trusted"
        return "fine" if self.smallest >= fine_from else "doubtful"


@dataclass(frozen=True)
class Structure:
    """`tighter` is the share by which the data's inertia lies below that of shuffled copies, `chance` what noise reaches;
    `silhouette` −1 to 1."""

    tighter: float
    chance: float
    silhouette: float

    @property
    def there(self) -> bool:
        """Whether there is more to segment than in noise."""
        return self.tighter > self.chance or self.silhouette > SEPARATED


def structure(z: Matrix, k: int, seed: int) -> Structure:
    """Compare the standardised features `z` (n, d) with shuffled copies, on at most 5,000 customers."""
    from sklearn.metrics import silhouette_score  # noqa: PLC0415

    random = np.random.default_rng(seed)
    if len(z) > STRUCTURE_SAMPLE:
        z = z[np.sort(random.choice(len(z), STRUCTURE_SAMPLE, replace=False))]
    _, labels, inertia = lloyd(z, k, seed)
    shuffled = np.array([lloyd(random.permuted(z, axis=0), k, seed)[2] for _ in range(SHUFFLES)])
    level = float(shuffled.mean())
    apart = silhouette_score(z, labels, sample_size=min(len(z), 2_000), random_state=seed)
    return Structure(1 - inertia / level, CHANCE * float(shuffled.std(ddof=1)) / level, float(apart))


def measure(
    z: Matrix,
    labels: npt.NDArray[np.int32],
    k: int,
    seed: int,
    *,
    sample: int,
    refits: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> Stability:
    """How well `refits` resamples find the clusters `labels` (n,) of the standardised features `z` (n, d) again.

    At most `sample` customers are drawn, once. `on_progress(done, refits)` is called after each refit. A cluster of which
    a resample holds nobody counts as not found. The same arguments give the same answer.
    """
    from sklearn.metrics import adjusted_rand_score  # noqa: PLC0415

    random = np.random.default_rng(seed)
    n = len(z)
    if n > sample:
        drawn = np.sort(random.choice(n, sample, replace=False))
        z, labels, n = z[drawn], labels[drawn], sample
    jaccard = np.zeros((refits, k))
    ari = np.zeros(refits)
    for refit in range(refits):
        times = np.bincount(random.integers(0, n, n), minlength=n)
        there = np.flatnonzero(times)
        _, again, _ = lloyd(z[there], k, seed + refit + 1, times[there].astype(float))
        jaccard[refit] = best_jaccard(labels[there], again, k)
        ari[refit] = adjusted_rand_score(labels[there], again)
        if on_progress:
            on_progress(refit + 1, refits)
    return Stability(tuple(jaccard.mean(axis=0).tolist()), float(ari.mean()), n, refits)


def best_jaccard(before: npt.NDArray[np.int32], after: npt.NDArray[np.int32], k: int) -> Matrix:
    """For each cluster of `before`, (k,), the largest Jaccard with any cluster of `after`; both (n,), the same customers."""
    overlap = np.bincount(before * k + after, minlength=k * k).reshape(k, k).astype(float)
    union = overlap.sum(axis=1)[:, None] + overlap.sum(axis=0)[None, :] - overlap
    return (overlap / np.maximum(union, 1)).max(axis=1)


def choose_k(z: Matrix, seed: int) -> int:
    """The number of clusters with the largest smallest Jaccard, by a quick look at at most 5,000 customers; of numbers
    that are as stable to within 0.01, the largest."""
    random = np.random.default_rng(seed)
    if len(z) > AUTO_SAMPLE:
        z = z[np.sort(random.choice(len(z), AUTO_SAMPLE, replace=False))]
    smallest: dict[int, float] = {}
    for k in AUTO_K:
        if len(z) < 50 * k:
            break
        _, labels, _ = lloyd(z, k, seed)
        smallest[k] = measure(z, labels, k, seed, sample=AUTO_SAMPLE, refits=AUTO_REFITS).smallest
    return max(k for k in smallest if smallest[k] >= max(smallest.values()) - 0.01)
