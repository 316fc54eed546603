"""ML memberships follow the live scores: by time alone, by orders, by a promotion; and who is gone is gone."""

from typing import Any

import pytest
from live_shop import SEGMENTS, Live
from test_segment_scores_live import OTHER, aside, version

from headwater.clock import FixedClock
from headwater.live import traces
from headwater.segments import hysteresis, publish, registry, replay
from headwater.segments.follower import Follower
from headwater.segments.settings import MlSegmentSettings

SETTINGS = MlSegmentSettings()
EVERYBODY = (
    "select customer_id, segment_id, segment_name from fct_customer_segments where segment_id is not null order by 1"
)
OPEN = (
    "select customer_id, segment_id, segment_name from headwater.segment_assignments where valid_to is null order by 1"
)


def follower(live: Live) -> Follower:
    """Settled as at a start of the engine: at the boundary after its first batch."""
    live.settle()
    one = Follower(live.warehouse, SETTINGS, live.clock)
    assert one.settle() is not None
    return one


def consistent(live: Live) -> bool:
    """What is published is who is where, everybody has one row, a replay finds nothing wrong or late."""
    found = replay.check(live.warehouse)
    assert (found.wrong, found.late, found.skipped) == (0, 0, None), found
    assert live.rows(EVERYBODY) == live.rows(OPEN)
    (customers,), (rows,), (several,) = live.rows(
        "select count(*) from dim_customer union all select count(*) from fct_customer_segments"
        " union all select count(*) from fct_customer_segments group by customer_id having count(*) > 1 union all select 0"
    )[:3]
    return customers == rows and several == 0


def test_time_alone_moves_memberships_in_any_steps_as_in_one(live: Live) -> None:
    one = follower(live)
    before = live.rows(OPEN)
    assert len({row[1] for row in before}) > 1
    assert consistent(live)
    for _ in range(4):
        live.push(days=30)
        live.settle()
        one.follow()
        assert consistent(live)
    after = live.rows(OPEN)
    assert after != before
    assert [row[0] for row in after] == [row[0] for row in before]
    assert live.rows("select distinct reason from headwater.segment_assignments order by 1") == [
        ("entered",),
        ("moved",),
    ]
    periods = "select * from headwater.segment_assignments order by customer_id, valid_from"
    followed = live.rows(periods)
    live.warehouse.execute(
        "delete from headwater.segment_assignments where entered_version > 0 and reason <> 'entered'"
    )
    replay.mend(live.warehouse)
    assert live.rows(periods) == followed
    assert one.follow().opened == 0
    assert one.settle() == hysteresis.Followed(version=hysteresis.newest(live.warehouse), held=one.settle().held)


@pytest.mark.long
def test_a_promotion_and_a_rollback_move_memberships_with_the_version_as_their_reason(live: Live) -> None:
    clock = FixedClock(live.clock.now())

    def promoted(number: int, model: dict[str, Any], before: int | None) -> None:
        with live.warehouse.transaction():
            registry.register(live.warehouse, version(number, model, before))
        assert registry.promote(live.warehouse, SETTINGS, clock).changed

    one = follower(live)
    aside(live, lambda _: promoted(1, SEGMENTS, None))
    follow(live, one)
    assert consistent(live)
    first = live.rows(OPEN)
    aside(live, lambda _: promoted(2, OTHER, 1))
    assert one.settle() is None, "scores of the version before would settle nobody"
    follow(live, one)
    assert consistent(live)
    assert {row[2] for row in live.rows(OPEN)} <= {"Champions", "Steady", "Gone"}
    reasons = "select version, reason, count(*) from headwater.segment_assignments where valid_to is null group by 1, 2"
    assert live.rows(reasons) == [(2, "version", len(first))]
    live.push(minutes=1)
    aside(live, lambda w: registry.rollback(w, clock))
    follow(live, one)
    assert live.rows(OPEN) == first
    assert live.rows(reasons) == [(1, "version", len(first))]
    assert consistent(live)


def follow(live: Live, one: Follower) -> None:
    """What `headwater up` does after a command: a batch, the changes, everybody."""
    one.unsettle()
    live.push(seconds=1)
    live.settle()
    one.follow()
    assert one.settle() is not None


