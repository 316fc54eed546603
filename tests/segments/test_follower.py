"""What is published follows memberships, also those that were stated otherwise; and with ML segments switched off nothing piles up."""

from collections.abc import Callable
from datetime import UTC
from pathlib import Path

import pytest
from test_hysteresis import DELTA, at, batch, day, shop, stand

from headwater.clock import FixedClock
from headwater.segments import hysteresis, publish, replay
from headwater.segments.follower import Follower
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

CLOCK = FixedClock(day(0).replace(tzinfo=UTC))


def another_version_at_the_same_moment(warehouse: Warehouse) -> None:
    """A command, while the engine was idle: its clock stands where the newest period begins."""
    stand(warehouse, {"ann": at(2, 2, 0, version=1), "bob": at(2, 0, 2, version=1)})
    hysteresis.settle(warehouse, hysteresis.RELATION, day(2), DELTA, day(2))


def a_period_that_no_change_gave(warehouse: Warehouse) -> None:
    warehouse.execute(
        "update headwater.segment_assignments set segment_id = 12, segment_name = 'Steady' where valid_to is null and customer_id = 'ann'"
    )
    publish.keep_step(warehouse, publish.SEED_TABLE)
    stand(warehouse, {"ann": at(2, 0, 2)})


def as_it_is(warehouse: Warehouse) -> None:
    replay.mend(warehouse)


@pytest.mark.parametrize(
    ("published", "replaced"),
    [(lambda _: None, another_version_at_the_same_moment), (a_period_that_no_change_gave, as_it_is)],
)
def test_a_period_that_was_published_and_then_replaced_stays_ours(
    tmp_path: Path, published: Callable[[Warehouse], None], replaced: Callable[[Warehouse], None]
) -> None:
    seed = tmp_path / "customer_segments.csv"
    seed.write_text(f"{publish.HEADER}\n")
    with shop() as warehouse:
        warehouse.execute(
            f"create table {publish.SEED_TABLE} (customer_id varchar, segment_id bigint, segment_name varchar)"
        )
        follower = Follower(warehouse, MlSegmentSettings(hysteresis=DELTA), CLOCK)
        batch(warehouse, 1, day(1), {"ann": at(0, 2, 2), "bob": at(2, 0, 2)})
        follower.follow()
        follower.settle()
        batch(warehouse, 2, day(2), {"ann": at(2, 0, 2)})
        follower.follow()
        published(warehouse)
        assert publish.keep_file(warehouse, seed)
        before = seed.read_text()
        replaced(warehouse)
        follower.unsettle()
        follower.settle()
        members = warehouse.execute(
            "select customer_id, segment_id, segment_name from headwater.segment_assignments where valid_to is null order by 1"
        ).fetchall()
        assert not follower.by_hand
        assert warehouse.execute(f"select * from {publish.SEED_TABLE} order by 1").fetchall() == members
        assert publish.keep_file(warehouse, seed)
        assert seed.read_text() == "\n".join([publish.HEADER, *(",".join(map(str, row)) for row in members), ""])
        assert seed.read_text() != before
        warehouse.execute(f"insert into {publish.SEED_TABLE} values ('eve', 1, 'Theirs')")
        follower.unsettle()
        follower.settle()
        assert follower.by_hand


def test_what_is_replaced_is_noted_once_and_not_by_a_check() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(2), {"ann": at(0, 2, 2)})
        hysteresis.follow(warehouse, DELTA, day(2))
        for _ in range(2):
            for distances in ((2, 2, 0), (2, 0, 2)):
                stand(warehouse, {"ann": at(*distances)})
                hysteresis.settle(warehouse, hysteresis.RELATION, day(2), DELTA, day(2))
                replay.check(warehouse)
        noted = warehouse.execute("select * from headwater.segments_withdrawn order by 2").fetchall()
        assert [row[:2] for row in noted] == [("ann", 10), ("ann", 11), ("ann", 12)]


@pytest.mark.parametrize("was_on", [True, False])
def test_with_segments_switched_off_only_what_is_new_is_kept_of_the_changes(*, was_on: bool) -> None:
    off, on = (
        Follower(warehouse, MlSegmentSettings(hysteresis=DELTA, enabled=enabled), CLOCK)
        for warehouse in [shop()]
        for enabled in (False, True)
    )
    with off._warehouse as warehouse:
        if not was_on:
            warehouse.execute("delete from headwater.change_cursors; delete from headwater.segment_baselines")
        batch(warehouse, 1, day(1), {"ann": at(0, 2, 2), "bob": at(2, 0, 2)})
        if was_on:
            on.follow()
        for number in (2, 3, 4):
            batch(warehouse, number, day(number), {"ann": at(number % 2, 1, 2)})
        assert off.forget() == 4
        assert warehouse.execute("select version from headwater.model_changes").fetchall() == [(4,)]
        assert off.forget() == 0
        on.settle()
        found = replay.check(warehouse)
        assert (found.skipped, found.wrong, found.late) == (None, 0, 0)
        assert warehouse.execute(
            "select customer_id, segment_id from headwater.segment_assignments where valid_to is null order by 1"
        ).fetchall() == [("ann", 10), ("bob", 11)]
