"""Trap: drift alarms by rule of thumb. Under no change one alert in twenty is false, at any size."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from segment_shops import AS_OF, QUICK, blobs, features_of, rfm_table, synthetic, view_at

from headwater.clock import FixedClock
from headwater.segments.assign import assign
from headwater.segments.cluster import Segment, fit
from headwater.segments.monitor import Drift, edges, forecast, histogram, monitor, psi, reference
from headwater.segments.registry import Version
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.train import train
from headwater.warehouse.connection import Warehouse

POPULATIONS: dict[str, tuple[np.ndarray, np.ndarray]] = {  # values, and how likely each is
    "recency": (np.arange(365.0), np.full(365, 1 / 365)),
    "frequency": (np.arange(1.0, 61.0), 0.35 * 0.65 ** np.arange(60) / (1 - 0.65**60)),
    "monetary": (np.exp(4 + np.sort(np.random.default_rng(1).standard_normal(3_000))), np.full(3_000, 1 / 3_000)),
}


def draw(random: np.random.Generator, population: str, customers: int) -> np.ndarray:
    """So many customers of a population, resampled; sorted."""
    values, likely = POPULATIONS[population]
    return np.repeat(values, random.multinomial(customers, likely))


def drift(before: np.ndarray, after: np.ndarray) -> Drift:
    cuts = edges(before)
    return psi(histogram(before, cuts), histogram(after, cuts))


def alert_rate(
    population: str, customers: int, repetitions: int, alert: Callable[[Drift], bool] = lambda found: found.alert
) -> float:
    """Share of A/A comparisons (two samples of one population) that raise an alert."""
    random = np.random.default_rng(11)
    found = [
        drift(draw(random, population, customers), draw(random, population, customers)) for _ in range(repetitions)
    ]
    return float(np.mean([alert(one) for one in found]))


@pytest.mark.parametrize("population", POPULATIONS)
@pytest.mark.parametrize(("customers", "repetitions"), [(100, 2_000), (1_500, 2_000), (100_000, 600)])
def test_one_alert_in_twenty_is_false_at_any_size(population: str, customers: int, repetitions: int) -> None:
    assert 0.03 <= alert_rate(population, customers, repetitions) <= 0.07


def test_a_rule_of_thumb_alarms_small_shops_for_nothing_and_large_ones_never() -> None:
    """The mistake: a fixed threshold of 0.1 fails the check above on both sides."""

    def rule_of_thumb(found: Drift) -> bool:
        return found.value > 0.1

    assert alert_rate("monetary", 100, 300, rule_of_thumb) > 0.5
    assert alert_rate("monetary", 1_500, 300, rule_of_thumb) == 0.0


def test_a_shift_of_a_third_of_a_standard_deviation_is_found_at_10k() -> None:
    random = np.random.default_rng(12)
    found = [drift(random.standard_normal(10_000), random.standard_normal(10_000) + 0.3).alert for _ in range(200)]
    assert np.mean(found) >= 0.9


def test_psi_by_hand() -> None:
    found = psi(np.array([50, 50]), np.array([30, 70]))
    p, q = 50.5 / 101, np.array([30.5, 70.5]) / 101
    assert found.value == pytest.approx(((p - q) * np.log(p / q)).sum())
    assert found.threshold == pytest.approx(3.8415 * (1 / 100 + 1 / 100), rel=1e-4)
    assert found.bins == 2


def test_one_bin_cannot_drift() -> None:
    assert not psi(np.array([10]), np.array([500])).alert
    assert histogram(np.ones(5), edges(np.ones(5))).tolist() == [5, 0]
    assert not psi(np.array([5, 0]), np.array([9, 0])).alert


def test_a_forecast_by_hand() -> None:
    """Of 90 in one, 30 went to two and 15 left; 20 came new into two. The prior adds ten who stay to each row."""
    counts = np.array([45.0, 80.0])
    moves = np.array([[45.0, 30.0, 15.0], [0.0, 50.0, 0.0]])
    found = forecast(counts, moves, np.array([0.0, 20.0]))
    one = 45 * 55 / 100
    two = 45 * 30 / 100 + 80 + 20
    np.testing.assert_allclose(found, np.array([one, two]) / (one + two))


def test_a_segment_that_nobody_was_seen_in_is_forecast_to_stay() -> None:
    found = forecast(np.array([10.0, 30.0]), np.zeros((2, 3)), np.zeros(2))
    np.testing.assert_allclose(found, [0.25, 0.75])


def test_the_reference_is_json_of_numbers() -> None:
    features = features_of(blobs(600, 1))
    found = fit(features, 3, 1)
    held = reference(features, found.model.named((Segment(0, "a"), Segment(1, "b"), Segment(2, "c"))))
    assert sum(held["clusters"]) == 600
    assert {name: sum(bins["counts"]) for name, bins in held["bins"].items()} == {
        "recency_days": 600,
        "frequency": 600,
        "monetary": 600,
    }
    assert held["inertia"][0] == pytest.approx(found.inertia / 600)


def test_nothing_has_changed_right_after_training(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    found = monitor(warehouse, QUICK, clock, "r1")
    assert found.alerts == ()
    assert {m.value for m in found.measures if m.measure in ("psi", "share_drift")} == {0.0}
    assert sum(found.shares.values()) == pytest.approx(1)
    assert found.message == (
        "version 1 on 900 customers: 0 alerts; memberships have not changed yet, so there are no moves to forecast from"
    )
    assert (found.transitions, found.forecast) == ({}, {})


def test_a_quiet_quarter_is_an_alert_and_the_moves_are_counted(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 900)
    settings = QUICK.model_copy(update={"hysteresis": 0.0})
    train(warehouse, settings, clock, tmp_path)
    assign(warehouse, settings, clock, tmp_path)
    assert monitor(warehouse, settings, clock, "r1").transitions == {}
    view_at(warehouse, AS_OF + timedelta(days=90))
    assign(warehouse, settings, clock, tmp_path)
    found = monitor(warehouse, settings, clock, "r2")
    assert any(alert.startswith("psi of recency_days is ") for alert in found.alerts)
    moved = warehouse.execute("""
        select old.segment_name, new.segment_name, count(*) from headwater.segment_assignments as old join headwater.segment_assignments as new
            on new.customer_id = old.customer_id and new.valid_from = coalesce(old.valid_to, old.valid_from) and new.valid_to is null
        where old.valid_from = timestamp '2026-06-30' group by 1, 2""").fetchall()
    total = {source: sum(n for s, _, n in moved if s == source) for source, _, _ in moved}
    for source, target, n in moved:
        assert found.transitions[source][target] == pytest.approx(n / total[source])
    assert sum(found.forecast.values()) == pytest.approx(1)


def test_the_rows_of_a_run_are_replaced_by_those_of_the_same_run(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    assign(warehouse, QUICK, clock, tmp_path)
    monitor(warehouse, QUICK, clock, "r1")
    once = warehouse.execute("select * from headwater.segment_monitor order by all").fetchall()
    monitor(warehouse, QUICK, clock, "r1")
    assert warehouse.execute("select * from headwater.segment_monitor order by all").fetchall() == once
    monitor(warehouse, QUICK, clock, "r2")
    assert warehouse.value("select count(*) from headwater.segment_monitor") == 2 * len(once)
    assert {row[5] for row in once} == {"psi", "share_drift", "inertia", "silhouette", "share"}


def test_without_a_model_there_is_nothing_to_monitor(warehouse: Warehouse, clock: FixedClock) -> None:
    synthetic(warehouse, 900)
    found = monitor(warehouse, QUICK, clock, "r1")
    assert (found.status, found.message) == (
        "skipped",
        "there is no segment model to monitor yet: run `headwater segment train`",
    )


def test_other_customers_than_at_training_are_an_alert_on_every_measure(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    values = blobs(1_000, 1)
    rfm_table(warehouse, values)
    settings: MlSegmentSettings = QUICK
    train(warehouse, settings, clock, tmp_path)
    rfm_table(warehouse, values * np.array([3.0, 2.0, 4.0]))
    found = monitor(warehouse, settings, clock, "r1")
    assert {m.measure for m in found.measures if m.alert} == {"psi", "share_drift", "inertia"}
    assert all(alert.endswith("it has changed since the model was trained") for alert in found.alerts)


def test_the_champion_is_what_is_monitored(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 900)
    train(warehouse, QUICK, clock, tmp_path)
    found = monitor(warehouse, QUICK, clock, "r1")
    assert found.version == 1
    assert Version.__dataclass_fields__["metrics"]
    assert warehouse.rows("select distinct model, version, as_of from headwater.segment_monitor") == [
        {"model": "kmeans", "version": 1, "as_of": AS_OF}
    ]
