"""Memberships follow scores change by change: the same rows whatever the batches, and the same as a replay in Python."""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headwater.segments import hysteresis, replay
from headwater.segments.hysteresis import Followed
from headwater.warehouse.connection import Warehouse

DAY0 = datetime(2026, 3, 1)  # noqa: DTZ001  (naive UTC, as the warehouse holds it)
DELTA = 0.25
NAMES = ("Champions", "Lapsed", "Steady")


def day(number: float) -> datetime:
    return DAY0 + timedelta(days=number)


@dataclass(frozen=True)
class Score:
    """Distances to the three clusters, by a version of the model."""

    distances: tuple[float, float, float]
    version: int = 1
    stability: str = "fine"

    @property
    def row(self) -> dict[str, object]:
        nearest = min(range(3), key=lambda j: (self.distances[j], j))
        gaps = [distance - self.distances[nearest] for distance in self.distances]
        runner_up = sorted(self.distances)[1]
        return {
            "version": self.version,
            "raw_segment_id": nearest,
            "segment_id": 10 * self.version + nearest,
            "segment_name": NAMES[nearest],
            "stability": self.stability,
            "margin": runner_up - self.distances[nearest],
            "gaps": gaps,
        }


def at(*distances: float, version: int = 1) -> Score:
    return Score((distances[0], distances[1], distances[2]), version)


Change = tuple[datetime, dict[str, Score | None]]


def shop() -> Warehouse:
    """Nobody is in a segment yet, and everybody was settled."""
    warehouse = Warehouse(":memory:")
    warehouse.execute(
        f"create table {hysteresis.RELATION} (customer_id varchar, version bigint, raw_segment_id bigint, segment_id bigint,"
        " segment_name varchar, stability varchar, margin double, gaps double[])"
    )
    settle(warehouse, day(0))
    return warehouse


def settle(warehouse: Warehouse, moment: datetime, delta: float = DELTA) -> Followed:
    return hysteresis.settle(warehouse, hysteresis.RELATION, moment, delta, moment)


def stand(warehouse: Warehouse, scores: dict[str, Score | None]) -> None:
    """The rows of the live model, as they are from now on."""
    for customer, score in scores.items():
        warehouse.execute(f"delete from {hysteresis.RELATION} where customer_id = ?", [customer])
        if score is not None:
            warehouse.execute(
                f"insert into {hysteresis.RELATION} values (?, ?, ?, ?, ?, ?, ?, ?)", [customer, *score.row.values()]
            )


def batch(warehouse: Warehouse, version: int, moment: datetime, scores: dict[str, Score | None]) -> None:
    """What the engine leaves: the model as it is now, a change for each row, and its clock."""
    stand(warehouse, scores)
    for customer, score in scores.items():
        image = None if score is None else json.dumps({"customer_id": customer, **score.row})
        warehouse.execute(
            "insert into headwater.model_changes values (?, ?, 'update', null, ?, ?, ?)",
            [hysteresis.MODEL, customer, image, version, moment],
        )
    warehouse.execute("delete from headwater.clock")
    warehouse.execute("insert into headwater.clock (as_of) values (?)", [moment])


def follow(warehouse: Warehouse, delta: float = DELTA, upto: int | None = None) -> Followed:
    return hysteresis.follow(warehouse, delta, day(0), upto=upto)


def periods(warehouse: Warehouse) -> list[tuple]:
    return warehouse.execute(
        "select customer_id, segment_id, valid_from, valid_to, reason from headwater.segment_assignments order by 1, 3"
    ).fetchall()


def everything(warehouse: Warehouse) -> list[tuple]:
    return warehouse.execute("select * from headwater.segment_assignments order by customer_id, valid_from").fetchall()


def clean(warehouse: Warehouse) -> bool:
    found = replay.check(warehouse)
    assert found.skipped is None
    return not found.wrong and not found.late


