"""Every read: against the rows it is made of, and against nothing at all."""

import inspect
import itertools
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from console_warehouse import AS_OF, insert, table

from headwater.console import activation_queries, queries
from headwater.errors import StageFailed
from headwater.warehouse.connection import Warehouse

ALL: dict[str, Callable[[Warehouse], Any]] = {
    name: found
    for module in (queries, activation_queries)
    for name, found in vars(module).items()
    if inspect.isfunction(found) and found.__module__ == module.__name__ and not name.startswith("_")
}


@pytest.mark.parametrize("name", ALL)
def test_a_query_says_what_it_answers(name: str) -> None:
    assert ALL[name].__doc__


@pytest.mark.parametrize("name", ALL)
def test_nothing_at_all_is_no_error(name: str, nothing: Warehouse) -> None:
    answer = ALL[name](nothing)
    assert answer in ([], None) or not any(value for value in answer.values())


@pytest.mark.parametrize("name", ALL)
def test_empty_relations_are_no_error(name: str, hollow: Warehouse) -> None:
    answer = ALL[name](hollow)
    assert answer in ([], None) or not any(value for value in answer.values())


@pytest.mark.parametrize("name", ALL)
def test_full_relations_give_rows(name: str, full: Warehouse) -> None:
    assert ALL[name](full)


def test_the_headline_adds_up(full: Warehouse) -> None:
    found = queries.headline(full)
    assert found["revenue"] == full.value("select sum(revenue) from main.fct_orders")
    assert found["orders"] == full.value("select count(*) from main.fct_orders where is_purchase")
    assert found["unattributed_orders"] == 2
    assert found["unattributed_revenue"] == Decimal("41.25")
    assert found["customers"] == 400


def test_months_add_up_to_the_headline_and_have_no_gap(full: Warehouse) -> None:
    months = queries.revenue_by_month(full)
    assert sum(row["revenue"] for row in months) == queries.headline(full)["revenue"]
    starts = [row["month"] for row in months]
    assert all((b.year * 12 + b.month) - (a.year * 12 + a.month) == 1 for a, b in itertools.pairwise(starts))
    assert [row["is_whole"] for row in months] == [*[True] * len(months)]


def test_a_month_that_is_not_over_says_so(full_file: Path, tmp_path: Path) -> None:
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        table(
            warehouse,
            "main.fct_orders",
            "order_id varchar, customer_id varchar, ordered_at timestamp, revenue decimal(18,4), is_purchase boolean",
            [
                ("a", "c", AS_OF - timedelta(days=20), Decimal(5), True),
                ("b", "c", AS_OF - timedelta(days=80), Decimal(7), True),
            ],
        )
        insert(warehouse, "headwater.clock", [{"as_of": AS_OF - timedelta(days=15), "set_at": AS_OF}])
        months = queries.revenue_by_month(warehouse)
    assert [(row["revenue"], row["is_whole"]) for row in months] == [(7, True), (0, True), (5, False)]


@pytest.mark.parametrize("query", [queries.ml_segments, queries.rule_segments])
def test_segment_sizes_cover_every_customer(query: Callable[[Warehouse], Any], full: Warehouse) -> None:
    rows = query(full)
    assert sum(row["customers"] for row in rows) == 400
    assert sum(row["customer_share"] for row in rows) == pytest.approx(1)


def test_transitions_count_each_customer_once(full: Warehouse) -> None:
    rows = queries.ml_transitions(full)
    assert sum(row["customers"] for row in rows) == full.value(
        "select count(distinct customer_id) from headwater.segment_assignments"
    )
    assert {row["source"] for row in rows} - {row["target"] for row in rows} == {"new"}


def periods(*rows: tuple[str, str, int, int | None]) -> list[dict[str, Any]]:
    return [
        {
            "customer_id": customer, "segment_id": 1, "segment_name": name, "model": "kmeans", "version": 1,
            "valid_from": AS_OF + timedelta(days=start), "valid_to": AS_OF + timedelta(days=end) if end is not None else None,
        }
        for customer, name, start, end in rows
    ]  # fmt: skip


def transitions(warehouse: Warehouse) -> set[tuple[str, str, int]]:
    return {(row["source"], row["target"], row["customers"]) for row in queries.ml_transitions(warehouse)}


def test_one_assignment_is_no_migration(empty: Warehouse) -> None:
    insert(empty, "headwater.segment_assignments", periods(("a", "X", 0, None), ("b", "Y", 0, None)))
    assert transitions(empty) == set()


