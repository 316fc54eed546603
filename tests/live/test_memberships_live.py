"""Entries and exits of rule segments follow the changes that the engine records, and only these."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.live import memberships
from headwater.live.memberships import Moved
from headwater.warehouse import Warehouse

DAY0 = datetime(2026, 3, 1)  # noqa: DTZ001  (naive UTC, as the warehouse holds it)
RELATION = "main.mart_marketing__segment_scores"


def day(number: int) -> datetime:
    return DAY0 + timedelta(days=number)


def shop_of_nobody() -> Warehouse:
    warehouse = Warehouse(":memory:")
    warehouse.execute(f"create table {RELATION} (customer_id varchar, segment varchar)")
    memberships.follow(warehouse, DAY0)
    return warehouse


@pytest.fixture
def shop() -> Iterator[Warehouse]:
    with shop_of_nobody() as warehouse:
        yield warehouse


def batch(warehouse: Warehouse, version: int, **segments: str | None) -> None:
    """What the engine leaves: the model as it is now, and a change for each row that differs. `gone` takes the row away."""
    for customer, segment in segments.items():
        old = warehouse.execute(f"select segment from {RELATION} where customer_id = ?", [customer]).fetchone()
        warehouse.execute(f"delete from {RELATION} where customer_id = ?", [customer])
        if segment != "gone":
            warehouse.execute(f"insert into {RELATION} values (?, ?)", [customer, segment])
        images = [
            json.dumps({"customer_id": customer, "segment": old[0]}) if old else None,
            json.dumps({"customer_id": customer, "segment": segment}) if segment != "gone" else None,
        ]
        if images[0] != images[1]:
            warehouse.execute(
                "insert into headwater.model_changes values (?, ?, 'update', ?, ?, ?, ?)",
                [memberships.MODEL, customer, *images, version, day(version)],
            )


def periods(warehouse: Warehouse) -> list[tuple]:
    return warehouse.execute(
        "select customer_id, segment, entered_at, left_at, entered_version, left_version from headwater.segment_memberships order by all"
    ).fetchall()


def test_an_entry_and_an_exit_are_one_period(shop):
    batch(shop, 1, ann="lapse", bob=None)
    assert memberships.follow(shop, day(1)) == Moved(1, 0, 1)
    batch(shop, 2, ann=None)
    assert memberships.follow(shop, day(2)) == Moved(0, 1, 2)
    assert periods(shop) == [("ann", "lapse", day(1), day(2), 1, 2)]


def test_following_again_changes_nothing(shop):
    batch(shop, 1, ann="lapse")
    memberships.follow(shop, day(1))
    assert memberships.follow(shop, day(1)) == Moved(0, 0, 1)
    assert len(periods(shop)) == 1


def test_a_change_of_another_column_is_no_move(shop):
    batch(shop, 1, ann="lapse")
    memberships.follow(shop, day(1))
    shop.execute(
        'insert into headwater.model_changes values (?, \'ann\', \'update\', \'{"segment": "lapse", "x": 1}\', \'{"segment": "lapse", "x": 2}\', 2, ?)',
        [memberships.MODEL, day(2)],
    )
    assert memberships.follow(shop, day(2)) == Moved(0, 0, 2)


def test_a_customer_who_vanishes_leaves(shop):
    batch(shop, 1, ann="lapse")
    batch(shop, 2, ann="gone")
    memberships.follow(shop, day(2))
    assert periods(shop) == [("ann", "lapse", day(1), day(2), 1, 2)]


def test_a_build_beside_the_engine_is_reconciled(shop):
    batch(shop, 1, ann="lapse", bob="rescue")
    memberships.follow(shop, day(1))
    shop.execute(f"update {RELATION} set segment = 'rescue' where customer_id = 'ann'")
    shop.execute("insert into headwater.clock values (?, null, ?)", [day(5), day(5)])
    assert memberships.differences(shop) == [("ann", "lapse", "rescue")]
    assert memberships.reconcile(shop, day(9)) == Moved(1, 1, 1)
    assert memberships.differences(shop) == []
    assert periods(shop)[:2] == [("ann", "lapse", day(1), day(5), 1, 1), ("ann", "rescue", day(5), None, 1, None)]


def test_the_first_follow_takes_the_model_as_it_stands():
    with Warehouse(":memory:") as warehouse:
        warehouse.execute(f"create table {RELATION} as select 'ann' as customer_id, 'lapse' as segment")
        assert memberships.follow(warehouse, day(3)) == Moved(1, 0, 0)
        assert periods(warehouse) == [("ann", "lapse", day(3), None, 0, None)]


@settings(max_examples=20, deadline=None)
@given(
    st.lists(st.dictionaries(st.sampled_from(["ann", "bob"]), st.sampled_from(["a", "b", None, "gone"])), max_size=8),
    st.sets(st.integers(0, 8)),
)
def test_a_replay_in_one_go_equals_following_batch_by_batch(batches, follow_after):
    with shop_of_nobody() as stepwise:
        for version, segments in enumerate(batches, 1):
            batch(stepwise, version, **segments)
            if version in follow_after:
                memberships.follow(stepwise, day(version))
        memberships.follow(stepwise, day(99))
        assert memberships.differences(stepwise) == []
        want = periods(stepwise)
        stepwise.execute("delete from headwater.segment_memberships")
        stepwise.execute("update headwater.change_cursors set version = 0")
        memberships.follow(stepwise, day(99))
        assert periods(stepwise) == want