def test_a_customer_moves_only_when_another_cluster_is_nearer_by_more_than_the_hysteresis() -> None:
    with shop() as warehouse:
        for number, (distance, expected) in enumerate([(2.0, 10), (1.0, 10), (0.75, 10), (0.74, 11)], 1):
            batch(warehouse, number, day(number), {"ann": at(1.0, distance, 5.0)})
            follow(warehouse)
            assert periods(warehouse)[-1][1] == expected
        assert periods(warehouse) == [
            ("ann", 10, day(1), day(4), "entered"),
            ("ann", 11, day(4), None, "moved"),
        ]
        assert clean(warehouse)


def test_who_is_held_back_far_from_his_segment_is_compared_with_it_and_not_with_the_runner_up() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(0.5, 3.0, 3.0)})
        batch(warehouse, 2, day(2), {"ann": at(3.0, 1.0, 1.1)})
        follow(warehouse)
        assert [row[1] for row in periods(warehouse)] == [10, 11]


def test_a_promotion_moves_everybody_and_says_so() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0), "bob": at(2.0, 1.0, 3.0)})
        batch(warehouse, 2, day(2), {"ann": at(1.0, 0.9, 3.0, version=2), "bob": at(2.0, 1.0, 3.0, version=2)})
        assert follow(warehouse) == Followed(4, 0, 2, changed=True)
        assert periods(warehouse) == [
            ("ann", 10, day(1), day(2), "entered"),
            ("ann", 21, day(2), None, "version"),
            ("bob", 11, day(1), day(2), "entered"),
            ("bob", 21, day(2), None, "version"),
        ]


def test_another_verdict_on_the_same_version_is_a_period_of_its_own() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        batch(warehouse, 2, day(2), {"ann": Score((1.0, 2.0, 3.0), 1, "doubtful")})
        follow(warehouse)
        assert periods(warehouse) == [("ann", 10, day(1), day(2), "entered"), ("ann", 10, day(2), None, "verdict")]
        assert clean(warehouse)


def test_who_has_no_score_any_more_leaves_and_may_come_back() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        batch(warehouse, 2, day(2), {"ann": None})
        batch(warehouse, 3, day(3), {"ann": at(1.0, 2.0, 3.0)})
        assert follow(warehouse) == Followed(2, 1, 3, changed=True)
        assert periods(warehouse) == [("ann", 10, day(1), day(2), "entered"), ("ann", 10, day(3), None, "entered")]


def test_following_again_changes_nothing() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        follow(warehouse)
        before = everything(warehouse)
        assert follow(warehouse) == Followed(version=1)
        assert settle(warehouse, day(9)) == Followed(version=1)
        assert everything(warehouse) == before


def test_what_changed_without_the_engine_is_settled_and_noted() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0), "bob": at(1.0, 2.0, 3.0)})
        follow(warehouse)
        stand(warehouse, {"ann": at(2.0, 1.0, 3.0), "bob": None})
        assert not clean(warehouse)
        assert settle(warehouse, day(5)) == Followed(1, 1, 1, changed=True)
        assert periods(warehouse) == [
            ("ann", 10, day(1), day(5), "entered"),
            ("ann", 11, day(5), None, "moved"),
            ("bob", 10, day(1), day(5), "entered"),
        ]
        assert clean(warehouse)
        because = "select because from headwater.segment_baselines order by noted_at desc limit 1"
        assert warehouse.value(because) == "batch"


def test_another_hysteresis_holds_from_the_next_change_on() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        follow(warehouse)
        batch(warehouse, 2, day(2), {"ann": at(1.0, 0.5, 3.0)})
        follow(warehouse, delta=0.6)
        assert [row[1] for row in periods(warehouse)] == [10]
        assert clean(warehouse)
        follow(warehouse)
        batch(warehouse, 3, day(3), {"ann": at(1.0, 0.5, 3.1)})
        follow(warehouse)
        assert [row[1] for row in periods(warehouse)] == [10, 11]
        assert clean(warehouse)