def beside(live: Live, *statements: str) -> None:
    def work(w: Any) -> None:
        for statement in statements:
            w.execute(statement)

    aside(live, work)


@pytest.mark.long
def test_orders_move_a_customer_and_who_loses_them_leaves(live: Live) -> None:
    one = follower(live)
    customer, was = live.rows(
        "select customer_id, segment_id from headwater.segment_assignments where segment_id = 3 order by 1"
    )[0]
    beside(
        live,
        "insert into raw.orders select orders.* replace ('new-' || number as order_id, timestamp '2026-06-29' as ordered_at)"
        f" from (select * from raw.orders where customer_id = '{customer}' limit 1) as orders, range(30) as numbers(number)",
    )
    follow(live, one)
    now = live.rows(
        f"select segment_id, reason from headwater.segment_assignments where customer_id = '{customer}' and valid_to is null"
    )
    assert now != [(was, "entered")]
    assert now[0][1] == "moved"
    assert consistent(live)
    beside(live, f"delete from raw.orders where customer_id = '{customer}'")
    follow(live, one)
    assert live.rows(
        f"select count(*) from headwater.segment_assignments where customer_id = '{customer}' and valid_to is null"
    ) == [(0,)]
    assert live.rows(f"select segment_name from fct_customer_segments where customer_id = '{customer}'") == [
        ("Unsegmented",)
    ]
    assert consistent(live)


@pytest.mark.long
def test_a_forgotten_customer_is_found_nowhere_and_the_others_stay(live: Live) -> None:
    one = follower(live)
    live.push(days=60)
    live.settle()
    one.follow()
    customer = live.rows(OPEN)[0][0]

    def forget(w: Any) -> None:
        with w.transaction():
            traces.delete(w, traces.find(w, "user", customer))

    aside(live, forget)
    follow(live, one)
    for place, column in (
        ("headwater.segment_assignments", "customer_id"),
        ("headwater.model_changes", "key"),
        (publish.SEED_TABLE, "customer_id"),
        ("fct_customer_segments", "customer_id"),
        ("int_segment_scores", "customer_id"),
    ):
        assert live.rows(f"select count(*) from {place} where {column} = '{customer}'") == [(0,)], place
    assert consistent(live)


@pytest.mark.long
def test_segments_from_a_notebook_are_kept_while_memberships_go_on(live: Live) -> None:
    live.settle()
    live.warehouse.execute(f"insert into {publish.SEED_TABLE} values ('C10000001', 99, 'By hand')")
    one = Follower(live.warehouse, SETTINGS, live.clock)
    one.settle()
    assert one.by_hand
    live.push(days=60)
    live.settle()
    one.follow()
    assert live.rows(f"select * from {publish.SEED_TABLE}") == [("C10000001", 99, "By hand")]
    assert len(live.rows(OPEN)) > 1


@pytest.mark.long
def test_a_large_shop_is_followed_in_its_table(live: Live) -> None:
    live.settle()
    one = Follower(live.warehouse, SETTINGS.model_copy(update={"seed_limit": 3}), live.clock)
    one.settle()
    live.push(days=60)
    live.settle()
    assert one.follow().opened
    assert live.rows(f"select * from {publish.TABLE} order by 1") == live.rows(OPEN)
    assert consistent(live)


@pytest.mark.long
def test_the_file_is_brought_up_to_the_memberships_unless_it_is_somebody_elses(live: Live) -> None:
    one = follower(live)
    seed = live.folder / publish.SEED_FILE
    seed.parent.mkdir()
    seed.write_text(f"{publish.HEADER}\n", encoding="utf-8")
    assert publish.keep_file(live.warehouse, seed)
    lines = seed.read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [f"{customer},{number},{name}" for customer, number, name in live.rows(OPEN)]
    live.push(days=120)
    live.settle()
    one.follow()
    assert publish.keep_file(live.warehouse, seed)
    assert seed.read_text(encoding="utf-8").splitlines() != lines
    seed.write_text(f"{publish.HEADER}\nC10000001,99,By hand\n", encoding="utf-8")
    assert not publish.keep_file(live.warehouse, seed)
    assert "By hand" in seed.read_text(encoding="utf-8")
