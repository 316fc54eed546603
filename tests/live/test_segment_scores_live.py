"""Raw ML scores are a live model: they follow orders, the day and a promotion, and are what the segment model itself says."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from live_shop import AS_OF, SEGMENTS, Live

from headwater.clock import FixedClock
from headwater.errors import Refused
from headwater.segments import centroids, registry
from headwater.segments.assign import score
from headwater.segments.cluster import Model
from headwater.segments.registry import Version
from headwater.segments.settings import MlSegmentSettings

SCORES = (
    "select customer_id, raw_segment_id, segment_name, version, margin from int_segment_scores order by customer_id"
)
OTHER = SEGMENTS | {"segments": [[7, "Champions"], [5, "Steady"], [9, "Gone"]], "floor": 200.0}
GOOD = {"smallest_jaccard": 0.9, "weakest": "one", "smallest_share": 0.2, "rarest": "one", "overlap": 0.95}


def expected(live: Live, model: dict[str, Any], version: int) -> list[tuple[Any, ...]]:
    """The same by `segments.assign.score`, in Python, over calendar days."""
    rows = live.rows(
        "select customer_id, greatest(date_diff('day', cast(last_order_at as date), cast(clock.as_of as date)), 0), order_count,"
        " cast(revenue as double) from int_customer_orders cross join headwater.clock where order_count > 0 and revenue > 0"
        " order by customer_id"
    )
    fitted = Model.from_dict(model)
    clusters, margins = score(fitted, np.array([row[1:] for row in rows], float))
    return [
        (row[0], int(j), fitted.segments[j].segment_name, version, round(float(margin), 9))
        for row, j, margin in zip(rows, clusters, margins, strict=True)
    ]


def held(live: Live) -> list[tuple[Any, ...]]:
    return [(*row[:4], round(row[4], 9)) for row in live.rows(SCORES)]


def aside(live: Live, work: Any) -> Any:
    """What a command does while the engine is parked."""
    live.engine.park()
    try:
        return work(live.warehouse)
    finally:
        live.warehouse.close()
        live.engine.resume()


def version(number: int, model: dict[str, Any], compared_with: int | None) -> Version:
    measures = {
        "measures": {**GOOD, "overlap": None if compared_with is None else 0.95},
        "previous_version": compared_with,
    }
    at = AS_OF
    return Version(
        "kmeans", number, "challenger", at, at, {"model": model}, measures, {}, "promoted", "", "hash", "none", "none"
    )


@pytest.mark.long
def test_everybody_is_scored_as_the_segment_model_says_and_again_each_day(live: Live) -> None:
    live.settle()
    assert held(live) == expected(live, SEGMENTS, 1)
    assert len({row[1] for row in held(live)}) > 1
    for days in (1, 5, 40):
        before = held(live)
        live.push(days=days)
        live.settle()
        assert held(live) == expected(live, SEGMENTS, 1) != before
        assert live.wrong() == []


@pytest.mark.long
def test_nobody_is_scored_anew_before_midnight(live: Live) -> None:
    live.settle()
    live.push(hours=23, minutes=59)
    assert "int_segment_scores" not in {name for done in live.settle() for name in done.moved}
    live.push(minutes=1)
    assert "int_segment_scores" in {name for done in live.settle() for name in done.moved}
    assert live.wrong() == []


def test_a_promotion_and_a_rollback_move_everybody_at_the_next_step(live: Live) -> None:
    """A promotion changes rows, not code."""
    live.settle()
    clock, settings = FixedClock(live.clock.now()), MlSegmentSettings()

    def promoted(number: int, model: dict[str, Any], before: int | None) -> None:
        with live.warehouse.transaction():
            registry.register(live.warehouse, version(number, model, before))
        assert registry.promote(live.warehouse, settings, clock).changed

    aside(live, lambda _: promoted(1, SEGMENTS, None))
    live.settle()
    assert held(live) == expected(live, SEGMENTS, 1)
    aside(live, lambda _: promoted(2, OTHER, 1))
    moved = live.settle()
    assert any("int_segment_scores" in done.moved for done in moved)
    assert held(live) == expected(live, OTHER, 2)
    assert live.wrong() == []
    aside(live, lambda w: registry.rollback(w, clock))
    live.settle()
    assert held(live) == expected(live, SEGMENTS, 1)
    assert live.wrong() == []


@pytest.mark.long
def test_a_refused_promotion_leaves_the_rows(live: Live) -> None:
    live.settle()
    before = held(live)

    def refused(_: Any) -> None:
        clock, settings = FixedClock(live.clock.now() + timedelta(days=1)), MlSegmentSettings()
        with live.warehouse.transaction():
            registry.register(live.warehouse, replace(version(1, SEGMENTS, None), alias="champion"))
            registry.register(live.warehouse, version(2, OTHER, None))
        try:
            registry.promote(live.warehouse, settings, clock)
        except Refused:
            return
        raise AssertionError("a version that was compared with no model was promoted")

    aside(live, refused)
    live.settle()
    assert held(live) == before


@pytest.mark.long
def test_a_feature_that_is_not_in_use_counts_nothing(live: Live) -> None:
    two = SEGMENTS | {
        "columns": ["recency_days", "monetary"],
        "means": [4.5, 5.0],
        "scales": [1.25, 1.1],
        "centroids": [[-1.0, 0.9], [0.9, -0.6], [0.2, 0.3]],
    }
    live.settle()

    def put(w: Any) -> None:
        with w.transaction():
            centroids.put(w, 4, "doubtful", two)

    aside(live, put)
    live.settle()
    assert held(live) == expected(live, two, 4)
    assert live.wrong() == []


@pytest.mark.long
def test_without_a_segment_model_nobody_has_a_score(live: Live) -> None:
    live.settle()

    def none(w: Any) -> None:
        with w.transaction():
            centroids.put(w, 0, "fine", None)

    aside(live, none)
    live.settle()
    assert held(live) == []
    assert live.wrong() == []
