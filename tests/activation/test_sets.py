"""Rows beyond a batch go as a set, and nothing but the time that takes is different."""

import threading
from contextlib import nullcontext

import pytest

from headwater.activation import deliver as deliver_module
from headwater.activation.destinations import Limits
from headwater.activation.settings import DestinationSettings
from headwater.testing.fake_destination import SHELVES, Shelf

ROWS = 12
BATCHES, AS_SETS = Limits(max_rows=3), Limits(max_rows=3, set_rows=8)


@pytest.fixture
def shelf(desk, tmp_path):
    shelf = SHELVES[str(tmp_path)] = Shelf(limits=AS_SETS)
    desk.destination = DestinationSettings(
        type="headwater.testing.fake_destination:FakeDestination", options={"shelf": str(tmp_path)}, attempts=2
    )
    yield shelf
    del SHELVES[str(tmp_path)]


def people(desk, rows=ROWS, version=1):
    """In version 2 every third name changed, every fourth city is unknown, every fifth row is gone, and some are new."""
    desk.warehouse.execute(
        f"create or replace table main.people as select 'c' || (100 + i) as id, "
        f"case when i % 3 = 0 then 'name {version}' else 'name' end as name, "
        f"case when i % 4 <> 0 or {version} = 1 then 'city ' || i end as city "
        f"from range({rows + 9 * (version - 1)}) t(i) where {version} = 1 or i % 5 <> 0"
    )


def books(desk):
    """All that a run leaves behind, but for ids and moments."""
    return {
        "outbox": desk.warehouse.execute(
            "select key, version, operation, state, code, reason, attempts, in_doubt from headwater.outbox order by all"
        ).fetchall(),
        "delivered": desk.warehouse.execute("select * from delivered.people order by all").fetchall(),
        "pending": desk.warehouse.value('select count(*) from delivered."people__next"'),
        "runs": desk.warehouse.execute(
            "select status, planned, sent, confirmed, failed, held, message from headwater.sync_runs order by sync_run_id"
        ).fetchall(),
        "rows": desk.warehouse.execute(
            "select key, operation, attempt, status, code, message, cast(request as varchar) from headwater.sync_rows order by all"
        ).fetchall(),
    }


@pytest.mark.parametrize("mode", ["upsert", "update", "insert", "mirror", "delete"])
@pytest.mark.parametrize("write_nulls", [False, True])
def test_the_books_are_those_of_rows_that_went_one_by_one(desk, shelf, mode, write_nulls):
    desk.with_sync(mode=mode, write_nulls=write_nulls, max_removal_share=1)
    left = {}
    for limits in (BATCHES, AS_SETS):
        shelf.limits, shelf.rows, shelf.effects = limits, {}, []
        for table in ("headwater.outbox", "headwater.sync_runs", "headwater.sync_rows"):
            desk.warehouse.execute(f"delete from {table}")
        desk.warehouse.execute("drop table if exists delivered.people; drop table if exists delivered.people__next")
        for version in (1, 2):
            people(desk, version=version)
            desk.deliver()
        left[limits.set_rows] = (books(desk), shelf.rows if not write_nulls else None)
    assert left[0] == left[AS_SETS.set_rows]
    assert any(len(call) > AS_SETS.max_rows for call in shelf.calls), "nothing went as a set"


def test_as_many_rows_as_a_batch_takes_go_in_one(desk, shelf):
    people(desk, rows=3)
    desk.deliver()
    (call,) = shelf.calls
    assert all(len(one) == 32 for one in call), "operation ids, as a batch has them"


def test_who_withdrew_between_plan_and_send_is_not_in_the_set(desk, shelf):
    people(desk)
    asked = []

    def recheck(relation):
        asked.append(relation)
        found = desk.warehouse.execute(f"select operation_id from {relation} where key = 'c105'").fetchall()
        return [(one, "consent", "withdrawn") for (one,) in found] if len(asked) > 1 else []

    done = desk.deliver(recheck=recheck, release=lambda relation: None)
    assert "c105" not in shelf.rows
    assert (done.confirmed, done.held) == (ROWS - 1, 1)
    assert desk.warehouse.execute("select key, code, reason from headwater.outbox where state = 'held'").fetchall() == [
        ("c105", "consent", "consent: withdrawn")
    ]