def test_migration_knows_who_stayed_moved_came_and_left(empty: Warehouse) -> None:
    insert(
        empty,
        "headwater.segment_assignments",
        periods(("a", "X", 0, None), ("b", "X", 0, 30), ("b", "Y", 30, None), ("c", "Y", 0, 30), ("d", "Y", 30, None)),
    )
    assert transitions(empty) == {("X", "X", 1), ("X", "Y", 1), ("Y", "gone", 1), ("new", "Y", 1)}


def test_a_change_that_is_only_a_leaving_is_seen(empty: Warehouse) -> None:
    insert(empty, "headwater.segment_assignments", periods(("a", "X", 0, None), ("b", "X", 0, 30)))
    assert transitions(empty) == {("X", "X", 1), ("X", "gone", 1)}


def test_histogram_counts_every_scored_customer_once_in_round_bins(full: Warehouse) -> None:
    bins = queries.clv_histogram(full)
    assert sum(row["customers"] for row in bins) == full.value("select count(*) from headwater.clv_scores")
    assert [row["low"] for row in bins[1:]] == [row["high"] for row in bins[:-1]]
    assert bins[0]["low"] == 0
    assert bins[-1]["high"] is None
    wide = bins[0]["high"]
    assert str(wide.normalize()).strip("0.")[0] in "125"
    for row in bins[:-1]:
        inside = full.value(
            "select count(*) from headwater.clv_scores where clv >= ? and clv < ?", [row["low"], row["high"]]
        )
        assert row["customers"] == inside


def test_no_distribution_when_nobody_is_worth_anything(empty: Warehouse) -> None:
    insert(
        empty,
        "headwater.clv_scores",
        [{"customer_id": "a", "clv": Decimal(0)}, {"customer_id": "b", "clv": Decimal(-1)}],
    )
    assert queries.clv_histogram(empty) == []
    assert queries.clv_summary(empty)["customers"] == 2  # type: ignore[index]


def test_decisions_are_the_newest_of_each_customer(full: Warehouse) -> None:
    summary = queries.decision_summary(full)
    assert summary is not None
    assert summary["customers"] == 400
    assert summary["decisions"] == 800
    assert sum(row["customers"] for row in queries.decisions_by_action(full)) == 400
    none = sum(row["customers"] for row in queries.decisions_by_action(full) if row["action"] == "none")
    assert sum(row["customers"] for row in queries.decisions_by_block(full)) == none
    assert summary["acted"] + none == 400


def test_syncs_show_their_newest_run_only(full: Warehouse) -> None:
    rows = {row["sync"]: row for row in activation_queries.syncs(full)}
    assert rows["email_actions"]["planned"] == 71
    assert rows["email_actions"]["runs"] == 2


def run(
    at: int, status: str, *, sent: int = 0, failed: int = 0, held: int = 0, dry_run: bool = False
) -> dict[str, Any]:
    """A run of the sync `leads`, `at` seconds after as_of."""
    return {
        "sync_run_id": f"leads-{at}", "sync": "leads", "status": status, "dry_run": dry_run, "planned": sent, "sent": sent,
        "confirmed": sent - failed, "failed": failed, "held": held, "started_at": AS_OF + timedelta(seconds=at),
    }  # fmt: skip


@pytest.mark.parametrize(
    "later",
    [
        run(2, "ok", held=114),
        run(2, "nothing"),
        run(2, "dry_run", held=114, dry_run=True),
    ],
    ids=["held rows asked again", "nothing to do", "dry run"],
)
def test_a_run_in_which_nothing_could_be_sent_does_not_replace_the_real_one(
    later: dict[str, Any], empty: Warehouse
) -> None:
    insert(
        empty, "headwater.sync_runs", [run(0, "ok", sent=100), run(1, "partial", sent=172, failed=2, held=114), later]
    )
    insert(
        empty,
        "headwater.sync_rows",
        [{"sync_run_id": "leads-1", "sync": "leads", "status": "failed", "code": "422", "message": "no such owner"}],
    )
    (shown,) = activation_queries.syncs(empty)
    assert (shown["confirmed"], shown["failed"], shown["held"], shown["confirmed_ever"], shown["runs"]) == (170, 2, 114, 270, 3)  # fmt: skip
    assert [(row["code"], row["rows"]) for row in activation_queries.delivery_failures(empty)] == [("422", 1)]


