"""Trap: a mean stability score hides a dissolved segment, and noise is stable when there is enough of it."""

from pathlib import Path

import numpy as np
import pytest
from segment_shops import QUICK, blobs, features_of, marketing_insights, noise

from headwater.segments.cluster import Fit, fit
from headwater.segments.features import read
from headwater.segments.gate import Measures, judge
from headwater.segments.stability import Stability, best_jaccard, choose_k, measure, structure
from headwater.warehouse.connection import Warehouse


def judged(found: Fit, stability: float, *, look_at_structure: bool = True) -> tuple[str, ...]:
    """The rules of the gate that refuse a fit of which only shape and stability are known."""
    shape = structure(found.z, found.model.k, 1)
    measures = Measures(
        stability, "one", 0.2, "one", tighter=shape.tighter, tighter_by_chance=shape.chance, silhouette=shape.silhouette
    )
    settings = QUICK.model_copy(update={"require_structure": look_at_structure})
    return tuple(finding.rule for finding in judge(measures, settings).refusals)


def test_best_jaccard_by_hand() -> None:
    before = np.array([0, 0, 0, 0, 1, 1], dtype=np.int32)
    after = np.array([1, 1, 1, 0, 0, 0], dtype=np.int32)
    np.testing.assert_allclose(best_jaccard(before, after, 2), [3 / 4, 2 / 3])


def test_marketing_insights_is_stable_at_five_and_more_so_at_two(warehouse: Warehouse, shared_data: Path) -> None:
    marketing_insights(warehouse, shared_data)
    features = read(warehouse, "main.int_customer_rfm")
    smallest = {}
    for k in (2, 5):
        found = fit(features, k, QUICK.seed)
        smallest[k] = measure(found.z, found.labels, k, QUICK.seed, sample=20_000, refits=50).smallest
    assert smallest[2] == pytest.approx(0.97, abs=0.02)
    assert smallest[5] == pytest.approx(0.84, abs=0.03)
    assert choose_k(found.z, QUICK.seed) == 2


def test_the_same_seed_gives_the_same_measure() -> None:
    found = fit(features_of(blobs(600, 1)), 5, 1)
    again = [measure(found.z, found.labels, 5, 3, sample=400, refits=6) for _ in range(2)]
    assert again[0] == again[1]
    assert again[0].sample == 400


def test_progress_is_told() -> None:
    found = fit(features_of(blobs(600, 1)), 5, 1)
    told: list[tuple[int, int]] = []
    measure(found.z, found.labels, 5, 3, sample=400, refits=3, on_progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize(
    ("smallest", "trust"), [(0.59, "not trusted"), (0.60, "doubtful"), (0.749, "doubtful"), (0.75, "fine")]
)
def test_the_verdict_is_that_of_the_smallest(smallest: float, trust: str) -> None:
    assert Stability((0.99, smallest, 0.98), 0.9, 100, 5).trust(0.60, 0.75) == trust


def test_a_mean_hides_a_dissolved_segment() -> None:
    """Four clear groups cut into five: the mean is fine, one segment is not there; the gate looks at the smallest."""
    random = np.random.default_rng(3)
    centres = 4 + np.array([[1.0, 1.0, 1.0], [1.0, -1.0, -1.0], [-1.0, 1.0, -1.0], [-1.0, -1.0, 1.0]])
    logs = centres[np.arange(2_000) % 4] + 0.2 * random.standard_normal((2_000, 3))
    found = fit(features_of(np.expm1(logs)), 5, 1)
    stability = measure(found.z, found.labels, 5, 1, sample=2_000, refits=20)
    assert np.mean(stability.jaccard) > QUICK.min_jaccard
    assert stability.smallest < QUICK.min_jaccard
    assert judged(found, stability.smallest) == ("smallest_jaccard",)
    assert judged(found, float(np.mean(stability.jaccard))) == ()  # the mistake: the gate on the mean lets it through


@pytest.mark.parametrize("kind", ["logs", "plain"])
@pytest.mark.parametrize("customers", [500, 20_000])
def test_uniform_noise_is_refused_at_any_size(customers: int, kind: str) -> None:
    found = fit(features_of(noise(customers, 1, kind)), 5, 1)
    stability = measure(found.z, found.labels, 5, 1, sample=20_000, refits=10)
    assert "structure" in judged(found, stability.smallest)


def test_stability_alone_lets_much_noise_through() -> None:
    """The mistake: without the look at the structure, 20,000 customers of pure noise pass as segments."""
    found = fit(features_of(noise(20_000, 1, "plain")), 5, 1)
    stability = measure(found.z, found.labels, 5, 1, sample=20_000, refits=10)
    assert stability.smallest >= QUICK.min_jaccard
    assert judged(found, stability.smallest, look_at_structure=False) == ()


@pytest.mark.parametrize("seed", range(3))
def test_noise_has_no_structure_and_customers_do(seed: int) -> None:
    assert not structure(fit(features_of(noise(1_500, seed)), 5, 1).z, 5, seed).there
    assert structure(fit(features_of(blobs(1_500, seed)), 5, 1).z, 5, seed).there


def test_groups_that_stand_apart_are_structure_even_when_their_columns_are_independent() -> None:
    random = np.random.default_rng(3)

    def two(low: float, high: float) -> np.ndarray:
        return np.where(random.random(1_500) < 0.5, low, high) + 0.1 * random.standard_normal(1_500)

    shape = structure(fit(features_of(np.expm1(np.column_stack([two(1, 5), two(1, 4), two(3, 7)]))), 8, 1).z, 8, 1)
    assert shape.tighter <= shape.chance
    assert shape.there