def test_one_refused_row_of_a_set_fails_alone(desk, shelf):
    people(desk)
    shelf.poison = {"c105"}
    done = desk.deliver()
    assert (done.status, done.confirmed, done.failed) == ("partial", ROWS - 1, 1)
    assert desk.delivered().keys() == shelf.rows.keys() == {f"c{100 + i}" for i in range(ROWS)} - {"c105"}
    shelf.poison = set()
    assert desk.deliver().confirmed == 1


def test_most_rows_refused_stops_the_run(desk, shelf):
    people(desk, rows=40)
    shelf.poison = {f"c{100 + i}" for i in range(40)}
    done = desk.deliver()
    assert done.status == "stopped"
    assert done.failed + done.left == 40
    assert done.failed < 40


def test_a_destination_that_cannot_be_used_leaves_the_set_ready(desk, shelf):
    people(desk)
    shelf.faults = ["unusable"]
    done = desk.deliver()
    assert (done.status, done.sent, done.left) == ("stopped", 0, ROWS)
    assert desk.states() == {"ready": ROWS}
    assert desk.warehouse.value("select count(*) from headwater.outbox where in_doubt") == 0
    assert len(shelf.calls) == 1


def test_a_busy_destination_gets_the_rows_in_batches(desk, shelf):
    people(desk)
    shelf.faults = ["later"]
    done = desk.deliver()
    assert (done.status, done.confirmed) == ("ok", ROWS)
    assert [len(call) for call in shelf.calls[:2]] == [8, 3]


def test_a_set_whose_answer_was_lost_is_in_doubt_until_each_row_is_confirmed(desk, shelf):
    people(desk, rows=8)
    shelf.faults = ["lost_answer", *["later"] * 6]
    done = desk.deliver()
    assert (done.confirmed, done.failed) == (0, 8)
    assert desk.warehouse.value("select bool_and(in_doubt) from headwater.outbox")
    assert desk.deliver().confirmed == 8
    assert desk.delivered().keys() == shelf.rows.keys()


def test_while_the_destination_takes_one_the_next_is_claimed_and_the_last_recorded(desk, shelf):
    """The second call is answered only when the first set is recorded and the third claimed."""
    people(desk, rows=24)
    passed, turned = [], threading.Condition()

    def note(name):
        with turned:
            passed.append(name)
            turned.notify_all()

    def until_it_has_gone_on():
        if len(shelf.calls) == 2:
            with turned:
                wanted = ["activate.recorded", "activate.claimed", "activate.claimed", "activate.claimed"]
                assert turned.wait_for(lambda: all(passed.count(one) >= wanted.count(one) for one in wanted), 20)

    shelf.on_call = until_it_has_gone_on
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(deliver_module, "failpoint", note)
        assert desk.deliver().confirmed == 24
    assert [len(call) for call in shelf.calls] == [8, 8, 8]


def test_no_set_is_claimed_ahead_where_rules_are_asked_at_the_claim(desk, shelf):
    people(desk, rows=24)
    claimed, seen = [], []
    shelf.on_call = lambda: seen.append(len(claimed))
    desk.deliver(recheck=lambda relation: claimed.append(relation) or [], release=lambda relation: None)
    assert seen == [2, 3, 4], "the plan asks once, and then each claim"


class _Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("written", [False, True])
def test_a_set_that_a_crash_left_comes_again_under_its_id(desk, shelf, written):
    people(desk)

    def die():
        raise _Killed

    shelf.on_call = die
    if written:
        shelf.on_call, shelf.faults = None, ["ok"]
        desk.deliver(cancelled=lambda: bool(shelf.calls))  # the first set arrives
        desk.warehouse.execute("update headwater.outbox set state = 'claimed' where state = 'done'")
        desk.warehouse.execute("delete from delivered.people")
    else:
        with pytest.raises(_Killed):
            desk.deliver()
    before = desk.warehouse.execute(
        "select claimed_by, count(*) from headwater.outbox where state = 'claimed' group by 1"
    ).fetchall()
    assert sorted(rows for _, rows in before) == ([8] if written else [4, 8]), (
        "one at the destination, one claimed ahead"
    )
    before.sort(key=lambda batch: batch[1] == 4)
    calls, shelf.on_call = len(shelf.calls), None
    desk.deliver()
    assert len(shelf.calls[calls]) == 8, "the rows that were claimed together go together"
    assert set(shelf.calls[calls]) == set(shelf.calls[0])
    again = dict(desk.warehouse.execute("select claimed_by, count(*) from headwater.outbox group by 1").fetchall())
    assert again[before[0][0]] == 8
    assert desk.states() == {"done": ROWS}
    assert desk.delivered().keys() == shelf.rows.keys()
    assert len(shelf.rows) == ROWS