@pytest.mark.parametrize(
    "tampering",
    [
        "update headwater.segment_assignments set valid_to = timestamp '2026-03-02 12:00' where valid_to is not null",
        "update headwater.segment_assignments set segment_id = 12, segment_name = 'Steady' where valid_to is null",
        "delete from headwater.segment_assignments where valid_to is null",
        "delete from headwater.segment_assignments where valid_to is not null",
        "insert into headwater.segment_assignments select * replace ('eve' as customer_id) from headwater.segment_assignments where valid_to is null",
    ],
)
def test_a_replay_finds_what_was_tampered_with_and_mends_it(tampering: str) -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        batch(warehouse, 2, day(2), {"ann": at(2.0, 1.0, 3.0)})
        follow(warehouse)
        before = everything(warehouse)
        warehouse.execute(tampering)
        assert not clean(warehouse)
        replay.mend(warehouse)
        assert everything(warehouse) == before
        assert clean(warehouse)


def test_a_change_that_is_not_followed_yet_is_late_and_not_wrong() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        follow(warehouse)
        batch(warehouse, 2, day(2), {"ann": at(2.0, 1.0, 3.0)})
        found = replay.check(warehouse)
        assert (found.wrong, found.late) == (0, 1)


def test_old_changes_go_and_memberships_are_replayed_from_there() -> None:
    with shop() as warehouse:
        for number in range(1, 8):
            swap = number % 2
            batch(warehouse, number, day(number), {"ann": at(1.0 + swap, 2.0 - swap, 3.0), "bob": at(1.0, 2.0, 3.0)})
            follow(warehouse)
        before = everything(warehouse)
        assert hysteresis.forget_changes(warehouse, timedelta(days=3), day(7)) == 6
        assert hysteresis.forget_changes(warehouse, timedelta(0), day(7)) == 6
        assert warehouse.execute("select distinct version from headwater.model_changes").fetchall() == [(7,)]
        assert everything(warehouse) == before
        assert clean(warehouse)
        warehouse.execute("update headwater.segment_assignments set stability = 'doubtful' where entered_version = 7")
        assert not clean(warehouse)


def test_changes_that_nobody_followed_yet_are_kept_however_old() -> None:
    with shop() as warehouse:
        batch(warehouse, 1, day(1), {"ann": at(1.0, 2.0, 3.0)})
        batch(warehouse, 2, day(400), {"ann": at(1.0, 2.0, 3.0)})
        assert hysteresis.forget_changes(warehouse, timedelta(days=3), day(400)) == 0


def replayed(history: Sequence[Change], delta: float) -> list[tuple]:
    """The periods by the rule, in Python: (customer, segment, from, to) without what another statement for a moment replaced."""
    found: list[tuple] = []
    for customer in sorted({name for _, scores in history for name in scores}):
        mine: list[list] = []  # segment, cluster, version, stability, from, to
        for moment, scores in history:
            if customer not in scores:
                continue
            score = scores[customer]
            now = max([moment, *(row[4] for row in mine), *(row[5] for row in mine if row[5])])
            before = [row for row in mine if row[4] < now and (row[5] is None or row[5] >= now)]
            wanted = None
            if score is not None:
                row, nearest = score.row, score.row["raw_segment_id"]
                if before and before[0][2] == score.version and row["gaps"][before[0][1]] <= delta:
                    nearest = before[0][1]
                wanted = [10 * score.version + nearest, nearest, score.version, score.stability]
            open_now = [row for row in mine if row[5] is None]
            if [row[:4] for row in open_now] == ([wanted] if wanted else []):
                continue
            mine = [row for row in mine if row[4] < now]
            for row in mine:
                if row[5] is not None and row[5] >= now:
                    row[5] = None
                if row[5] is None and row[:4] != wanted:
                    row[5] = now
            if wanted and not any(row[5] is None for row in mine):
                mine.append([*wanted, now, None])
        found += [(customer, row[0], row[4], row[5]) for row in mine]
    return sorted(found, key=lambda row: (row[0], row[2]))


