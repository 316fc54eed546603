"""Names follow what a cluster looks like, and the id follows the name."""

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from segment_shops import QUICK, blobs, features_of, marketing_insights, olist

from headwater.segments.cluster import Segment, fit
from headwater.segments.features import read
from headwater.segments.naming import SEGMENT_IDS, Profile, name, profile
from headwater.warehouse.connection import Warehouse

LOOKS = {  # customers, recency, frequency, monetary, share of repeat buyers
    "Champions (VIPs)": (200, 38, 52, 10_000, 1.0),
    "Big Spenders": (390, 175, 26, 4_500, 0.98),
    "At-Risk (Lapsing)": (470, 194, 7, 1_080, 0.8),
    "Loyal Customers": (200, 23, 10, 1_850, 0.9),
    "Occasional Shoppers": (210, 190, 1.7, 125, 0.3),
}


def looks(names: list[str]) -> Profile:
    """A profile whose clusters look, in this order, like the segments named."""
    rows = np.array([LOOKS[called] for called in names], float)
    return Profile(rows[:, 0].astype(int), rows[:, 1], rows[:, 2], rows[:, 3], rows[:, 4], np.log1p(rows[:, 1:4]))


def test_names_do_not_depend_on_the_index_of_the_cluster() -> None:
    for order in permutations(LOOKS):
        segments = name(looks(list(order)), 0.8).segments
        assert [segment.segment_name for segment in segments] == list(order)
        assert all(SEGMENT_IDS[segment.segment_name] == segment.segment_id for segment in segments)


def test_the_ids_are_those_of_the_contract() -> None:
    assert SEGMENT_IDS == {
        "Big Spenders": 0,
        "At-Risk (Lapsing)": 1,
        "Occasional Shoppers": 2,
        "Champions (VIPs)": 3,
        "Loyal Customers": 4,
    }


def test_the_mistake_of_naming_by_index_is_caught() -> None:
    """Names in the order of the clusters pass for one order of five and fail as soon as the clusters are renumbered."""
    by_index = list(SEGMENT_IDS)
    right = sum([s.segment_name for s in name(looks(list(o)), 0.8).segments] == by_index for o in permutations(LOOKS))
    assert right == 1


@pytest.mark.parametrize("k", [2, 3, 4])
def test_fewer_clusters_give_up_names_in_a_fixed_order(k: int) -> None:
    kept = [called for called in LOOKS if called != "Loyal Customers"]
    if k < 4:
        kept.remove("Big Spenders")
    if k < 3:
        kept.remove("At-Risk (Lapsing)")
    assert [segment.segment_name for segment in name(looks(kept), 0.8).segments] == kept


def test_without_repeat_buyers_two_names_are_refused_and_the_others_say_how_they_differ() -> None:
    values = blobs(1_500, 1)
    values[:, 1] = 1
    features = features_of(values)
    found = fit(features, 5, 1)
    named = name(profile(features, found.labels, 5), features.repeat_share)
    assert named.refusals == (
        "the names Champions (VIPs) and Loyal Customers are refused: 0.0% of the customers bought more than once, and below 5% the "
        "data cannot show loyalty; the other names are used",
    )
    names = [segment.segment_name for segment in named.segments]
    assert len(set(names)) == 5
    assert {"Big Spenders", "At-Risk (Lapsing)", "Occasional Shoppers"} < set(names)
    assert not {"Champions (VIPs)", "Loyal Customers"} & {called.split(" - ")[0] for called in names}
    assert sorted(segment.segment_id for segment in named.segments) == [0, 1, 2, 5, 6]


def test_a_cluster_of_one_time_buyers_is_not_loyal() -> None:
    shop = looks(list(LOOKS))
    shop.repeat_share[3] = 0.2
    named = name(shop, 0.8)
    assert named.refusals == (
        "the name Loyal Customers is refused: of the cluster that comes nearest 20% bought more than once (at least 50% should), and their "
        "last order is 23 days old; the cluster gets another name",
    )
    assert "Loyal Customers" not in [segment.segment_name for segment in named.segments]
    assert len({segment.segment_id for segment in named.segments}) == 5


