"""K-means on log1p and z-scores, and the fitted model that everything else passes around.

Features are heavily skewed, so each goes through ln(1 + x) and is then standardised; the distance of k-means is the plain
Euclidean one in that space ("z units"). Fit: scikit-learn's Lloyd with k-means++ (Arthur and Vassilvitskii 2007),
`n_init=10`, a fixed seed. Centroids are rounded to nine decimals, because the order in which threads add up is not fixed.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.segments.features import COLUMNS, FLOOR_QUANTILE, ConstantColumn, Features, Matrix
from headwater.segments.threads import one_thread

N_INIT = 10
ONE_THREAD_BELOW = 100_000


@dataclass(frozen=True)
class Segment:
    """What a cluster is published as. `segment_id` follows the name, never the index of the cluster."""

    segment_id: int
    segment_name: str


@dataclass(frozen=True)
class Model:
    """A fitted clustering; all that scoring needs.

    `columns` are those of `features.COLUMNS` that are in use (d of them). `means`, `scales` (d,) and `centroids` (k, d) are
    float64; centroids in z units. `floor`: net spend below it is read as `floor`, in shop currency. `segments[j]` is what
    cluster j is published as; empty until named.
    """

    columns: tuple[str, ...]
    floor: float
    means: Matrix
    scales: Matrix
    centroids: Matrix
    segments: tuple[Segment, ...] = ()

    @property
    def k(self) -> int:
        return len(self.centroids)

    def named(self, segments: tuple[Segment, ...]) -> "Model":
        """The same model with its clusters published as `segments`."""
        return replace(self, segments=segments)

    def as_dict(self) -> dict[str, Any]:
        """The model as JSON can hold it; `from_dict` gives it back equal."""
        return {
            "columns": list(self.columns),
            "floor": self.floor,
            "means": self.means.tolist(),
            "scales": self.scales.tolist(),
            "centroids": self.centroids.tolist(),
            "segments": [[segment.segment_id, segment.segment_name] for segment in self.segments],
        }

    @staticmethod
    def from_dict(found: dict[str, Any]) -> "Model":
        return Model(
            tuple(found["columns"]),
            float(found["floor"]),
            np.asarray(found["means"], float),
            np.asarray(found["scales"], float),
            np.asarray(found["centroids"], float),
            tuple(Segment(int(number), str(name)) for number, name in found["segments"]),
        )


@dataclass(frozen=True)
class Fit:
    """What `fit` found: `labels` (n,) int32, row i is customer i of the features; `inertia` in z units, summed."""

    model: Model
    labels: npt.NDArray[np.int32]
    inertia: float
    z: Matrix


def prepare(features: Features) -> tuple[Model, Matrix]:
    """A model that can only standardise (no centroids yet) and the standardised features, (n, d) float64.

    A frequency that is the same for everybody is left out: nobody bought twice. Raises ConstantColumn for any other.
    """
    spend = features.values[:, COLUMNS.index("monetary")]
    positive = spend[spend > 0]
    floor = float(np.quantile(positive, FLOOR_QUANTILE)) if len(positive) else 0.0
    used = [i for i in range(len(COLUMNS)) if COLUMNS[i] != "frequency" or np.ptp(features.values[:, i]) > 0]
    z = _log(features.values, used, floor)
    means = z.mean(axis=0)
    scales = z.std(axis=0)
    for name, low, high in zip((COLUMNS[i] for i in used), z.min(axis=0), z.max(axis=0), strict=True):
        if low == high:
            raise ConstantColumn(
                f"{name} is {np.expm1(low):g} for all {features.customers} customers (net spends of zero or less are read as the least that others "
                "spent): a constant column separates nobody. Mend its mapping"
            )
    z -= means
    z /= scales
    return Model(tuple(COLUMNS[i] for i in used), floor, means, scales, np.empty((0, len(used)))), z


def standardise(model: Model, values: Matrix) -> Matrix:
    """Features in shop units, (n, 3) as `features.COLUMNS`, to z units, (n, d)."""
    z = _log(values, [COLUMNS.index(name) for name in model.columns], model.floor)
    z -= model.means
    z /= model.scales
    return z


def _log(values: Matrix, used: list[int], floor: float) -> Matrix:
    z = np.empty((len(values), len(used)))
    for to, source in enumerate(used):
        column = values[:, source]
        if COLUMNS[source] == "monetary":
            column = np.maximum(column, floor)
        np.log1p(column, out=z[:, to])
    return z


def fit(features: Features, k: int, seed: int) -> Fit:
    """K-means with `k` clusters on all customers of `features`."""
    blank, z = prepare(features)
    centroids, labels, inertia = lloyd(z, k, seed)
    return Fit(replace(blank, centroids=np.round(centroids, 9)), labels, inertia, z)


def lloyd(
    z: Matrix, k: int, seed: int, weights: npt.NDArray[np.float64] | None = None
) -> tuple[Matrix, npt.NDArray[np.int32], float]:
    """Centroids (k, d), labels (n,) and inertia of the best of `N_INIT` starts on standardised features; `weights` (n,).

    Below `ONE_THREAD_BELOW` customers one thread does it (see threads.py).
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415  (a second of import that `--help` must not pay)

    means = KMeans(k, n_init=N_INIT, random_state=seed)
    if len(z) < ONE_THREAD_BELOW:
        with one_thread():
            found = means.fit(z, sample_weight=weights)
    else:
        found = means.fit(z, sample_weight=weights)
    return found.cluster_centers_, found.labels_, float(found.inertia_)