distances = st.tuples(*[st.sampled_from([0.5, 0.7, 0.75, 1.0, 1.5])] * 3)
scores = st.one_of(
    st.none(),
    st.builds(Score, distances, st.integers(1, 2), st.sampled_from(["fine", "fine", "doubtful"])),
)
histories = st.lists(
    st.tuples(st.sampled_from([0, 0.25, 1]), st.dictionaries(st.sampled_from(["ann", "bob"]), scores, min_size=1)),
    min_size=1,
    max_size=7,
)


@settings(max_examples=6, deadline=None)
@given(histories, st.sets(st.integers(1, 7)))
def test_following_in_any_batches_equals_a_replay(
    steps: list[tuple[float, dict[str, Score | None]]], follow_after: set[int]
) -> None:
    moments = [day(1 + sum(pause for pause, _ in steps[: number + 1])) for number in range(len(steps))]
    history = [(moment, changed) for moment, (_, changed) in zip(moments, steps, strict=True)]
    with shop() as warehouse:
        for version, (moment, changed) in enumerate(history, 1):
            batch(warehouse, version, moment, changed)
            if version in follow_after:
                follow(warehouse)
        follow(warehouse)
        assert [row[:4] for row in periods(warehouse)] == replayed(history, DELTA)
        assert warehouse.value("select count(*) from headwater.segment_assignments where valid_to <= valid_from") == 0
        assert clean(warehouse)
        in_batches = everything(warehouse)
        assert settle(warehouse, moments[-1]) == Followed(version=len(history), held=hysteresis_held(warehouse))
        assert everything(warehouse) == in_batches
        warehouse.execute("delete from headwater.segment_assignments")
        warehouse.execute("update headwater.change_cursors set version = 0")
        for version in range(1, len(history) + 1):
            follow(warehouse, upto=version)
        assert everything(warehouse) == in_batches


def hysteresis_held(warehouse: Warehouse) -> int:
    """Customers who stand in another segment than their nearest."""
    return int(
        warehouse.value(
            f"select count(*) from {hysteresis.RELATION} as scores join headwater.segment_assignments as held using (customer_id)"
            " where held.valid_to is null and held.raw_segment_id <> scores.raw_segment_id"
        )
    )


KILLED = """
import sys
from datetime import datetime
from pathlib import Path
from headwater.segments import hysteresis
from headwater.warehouse.connection import Warehouse

with Warehouse(Path(sys.argv[1])) as warehouse:
    if sys.argv[2] == "segment.settled":
        hysteresis.settle(warehouse, hysteresis.RELATION, datetime(2026, 3, 9), 0.25, datetime(2026, 3, 9))
    else:
        hysteresis.follow(warehouse, 0.25, datetime(2026, 3, 9))
"""


@pytest.mark.crash
@pytest.mark.parametrize("name", ["memberships.following", "memberships.followed", "segment.settled"])
def test_a_kill_leaves_the_periods_before_or_after_and_the_next_goes_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / "shop.duckdb"
    with shop() as memory, Warehouse(path) as warehouse:
        for one in (memory, warehouse):
            if one is warehouse:
                one.execute(
                    f"create table {hysteresis.RELATION} (customer_id varchar, version bigint, raw_segment_id bigint,"
                    " segment_id bigint, segment_name varchar, stability varchar, margin double, gaps double[])"
                )
                settle(one, day(0))
            batch(one, 1, day(1), {"ann": at(1.0, 2.0, 3.0), "bob": at(1.0, 2.0, 3.0)})
            batch(one, 2, day(2), {"ann": at(2.0, 1.0, 3.0)})
        before = everything(warehouse)
        follow(memory)
        after = everything(memory)
    environment = {**os.environ, "HEADWATER_FAILPOINT": name}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(path), name], env=environment, check=False)
    assert killed.returncode == 137
    with Warehouse(path) as warehouse:
        assert everything(warehouse) == (after if name == "memberships.followed" else before)
        follow(warehouse)
        assert everything(warehouse) == after
        assert clean(warehouse)