@pytest.mark.parametrize("status", ["stopped", "partial", "failed", "interrupted", "running"])
def test_a_run_that_came_to_grief_before_its_first_row_is_shown(status: str, empty: Warehouse) -> None:
    insert(empty, "headwater.sync_runs", [run(0, "ok", sent=100), run(1, status)])
    assert [row["status"] for row in activation_queries.syncs(empty)] == [status]


def test_a_sync_that_never_sent_anything_shows_its_newest_run(empty: Warehouse) -> None:
    insert(empty, "headwater.sync_runs", [run(0, "dry_run", dry_run=True), run(1, "ok", held=3)])
    assert [row["held"] for row in activation_queries.syncs(empty)] == [3]


def test_tests_show_their_newest_result_only(full: Warehouse) -> None:
    assert {row["status"]: row["tests"] for row in queries.tests(full)} == {"pass": 61, "warn": 1}


def test_stages_show_their_newest_run_with_its_warnings(full: Warehouse) -> None:
    rows = {row["stage"]: row for row in queries.stages(full)}
    assert rows["seed"]["message"] == "3 files, 4 812 rows; 17 quarantined"
    assert len(rows["seed"]["warnings"]) == 2
    assert rows["plan email_actions"]["warnings"] == []


def test_quarantine_shows_the_first_line_of_each_fault(full: Warehouse) -> None:
    worst = queries.quarantined(full)[0]
    assert (worst["file"], worst["line"], worst["rows"]) == ("orders.csv", 31, 14)


def test_a_relation_of_another_shape_is_a_sentence(empty: Warehouse) -> None:
    table(empty, "main.fct_orders", "order_id varchar", [("a",)])
    with pytest.raises(
        StageFailed,
        match=r"the report cannot read headwater\.clock and main\.fct_orders \(.*\)\. Build the models again: `headwater build`$",
    ):
        queries.headline(empty)


def test_a_stage_that_works_sync_by_sync_shows_each(empty: Warehouse) -> None:
    rows = [
        {"run_id": run, "stage": "plan", "status": "ok", "started_at": AS_OF + timedelta(seconds=at), "message": sync}
        for run, at, sync in (("old", 0, "email"), ("new", 60, "email"), ("new", 61, "leads"))
    ]
    insert(empty, "headwater.stage_runs", rows)
    assert [(row["run_id"], row["message"]) for row in queries.stages(empty)] == [("new", "email"), ("new", "leads")]


@pytest.mark.parametrize(
    ("rows", "shown"),
    [
        ([("build", "failed", 0), ("build_upstream", "ok", 1), ("build_downstream", "ok", 2)], {"build_upstream", "build_downstream"}),
        ([("build", "failed", 0), ("build_upstream", "ok", 1), ("build_downstream", "failed", 2)], {"build", "build_upstream", "build_downstream"}),
        ([("build_downstream", "failed", 0), ("build", "ok", 1)], {"build"}),
        ([("test", "failed", 0), ("build", "ok", 1)], {"build"}),
        ([("build", "ok", 0), ("test", "failed", 1)], {"build", "test"}),
        ([("decide", "failed", 0), ("build", "ok", 1)], {"decide", "build"}),
    ],
)  # fmt: skip
def test_a_failure_that_was_made_up_for_is_not_shown(
    empty: Warehouse, rows: list[tuple[str, str, int]], shown: set[str]
) -> None:
    insert(
        empty,
        "headwater.stage_runs",
        [
            {"run_id": f"r{at}", "stage": stage, "status": status, "started_at": AS_OF + timedelta(seconds=at)}
            for stage, status, at in rows
        ],
    )
    assert {row["stage"] for row in queries.stages(empty)} == shown


def test_no_return_is_claimed_where_orders_name_no_channel(empty: Warehouse) -> None:
    table(
        empty,
        "main.mart_marketing__roas",
        "month date, channel varchar, campaign_id varchar, spend decimal(18,4), orders bigint, revenue decimal(18,4), roas double",
        [
            (AS_OF.date(), "online", None, Decimal(100), 0, Decimal(0), None),
            (AS_OF.date(), "search", None, Decimal(50), 4, Decimal(75), 1.5),
            (AS_OF.date(), "search", None, Decimal(50), 0, Decimal(0), None),
        ],
    )
    assert {row["channel"]: row["roas"] for row in queries.roas_by_channel(empty)} == {"online": None, "search": 1.5}
