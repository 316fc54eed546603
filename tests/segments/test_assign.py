"""Who is where: the same in Python and SQL, conserved, stable under small moves, and the same when it runs twice."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from segment_shops import AS_OF, QUICK, blobs, features_of, online_retail, rfm_table, synthetic, view_at

from headwater.clock import FixedClock
from headwater.errors import DataError
from headwater.segments import hysteresis, registry
from headwater.segments.assign import Assignment, assign, by_day_sql, score, to_sql
from headwater.segments.cluster import Model, Segment, fit
from headwater.segments.features import DuplicateCustomer
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.train import train
from headwater.warehouse.connection import Warehouse

SEGMENTS = tuple(Segment(10 + j, f"Segment {j}, it's {j}") for j in range(5))


def published(warehouse: Warehouse) -> list[tuple[object, ...]]:
    return warehouse.execute("select * from headwater.segment_assignments order by customer_id, valid_from").fetchall()


@pytest.mark.parametrize("repeat_buyers", [True, False])
def test_sql_and_python_agree_on_100k_customers(warehouse: Warehouse, repeat_buyers: bool) -> None:
    values = blobs(100_000, 3, spread=0.9)
    values[:500, 2] = 0
    values[500:1_000, 2] *= -1
    if not repeat_buyers:
        values[:, 1] = 1
    rfm_table(warehouse, values)
    model = fit(features_of(values[:5_000]), 5, 1).model.named(SEGMENTS)
    cluster, margin = score(model, values)
    sql = warehouse.execute(
        f"select * from ({to_sql(model, 'main.int_customer_rfm')}) order by customer_id"
    ).fetchnumpy()
    np.testing.assert_array_equal(sql["raw_segment_id"], cluster)
    np.testing.assert_array_equal(sql["segment_id"], cluster + 10)
    assert sql["segment_name"].tolist() == [SEGMENTS[j].segment_name for j in cluster]
    np.testing.assert_allclose(sql["margin"], margin, atol=1e-9)
    assert [min(gaps) for gaps in sql["gaps"].tolist()[:100]] == [0.0] * 100
    assert (np.bincount(cluster, minlength=5) > 0).all()


def test_sql_and_python_agree_on_who_is_held(warehouse: Warehouse) -> None:
    values = blobs(100_000, 3, spread=0.9)
    rfm_table(warehouse, values)
    model = fit(features_of(values[:5_000]), 5, 1).model.named(SEGMENTS)
    before = np.random.default_rng(1).integers(-1, 5, len(values))
    with warehouse.relation("previous", {"place": np.arange(1, len(values) + 1), "cluster": before}):
        warehouse.execute(
            "insert into headwater.segment_assignments (customer_id, segment_id, segment_name, raw_segment_id, model, version, stability, valid_from)"
            " select 'C' || lpad(place::varchar, 7, '0'), 10 + cluster, 'as it was', cluster, 'kmeans', 1, 'fine', timestamp '2026-01-01'"
            " from previous where cluster >= 0"
        )
    cluster, margin = score(model, values, before, 0.5)
    steps = f"select *, 1 as version, 'fine' as stability, timestamp '2026-06-30' as moment, 1 as change from ({to_sql(model, 'main.int_customer_rfm')})"
    sql = warehouse.execute(
        f"select * from ({hysteresis.chosen_sql(f'({steps})', 0.5)}) order by customer_id"
    ).fetchnumpy()
    np.testing.assert_array_equal(sql["raw_segment_id"], cluster)
    np.testing.assert_allclose(sql["margin"], margin, atol=1e-9)
    nearest, _ = score(model, values)
    held = cluster != nearest
    np.testing.assert_array_equal(sql["was_held"], held)
    assert 1_000 < held.sum() < 50_000
    assert (margin[held] >= -0.5).all()
    assert (margin[held] < 0).all()


def test_the_nearest_centroid_wins() -> None:
    model = Model(
        ("recency_days", "frequency", "monetary"),
        0.0,
        np.zeros(3),
        np.ones(3),
        np.array([[0.0, 0, 0], [3, 0, 0], [9, 9, 9]]),
    )
    cluster, margin = score(model, np.expm1([[1.0, 0, 0], [2.0, 0, 0]]))
    assert cluster.tolist() == [0, 1]
    np.testing.assert_allclose(margin, [1.0, 1.0])


def trained(warehouse: Warehouse, clock: FixedClock, folder: Path, settings: MlSegmentSettings = QUICK) -> None:
    synthetic(warehouse, 900)
    assert train(warehouse, settings, clock, folder).version == 1


def test_customers_are_conserved_and_running_twice_changes_nothing(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    trained(warehouse, clock, tmp_path)
    warehouse.execute("update main.fct_orders set revenue = -revenue where customer_id in ('C100001', 'C100002')")
    seed = tmp_path / "seeds" / "customer_segments.csv"
    first = assign(warehouse, QUICK, clock, tmp_path, seed)
    rows, bytes_, touched = published(warehouse), seed.read_bytes(), seed.stat().st_mtime_ns
    assert conserved(first, 900)
    assert first.unsegmented == {"net spend is not positive": 2}
    assert first.warnings[0] == (
        "2 customers have a net spend of zero or less: clipped for clustering only, and unsegmented in what is published"
    )
    clock.push(timedelta(hours=3))
    again = assign(warehouse, QUICK, clock, tmp_path, seed)
    assert replace(again, published=None) == replace(first, published=None)
    assert (published(warehouse), seed.read_bytes(), seed.stat().st_mtime_ns) == (rows, bytes_, touched)
    assert again.published is not None
    assert not again.published.changed


# Trap: survivorship.


def conserved(assignment: Assignment, customers: int) -> bool:
    """Everybody who ever bought is in a segment, or is counted as unsegmented."""
    return customers == assignment.customers == sum(assignment.segments.values()) + sum(assignment.unsegmented.values())


def test_customers_who_left_long_ago_are_still_there(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    trained(warehouse, clock, tmp_path)
    bought = warehouse.value("select count(distinct customer_id) from main.fct_orders")
    assert conserved(assign(warehouse, QUICK, clock, tmp_path), bought)
    quiet = warehouse.value(
        "select count(*) from headwater.segment_assignments join main.int_customer_rfm using (customer_id) where recency_days > 300"
    )
    assert quiet > 50
    warehouse.execute("create view main.survivors as select * from main.int_customer_rfm where recency_days <= 300")
    mistake = assign(warehouse, QUICK, clock, tmp_path, relation="main.survivors")
    assert not conserved(mistake, bought)


def test_a_customer_who_is_gone_from_the_source_leaves_his_history(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    trained(warehouse, clock, tmp_path)
    assign(warehouse, QUICK, clock, tmp_path)
    warehouse.execute("delete from main.fct_orders where customer_id = 'C100005'")
    later = view_at(warehouse, AS_OF + timedelta(days=1))
    assign(warehouse, QUICK, clock, tmp_path)
    (row,) = warehouse.rows(
        "select valid_from, valid_to from headwater.segment_assignments where customer_id = 'C100005'"
    )
    assert row == {"valid_from": AS_OF, "valid_to": later}


def test_hysteresis_is_what_a_replay_gives(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    """Day after day recency grows; whoever is held back is held back by the same rule in a replay without the warehouse."""
    settings = QUICK.model_copy(update={"hysteresis": 0.4})
    trained(warehouse, clock, tmp_path, settings)
    champion = registry.champion(warehouse)
    assert champion is not None
    model = Model.from_dict(registry.load_artefact(tmp_path, champion)["model"])
    replayed: np.ndarray | None = None
    held = 0
    for day in (0, 20, 40, 60):
        view_at(warehouse, AS_OF + timedelta(days=day))
        held += assign(warehouse, settings, clock, tmp_path).held
        rfm = warehouse.execute(
            f"select recency_days, frequency::double as frequency, monetary::double as monetary from ({by_day_sql('main.int_customer_rfm')})"
            " order by customer_id"
        ).fetchnumpy()
        replayed, _ = score(model, np.column_stack(list(rfm.values())), replayed, 0.4)
        now = warehouse.execute(
            "select raw_segment_id, segment_id from headwater.segment_assignments where valid_to is null order by customer_id"
        ).fetchnumpy()
        np.testing.assert_array_equal(now["segment_id"], np.array([s.segment_id for s in model.segments])[replayed])
    assert held > 0


def test_recency_counts_calendar_days_whatever_the_hour(warehouse: Warehouse) -> None:
    """As the live model does: the day of the last order is found again from its age, also where it is midnight exactly."""
    moments = [
        "2026-06-29 00:00:00",
        "2026-06-29 23:59:59.999",
        "2026-06-30 00:00:00",
        "2024-02-29 00:00:00",
        "1997-01-01 00:00:00",
    ]
    listed = ", ".join(f"timestamp '{moment}'" for moment in moments)
    for as_of in ("2026-06-30 00:00:00", "2026-06-30 13:14:15.161718", "2026-06-30 23:59:59.999999"):
        warehouse.execute(
            f"""
            create or replace temp table aged as
            select cast(place as varchar) as customer_id, timestamp '{as_of}' as as_of, last_order_at, 1 as frequency, 1.0 as monetary,
                (epoch(as_of) - epoch(last_order_at)) / 86400.0 as recency_days
            from (select unnest([{listed}]) as last_order_at, unnest(range({len(moments)})) as place)
            """
        )
        wrong = warehouse.rows(
            f"select last_order_at from (select customer_id, recency_days as days from ({by_day_sql('aged')})) join aged using (customer_id)"
            " where days <> date_diff('day', cast(last_order_at as date), cast(as_of as date))"
        )
        assert wrong == []


def test_without_hysteresis_more_customers_move(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    moves = {}
    for delta in (0.0, 0.6):
        warehouse.execute("delete from headwater.segment_assignments; delete from headwater.ml_model_registry")
        settings = QUICK.model_copy(update={"hysteresis": delta})
        trained(warehouse, clock, tmp_path, settings)
        assign(warehouse, settings, clock, tmp_path)
        view_at(warehouse, AS_OF + timedelta(days=45))
        moves[delta] = assign(warehouse, settings, clock, tmp_path).moved
    assert moves[0.0] > moves[0.6] > 0


def test_too_few_customers_are_unsegmented_and_the_run_goes_on(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    synthetic(warehouse, 249)
    seed = tmp_path / "customer_segments.csv"
    sentence = (
        "249 of 249 customers have a positive net spend; ML segments need at least 250 (50 for each of 5 clusters): the stage is skipped "
        "and everybody is unsegmented"
    )
    skipped = train(warehouse, QUICK, clock, tmp_path)
    assert (skipped.status, skipped.message) == ("skipped", sentence)
    found = assign(warehouse, QUICK, clock, tmp_path, seed)
    assert (found.status, found.message) == ("skipped", sentence)
    assert conserved(found, 249)
    assert seed.read_text() == "customer_id,segment_id,segment_name\n"


def test_a_shop_that_shrinks_is_unsegmented_from_then_on(
    warehouse: Warehouse, clock: FixedClock, tmp_path: Path
) -> None:
    trained(warehouse, clock, tmp_path)
    seed = tmp_path / "customer_segments.csv"
    assign(warehouse, QUICK, clock, tmp_path, seed)
    warehouse.execute("delete from main.fct_orders where customer_id > 'C100100'")
    later = view_at(warehouse, AS_OF + timedelta(days=1))
    assert assign(warehouse, QUICK, clock, tmp_path, seed).status == "skipped"
    assert seed.read_text() == "customer_id,segment_id,segment_name\n"
    assert warehouse.rows("select distinct valid_to from headwater.segment_assignments") == [{"valid_to": later}]


def test_segments_from_a_notebook_are_left_alone(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 100)
    seed = tmp_path / "customer_segments.csv"
    seed.write_text("customer_id,segment_id,segment_name\nC100001,3,Champions (VIPs)\n")
    found = assign(warehouse, QUICK, clock, tmp_path, seed)
    assert found.warnings[1] == "customer_segments.csv holds segments that Headwater did not make; it is left as it is"
    assert "C100001" in seed.read_text()


def test_without_a_model_everybody_is_unsegmented(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    synthetic(warehouse, 600)
    found = assign(warehouse, QUICK, clock, tmp_path)
    assert (
        found.message
        == "there is no segment model yet: run `headwater segment train`; until then everybody is unsegmented"
    )
    assert conserved(found, 600)


def test_bad_rows_stop_before_anything_is_written(warehouse: Warehouse, clock: FixedClock, tmp_path: Path) -> None:
    trained(warehouse, clock, tmp_path)
    assign(warehouse, QUICK, clock, tmp_path)
    before = published(warehouse)
    warehouse.execute(
        "create table main.doubled as select * from main.int_customer_rfm union all (select * from main.int_customer_rfm limit 1)"
    )
    with pytest.raises(DuplicateCustomer):
        assign(warehouse, QUICK, clock, tmp_path, relation="main.doubled")
    assert published(warehouse) == before
    assert issubclass(DuplicateCustomer, DataError)


def test_online_retail_counts_its_net_negative_customers(
    warehouse: Warehouse, clock: FixedClock, shared_data: Path, tmp_path: Path
) -> None:
    online_retail(warehouse, shared_data)
    customers, unspent, revenue = warehouse.execute(
        "select count(*), count(*) filter (where monetary <= 0), sum(monetary) from main.int_customer_rfm"
    ).fetchone() or (0, 0, 0)
    assert unspent > 0
    train(warehouse, QUICK, clock, tmp_path)
    found = assign(warehouse, QUICK, clock, tmp_path)
    assert conserved(found, customers)
    assert found.unsegmented == {"net spend is not positive": unspent}
    assert len(found.segments) == 5
    assert warehouse.value("select sum(monetary) from main.int_customer_rfm") == revenue