def test_a_run_can_be_cancelled_between_sets(desk, shelf):
    people(desk, rows=30)
    done = desk.deliver(cancelled=lambda: bool(shelf.calls))
    assert (done.status, done.confirmed, done.left) == ("partial", 8, 22)
    assert desk.deliver().confirmed == 22


def test_a_plan_counts_sets_as_calls(desk, shelf):
    people(desk, rows=30)
    assert desk.plan().calls == 4
    shelf.limits = BATCHES
    assert desk.plan().calls == 10


def test_the_pending_rows_of_an_older_version_go_in_batches(desk, shelf):
    """A warehouse whose pending rows do not say what is exactly sent loses none of them."""
    people(desk)
    shelf.faults = ["unusable"]
    desk.deliver()
    desk.warehouse.execute('alter table delivered."people__next" drop column _headwater_plain')
    calls = len(shelf.calls)
    assert desk.deliver().confirmed == ROWS
    assert {len(call) for call in shelf.calls[calls:]} == {3}


@pytest.mark.parametrize("breaks", [False, True])
def test_the_write_ahead_log_is_as_short_as_before_after_a_large_run(desk, shelf, breaks):
    long = []

    def look():
        long.append(threshold())
        if breaks:
            raise _Killed

    def threshold():
        return desk.warehouse.value("select current_setting('checkpoint_threshold')")

    people(desk)
    shelf.on_call = look
    before = threshold()
    with (
        pytest.raises(_Killed) if breaks else nullcontext()
    ):  # none is claimed ahead: one thread at a time asks the warehouse
        desk.deliver(recheck=lambda relation: [], release=lambda relation: None)
    assert threshold() == before
    assert before not in long


@pytest.mark.timeout(60)
@pytest.mark.parametrize("last", [1, 3])
@pytest.mark.parametrize("removal", [False, True])
def test_a_refused_set_that_is_no_larger_than_a_batch_goes_row_by_row(desk, shelf, last, removal):
    desk.with_sync(mode="mirror", max_removal_share=1, max_failed_share=1)
    people(desk, rows=8 + last)
    if removal:
        desk.deliver()
        desk.warehouse.execute("delete from main.people")
    every, shelf.calls = {f"c{100 + n}" for n in range(8 + last)}, []

    def refuse_what_is_left():
        if len(shelf.calls) == 1:
            shelf.poison = every - set(shelf.calls[0])

    shelf.on_call = refuse_what_is_left
    done = desk.deliver()
    assert (done.confirmed, done.failed) == (8, last)
    assert [len(call) for call in shelf.calls[:2]] == [8, last], "both went as sets"
    assert desk.delivered().keys() == shelf.rows.keys()
    shelf.poison, shelf.on_call = set(), None
    assert desk.deliver().confirmed == last


def test_a_small_batch_that_a_crash_left_goes_first_and_the_others_as_sets(desk, shelf):
    people(desk, rows=20)
    shelf.faults = ["unusable"]
    desk.deliver()
    desk.warehouse.execute(
        "update headwater.outbox set state = 'claimed', claimed_by = 'left-0001' where key in ('c105', 'c106')"
    )
    shelf.calls = []
    assert desk.deliver().confirmed == 20
    assert [len(call) for call in shelf.calls] == [2, 8, 8, 2]
    left = desk.warehouse.execute(
        "select key from headwater.outbox where claimed_by = 'left-0001' order by 1"
    ).fetchall()
    assert left == [("c105",), ("c106",)]
