"""Trap: the ids of segments move at a retrain."""

from pathlib import Path

import numpy as np
import pytest
from segment_shops import QUICK, features_of, marketing_insights, online_retail

from headwater.segments.align import align
from headwater.segments.cluster import Segment, fit
from headwater.segments.features import read
from headwater.segments.naming import SEGMENT_IDS, name, profile
from headwater.warehouse.connection import Warehouse

FIVE = tuple(Segment(number, called) for called, number in SEGMENT_IDS.items())


def test_renumbered_clusters_keep_their_segments() -> None:
    before = np.repeat(np.arange(5), 20)
    renumbered = np.array([3, 0, 4, 1, 2])[before]
    found = align(renumbered, 5, before, FIVE)
    assert found.overlap == 1.0
    assert {cluster: segment.segment_id for cluster, segment in found.carried.items()} == {3: 0, 0: 1, 4: 2, 1: 3, 2: 4}
    assert [match.outcome for match in found.matches] == ["carried"] * 5


def test_the_matching_is_the_best_for_all_and_not_greedy() -> None:
    """Greedily, new 0 would take old 0 (30 common) and leave new 1 with old 1 (0 common)."""
    labels = np.repeat([0, 0, 1], [30, 25, 28])
    before = np.repeat([0, 1, 0], [30, 25, 28])
    found = align(labels, 2, before, FIVE[:2])
    assert {m.cluster: m.previous.segment_id for m in found.matches if m.previous} == {0: 1, 1: 0}
    assert found.overlap == pytest.approx((25 + 28) / 83)


def test_a_new_cluster_and_a_retired_segment() -> None:
    before = np.repeat([0, 1, 2], [100, 100, 4])
    labels = np.concatenate([np.repeat([0, 1], [100, 50]), np.repeat([2], 50), np.repeat([0], 4)])
    found = align(labels, 3, before, FIVE[:3])
    outcomes = {(m.cluster, m.outcome): (m.previous.segment_name if m.previous else None) for m in found.matches}
    assert outcomes == {
        (0, "carried"): "Big Spenders",
        (1, "carried"): "At-Risk (Lapsing)",
        (2, "new"): None,
        (None, "retired"): "Occasional Shoppers",
    }
    assert found.overlap == pytest.approx(150 / 204)
    assert sum(m.customers for m in found.matches if m.cluster is not None) == 204


def test_more_clusters_than_segments() -> None:
    found = align(np.arange(30) % 3, 3, np.zeros(30, dtype=int), FIVE[:1])
    assert sorted(m.outcome for m in found.matches) == ["carried", "new", "new"]


@pytest.mark.parametrize("shop", [marketing_insights, online_retail])
def test_twenty_seeds_agree_on_the_published_ids(warehouse: Warehouse, shared_data: Path, shop: object) -> None:
    assert callable(shop)
    shop(warehouse, shared_data)
    features = read(warehouse, "main.int_customer_rfm")
    first = fit(features, 5, QUICK.seed)
    named = name(profile(features, first.labels, 5), features.repeat_share).segments
    published = np.array([segment.segment_id for segment in named])[first.labels]
    raw, aligned = [], []
    for seed in range(20):
        again = fit(features_of(features.values), 5, seed)
        carried = align(again.labels, 5, first.labels, named).carried
        segments = name(profile(features, again.labels, 5), features.repeat_share, carried).segments
        ids = np.array([segment.segment_id for segment in segments])
        aligned.append((ids[again.labels] == published).mean())
        raw.append((again.labels == first.labels).mean())
    assert min(aligned) >= 0.99
    assert np.mean(raw) < 0.5  # the mistake: publishing the cluster's index fails the same check
