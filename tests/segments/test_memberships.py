"""Periods of membership: half-open, gapless, idempotent."""

from datetime import datetime, timedelta

from headwater.segments.memberships import Written, moment_for, put
from headwater.warehouse.connection import Warehouse

T0 = datetime(2026, 1, 1)  # noqa: DTZ001


def state(warehouse: Warehouse, members: dict[str, int], moment: datetime, version: int = 1) -> Written:
    """State who is in which segment from `moment` on; whoever is in one and is not named leaves."""
    warehouse.execute(
        "create or replace temp table stated as select distinct customer_id, cast(? as timestamp) as moment, cast(1 as bigint) as change,"
        " cast(null as bigint) as segment_id, cast(null as varchar) as segment_name, cast(null as bigint) as raw_segment_id,"
        " cast(null as double) as margin, cast(null as bigint) as version, cast(null as varchar) as stability"
        " from headwater.segment_assignments where valid_to is null",
        [moment],
    )
    for customer, segment in members.items():
        warehouse.execute("delete from stated where customer_id = ?", [customer])
        warehouse.execute(
            "insert into stated values (?, ?, 1, ?, ?, ?, 0.5, ?, 'fine')",
            [customer, moment, segment, f"S{segment}", segment, version],
        )
    with warehouse.transaction():
        return put(warehouse, "stated", "kmeans")


def periods(warehouse: Warehouse) -> list[tuple[object, ...]]:
    return warehouse.execute(
        "select customer_id, segment_id, valid_from, valid_to from headwater.segment_assignments order by 1, 3"
    ).fetchall()


def test_a_move_closes_one_period_and_opens_another(warehouse: Warehouse) -> None:
    t1 = T0 + timedelta(days=1)
    assert state(warehouse, {"a": 1, "b": 2}, T0) == Written(2, 0, 2)
    assert state(warehouse, {"a": 1, "b": 3, "c": 4}, t1) == Written(2, 0, 2)
    assert periods(warehouse) == [("a", 1, T0, None), ("b", 2, T0, t1), ("b", 3, t1, None), ("c", 4, t1, None)]


def test_the_same_again_changes_nothing(warehouse: Warehouse) -> None:
    state(warehouse, {"a": 1, "b": 2}, T0)
    before = periods(warehouse)
    assert state(warehouse, {"a": 1, "b": 2}, T0 + timedelta(days=9)) == Written()
    assert periods(warehouse) == before


def test_another_statement_for_the_same_moment_takes_the_place_of_the_first(warehouse: Warehouse) -> None:
    t1 = T0 + timedelta(days=1)
    state(warehouse, {"a": 1, "b": 2}, T0)
    state(warehouse, {"a": 3, "c": 4}, t1)
    state(warehouse, {"a": 1, "b": 5}, t1)
    assert periods(warehouse) == [("a", 1, T0, None), ("b", 2, T0, t1), ("b", 5, t1, None)]


def test_a_new_version_of_the_model_is_a_new_period_and_no_move(warehouse: Warehouse) -> None:
    t1 = T0 + timedelta(days=1)
    state(warehouse, {"a": 1}, T0)
    assert state(warehouse, {"a": 1}, t1, version=2) == Written(1, 0, 1)


def test_history_is_not_written_behind_itself(warehouse: Warehouse) -> None:
    state(warehouse, {"a": 1}, T0)
    assert moment_for(warehouse, "kmeans", T0 - timedelta(days=5)) == T0
    assert moment_for(warehouse, "kmeans", T0 + timedelta(days=5)) == T0 + timedelta(days=5)


def test_periods_never_overlap(warehouse: Warehouse) -> None:
    for day, members in enumerate([{"a": 1, "b": 1}, {"a": 2}, {"a": 2, "b": 1}, {"a": 1, "b": 3}, {"b": 3}]):
        state(warehouse, members, T0 + timedelta(days=day))
    overlaps = warehouse.value("""
        select count(*) from headwater.segment_assignments as one join headwater.segment_assignments as other
            on one.customer_id = other.customer_id and one.valid_from < other.valid_from
            and coalesce(one.valid_to, timestamp '9999-01-01') > other.valid_from""")
    assert overlaps == 0
    assert warehouse.value("select count(*) from headwater.segment_assignments where valid_to <= valid_from") == 0