def test_names_are_given_together_and_not_one_after_the_other() -> None:
    """Cluster 0 spends most of those below the champions, and is also the only one that can be called loyal."""
    rows = np.array([[12, 5.6, 1795], [91, 4.0, 1679], [213, 1.28, 279], [15, 20, 11_871], [34, 1.56, 408]])
    shop = Profile(
        np.array([744, 1081, 1121, 387, 944]), *rows.T, np.array([1.0, 0.98, 0.23, 1.0, 0.46]), np.log1p(rows)
    )
    assert [segment.segment_name for segment in name(shop, 0.6).segments] == [
        "Loyal Customers",
        "Big Spenders",
        "At-Risk (Lapsing)",
        "Champions (VIPs)",
        "Occasional Shoppers",
    ]


def test_a_carried_name_is_kept_and_not_given_twice() -> None:
    order = list(LOOKS)
    kept = {4: Segment(3, "Champions (VIPs)")}
    segments = name(looks(order), 0.8, kept).segments
    assert segments[4] == Segment(3, "Champions (VIPs)")
    assert len({segment.segment_name for segment in segments}) == 5


def test_a_carried_name_that_the_data_bear_no_more_is_given_up() -> None:
    kept = {0: Segment(3, "Champions (VIPs)"), 1: Segment(0, "Big Spenders")}
    names = [segment.segment_name for segment in name(looks(list(LOOKS)), 0.01, kept).segments]
    assert names[1] == "Big Spenders"
    assert not any(called.startswith(("Champions", "Loyal")) for called in names)


def test_a_name_keeps_its_id_for_ever() -> None:
    values = blobs(1_500, 1)
    values[:, 1] = 1
    features = features_of(values)
    shop = profile(features, fit(features, 5, 1).labels, 5)
    first = {segment.segment_name: segment.segment_id for segment in name(shop, 0.0).segments}
    extra = next(called for called, number in first.items() if number == 6)
    again = name(shop, 0.0, known={extra: 17, "Somebody else": 6}).segments
    assert {segment.segment_name: segment.segment_id for segment in again}[extra] == 17
    assert sorted(segment.segment_id for segment in again) == [0, 1, 2, 17, 18]


def test_marketing_insights_has_the_five_names(warehouse: Warehouse, shared_data: Path) -> None:
    marketing_insights(warehouse, shared_data)
    features = read(warehouse, "main.int_customer_rfm")
    found = fit(features, 5, QUICK.seed)
    shop = profile(features, found.labels, 5)
    named = name(shop, features.repeat_share)
    place = {segment.segment_name: j for j, segment in enumerate(named.segments)}
    assert named.refusals == ()
    assert set(place) == set(SEGMENT_IDS)
    champions, risk, occasional, spenders, loyal = (
        place[called]
        for called in (
            "Champions (VIPs)",
            "At-Risk (Lapsing)",
            "Occasional Shoppers",
            "Big Spenders",
            "Loyal Customers",
        )
    )
    assert shop.monetary.argmax() == shop.frequency.argmax() == champions
    assert shop.monetary[spenders] > shop.monetary[[risk, occasional, loyal]].max()
    assert shop.recency_days[risk] > 4 * shop.recency_days[[loyal, champions]].max()
    assert shop.monetary.argmin() == shop.frequency.argmin() == occasional


def test_olist_cannot_bear_loyalty(warehouse: Warehouse, shared_data: Path) -> None:
    olist(warehouse, shared_data)
    features = read(warehouse, "main.int_customer_rfm")
    found = fit(features, 5, QUICK.seed)
    named = name(profile(features, found.labels, 5), features.repeat_share)
    assert named.refusals[0].startswith(
        "the names Champions (VIPs) and Loyal Customers are refused: 0.8% of the customers"
    )
    assert not {"Champions (VIPs)", "Loyal Customers"} & {s.segment_name.split(" - ")[0] for s in named.segments}
