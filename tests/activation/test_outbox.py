"""One row per operation, one verb per transition, and no id that ever means two things."""

from datetime import timedelta

import pytest

from headwater.activation import mapping, outbox, runs
from headwater.activation.destinations import Limits
from headwater.activation.plan import Plan
from headwater.activation.settings import DestinationSettings
from headwater.errors import UsageError
from headwater.testing.fake_destination import SHELVES, Shelf


@pytest.fixture
def shelf(desk, tmp_path):
    shelf = SHELVES[str(tmp_path)] = Shelf(limits=Limits(max_rows=2))
    desk.destination = DestinationSettings(
        type="headwater.testing.fake_destination:FakeDestination", options={"shelf": str(tmp_path)}, attempts=2
    )
    yield shelf
    del SHELVES[str(tmp_path)]


def rows(desk, columns="key, version, operation, state, reason"):
    return desk.warehouse.execute(f"select {columns} from headwater.outbox order by key, version").fetchall()


def queue(desk, plan=None):

    outbox.prepare(desk.warehouse, desk.sync.name, mapping.resolve(desk.warehouse, desk.sync))
    return outbox.enqueue(desk.warehouse, plan or desk.plan(), desk.clock)


def test_enqueue_twice_is_enqueue_once(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    plan = desk.plan()
    assert queue(desk, plan) == queue(desk, plan) == outbox.Enqueued(ready=2, held=0, superseded=0, parked=0)
    assert desk.states() == {"ready": 2}
    queue(desk)
    assert desk.states() == {"ready": 2}


def test_a_newer_version_takes_the_place_of_an_unsent_one(desk):
    desk.people(("c1", "Ann", "Oslo"))
    queue(desk)
    desk.people(("c1", "Ann", "Rome"))
    assert queue(desk).superseded == 1
    assert rows(desk) == [
        ("c1", 1, "create", "superseded", "a newer version of the row takes its place"),
        ("c1", 2, "create", "ready", None),
    ]


def test_what_the_model_no_longer_asks_for_is_not_sent(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"))
    queue(desk)
    desk.people()
    assert desk.deliver().status == "nothing"
    assert rows(desk) == [("c1", 1, "create", "superseded", "the model no longer asks for it")]
    assert shelf.calls == []


def test_there_and_back_is_a_new_operation(desk, shelf):
    """The id of the first one must not come again: a destination that knows it would ignore it."""
    for city in ("Oslo", "Rome", "Oslo"):
        desk.people(("c1", "Ann", city))
        assert desk.deliver().confirmed == 1
    assert len(set(shelf.effects)) == 3
    assert shelf.rows == {"c1": {"name": "Ann", "city": "Oslo"}}


def test_removed_and_back_is_a_new_operation(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=1)
    for model in ([("c1", "Ann", "Oslo")], [], [("c1", "Ann", "Oslo")], []):
        desk.people(*model)
        assert desk.deliver().confirmed == 1
    assert len(set(shelf.effects)) == 4
    assert shelf.rows == {}


def test_a_failed_row_is_tried_by_the_next_run_under_the_same_id(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    shelf.refused = {"c2"}
    first = desk.deliver()
    assert (first.status, first.confirmed, first.failed) == ("partial", 1, 1)
    (failed,) = desk.warehouse.rows(
        "select operation_id, reason, code, attempts from headwater.outbox where state = 'failed'"
    )
    assert (failed["reason"], failed["code"], failed["attempts"]) == ("REFUSED: c2 is not wanted", "REFUSED", 1)
    shelf.refused = set()
    assert desk.deliver().confirmed == 1
    (done,) = desk.warehouse.rows(
        "select state, attempts, reason, code from headwater.outbox where operation_id = ?", [failed["operation_id"]]
    )
    assert done == {"state": "done", "attempts": 2, "reason": None, "code": None}


def test_a_row_in_doubt_is_sent_again_as_it_was(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["lost_answer", "lost_answer"]
    assert desk.deliver().failed == 1
    assert desk.warehouse.value("select in_doubt from headwater.outbox")
    assert desk.delivered() == {}
    assert desk.deliver().confirmed == 1
    assert len(set(shelf.effects)) == len(shelf.effects) == 1
    assert len(set(shelf.calls)) == 1


def test_a_row_in_doubt_that_changed_back_is_set_right(desk, shelf):
    """Oslo is confirmed, Rome may or may not be there, the model says Oslo again: Oslo must be sent, though nothing differs."""
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.people(("c1", "Ann", "Rome"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    desk.people(("c1", "Ann", "Oslo"))
    assert shelf.rows["c1"]["city"] == "Rome"
    assert desk.deliver().confirmed == 1
    assert shelf.rows["c1"]["city"] == "Oslo"
    assert desk.deliver().status == "nothing"


def test_a_mirror_removes_what_may_have_arrived(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    desk.people()
    assert [one.operation for one in desk.plan().operations()] == ["delete"]
    assert desk.deliver().confirmed == 1
    assert shelf.rows == {}
    assert desk.deliver().status == "nothing"


def test_a_removal_of_what_may_have_arrived_outlives_a_kill_before_its_turn(desk, shelf):
    """The removal was put into the outbox, and the process ended there."""
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    desk.people()
    outbox.prepare(desk.warehouse, "people", mapping.resolve(desk.warehouse, desk.sync))
    outbox.enqueue(desk.warehouse, desk.plan(), desk.clock)
    assert desk.deliver().confirmed == 1
    assert shelf.rows == {}
    assert desk.deliver().status == "nothing"


def test_removals_of_what_may_have_arrived_are_a_share_of_what_may_be_there(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=0.5)
    desk.people(("c0", "Al", "Bonn"))
    desk.deliver()
    desk.people(("c0", "Al", "Bonn"), ("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    desk.people(("c0", "Al", "Bonn"))
    (stop,) = desk.plan().stops
    assert stop.sentence.startswith("2 of 2 rows that were or may have been delivered (100.0%) would be removed;")
    assert desk.with_sync(max_removal_share=1).deliver().confirmed == 2


def test_a_mirror_removes_nothing_in_doubt_that_the_model_still_has(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"), ("c2", "Bo", "Rome"), ("c2", "Other", "Rome"))
    plan = desk.plan()
    assert [(one.operation, one.key) for one in plan.operations()] == [("create", "c1")]
    assert [(one.key, one.rule) for one in plan.held()] == [("c2", "duplicate")]
    assert desk.deliver().confirmed == 1
    assert shelf.rows == {"c1": {"name": "Ann", "city": "Bergen"}, "c2": {"name": "Bo", "city": "Rome"}}


def test_a_row_in_doubt_that_left_the_model_is_not_sent_again_and_not_forgotten(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["lost_answer", "lost_answer"]
    desk.deliver()
    calls = len(shelf.calls)
    desk.people()
    delivery = desk.deliver()
    assert delivery.warnings == ("1 row may have arrived, and the model no longer has it; it is not sent again",)
    assert len(shelf.calls) == calls
    desk.people(("c1", "Ann", "Oslo"))
    assert desk.deliver().confirmed == 1


def test_retry_lets_rows_wait_again(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    shelf.refused = {"c1", "c2"}
    desk.deliver()
    assert outbox.retry(desk.warehouse, "people", "code = 'REFUSED' and key = 'c1'", desk.clock) == 1
    assert desk.states() == {"done": 1, "failed": 1, "ready": 1}
    assert outbox.retry(desk.warehouse, "people", None, desk.clock) == 1
    with pytest.raises(UsageError, match="--where 'nonsense =' is not a condition on the outbox"):
        outbox.retry(desk.warehouse, "people", "nonsense =", desk.clock)


def test_a_plan_from_a_file_is_not_enqueued_as_it_is(desk):
    desk.people(("c1", "Ann", "Oslo"))
    plan = Plan.read(desk.plan().write(desk.folder / "plan.json"))
    with pytest.raises(UsageError, match="a plan from a file cannot be put into the outbox"):
        queue(desk, plan)


def test_done_rows_do_not_pile_up(desk, shelf):
    for number in range(5):
        desk.people(("c1", "Ann", f"city {number}"), ("c2", "Bo", "Rome"))
        desk.deliver()
    assert desk.states() == {"done": 1}
    assert desk.warehouse.value("select count(*) from delivered.people__next") == 0
    assert desk.warehouse.value("select count(*) from headwater.sync_rows") == 6


def test_a_row_that_is_superseded_again_and_again_leaves_one_trace(desk, shelf):
    for number in range(5):
        desk.people(("c1", "Ann", f"city {number}"))
        queue(desk)
    assert [(version, state) for version, state in rows(desk, "version, state")] == [(5, "ready")] or len(
        rows(desk)
    ) == 2
    desk.deliver()
    assert len(shelf.effects) == 1
    assert shelf.rows["c1"]["city"] == "city 4"


def test_contacts_are_released_with_the_claim_and_given_back_when_nobody_was_reached(desk, shelf):
    desk.warehouse.execute("create table main.contacts (key varchar)")
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"), ("c3", "Cy", "Bonn"))
    shelf.refused = {"c2"}

    def release(relation):
        desk.warehouse.execute(
            f"insert into main.contacts select key from {relation} where key not in (select key from main.contacts)"
        )

    def give_back(relation):
        desk.warehouse.execute(f"delete from main.contacts where key in (select key from {relation})")

    def contacted():
        return [row[0] for row in desk.warehouse.execute("select key from main.contacts order by 1").fetchall()]

    seen = []
    shelf.on_call = lambda: seen.append(contacted())
    desk.deliver(release=release, give_back=give_back)
    assert seen == [["c1", "c2", "c3"], ["c1", "c2", "c3"]]
    assert contacted() == ["c1", "c3"]
    shelf.refused = set()
    desk.deliver(release=release, give_back=give_back)
    assert contacted() == ["c1", "c2", "c3"]


def test_nobody_is_released_when_the_claim_fails(desk, shelf):
    desk.warehouse.execute("create table main.contacts (key varchar)")
    desk.people(("c1", "Ann", "Oslo"))

    def release(relation):
        desk.warehouse.execute(f"insert into main.contacts select key from {relation}")
        raise RuntimeError("the ledger is torn")

    with pytest.raises(RuntimeError, match="the ledger is torn"):
        desk.deliver(release=release)
    assert desk.warehouse.value("select count(*) from main.contacts") == 0
    assert desk.states() == {"ready": 1}
    assert shelf.calls == []


def test_removals_are_not_contacts(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.people(("c2", "Bo", "Rome"))
    released = []
    desk.deliver(
        release=lambda relation: released.extend(desk.warehouse.execute(f"select key from {relation}").fetchall())
    )
    assert released == [("c2",)]


def test_decisions_are_not_sent_without_their_rules(desk):
    desk.warehouse.execute(
        "create table main.people as select 'c1' as id, 'd1' as decision_id, 'Ann' as name, 'Oslo' as city"
    )
    desk.with_sync(decisions=True)
    with pytest.raises(UsageError, match="which are only sent with their re-check and release"):
        desk.deliver()
    assert desk.deliver(dry_run=True).status == "dry_run"
    asked = []

    def recheck(relation):
        asked.extend(desk.warehouse.rows(f"select decision_id, customer_id from {relation}"))
        return []

    assert desk.deliver(recheck=recheck, release=lambda relation: None).confirmed == 1
    assert asked == [{"decision_id": "d1", "customer_id": None}] * 2


def test_how_syncs_stand(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    (before,) = runs.syncs(desk.warehouse, [desk.sync], desk.clock)
    assert (before.runs, before.status, before.confirmed, before.age_seconds) == (0, None, 0, None)
    shelf.refused = {"c2"}
    desk.deliver()
    desk.deliver(dry_run=True)
    (after,) = runs.syncs(desk.warehouse, [desk.sync], desk.clock)
    assert (after.runs, after.status, after.confirmed, after.failed, after.age_seconds) == (1, "partial", 1, 1, 0.0)
    assert after.message == "1 of 2 rows confirmed, 1 failed"


@pytest.mark.parametrize(
    ("hours", "told"),
    [
        ((0, 24, 20, 26), [None, None, None, "05. 10:00"]),
        ((0, 1, 20, 3, 3), [None, None, None, None, None]),
    ],
    ids=["every day or so", "by hand"],
)
def test_when_a_sync_is_due_is_told_by_a_regular_pace_of_its_runs(desk, shelf, hours, told):
    desk.people(("c1", "Ann", "Oslo"))
    due = []
    for pause in hours:
        desk.clock.push(timedelta(hours=pause))
        desk.deliver()
        due.append(runs.syncs(desk.warehouse, [desk.sync], desk.clock)[0].next_run_at)
    assert [one and f"{one:%d. %H:%M}" for one in due] == told


def test_rows_that_wait_for_their_time_say_when(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"))
    desk.deliver()
    desk.warehouse.execute(
        "update headwater.outbox set state = 'ready', available_at = timestamp '2026-03-01 13:30:00'"
    )
    assert f"{runs.syncs(desk.warehouse, [desk.sync], desk.clock)[0].next_run_at:%H:%M}" == "13:30"


def test_how_far_a_live_sync_is_behind(desk, shelf):
    desk.with_sync(live=True)
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["unusable"]
    desk.deliver()
    desk.clock.push(timedelta(seconds=90))
    (behind,) = runs.syncs(desk.warehouse, [desk.sync], desk.clock)
    desk.deliver()
    (after,) = runs.syncs(desk.warehouse, [desk.sync], desk.clock)
    assert (behind.live, behind.lag_seconds, behind.next_run_at) == (True, 90.0, None)
    assert (after.lag_seconds, after.next_run_at) == (0.0, None)
    desk.clock.push(timedelta(seconds=5))
    desk.warehouse.execute(
        "insert into headwater.live_models (model, refreshed_at) values ('people', ?)",
        [desk.clock.now().replace(tzinfo=None)],
    )
    desk.clock.push(timedelta(seconds=7))
    assert runs.syncs(desk.warehouse, [desk.sync], desk.clock)[0].lag_seconds == 7.0


def verbs(desk, call):
    """What the rows of a call were for."""
    listed = ", ".join(f"'{one}'" for one in call)
    found = desk.warehouse.execute(f"select distinct operation from headwater.outbox where operation_id in ({listed})")
    return [verb for (verb,) in found.fetchall()]


def test_writes_and_removals_never_share_a_call(desk, shelf):
    """What happens to the second of two calls is not said of the rows of the first."""
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"))
    shelf.calls.clear()
    assert desk.plan().calls == 2
    assert desk.deliver().confirmed == 2
    assert [verbs(desk, call) for call in shelf.calls] == [["update"], ["delete"]]


def test_a_batch_of_both_kinds_that_a_crash_of_an_older_version_left_goes_in_parts(desk, shelf):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"))
    queue(desk)
    desk.warehouse.execute("update headwater.outbox set state = 'claimed', claimed_by = 'b1' where state = 'ready'")
    shelf.calls.clear()
    assert desk.deliver().confirmed == 2
    assert [verbs(desk, call) for call in shelf.calls] == [["update"], ["delete"]]


def test_one_claim_is_one_call_where_repetitions_have_effects(desk, shelf, monkeypatch):
    desk.with_sync(mode="mirror", max_removal_share=1)
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"))
    shelf.limits = Limits(max_rows=10, idempotent=False)
    passed = []
    monkeypatch.setattr("headwater.activation.deliver.failpoint", passed.append)
    assert desk.deliver().confirmed == 2
    assert passed.count("activate.claimed") == passed.count("activate.answered") == 2


def test_an_insert_keeps_what_was_sent_only_while_nobody_has_refused_it(desk, shelf):
    desk.with_sync(mode="insert")
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults = ["lost_request", "lost_request"]
    desk.deliver()
    desk.people(("c1", "Ann", "Rome"))
    assert [one.fields["city"] for one in desk.plan().operations()] == ["Oslo"], "it may have arrived"
    shelf.faults, shelf.refused = ["lost_request"], {"c1"}
    desk.deliver()
    assert desk.warehouse.execute("select state, code, in_doubt from headwater.outbox").fetchall() == [
        ("failed", "REFUSED", True)
    ]
    assert [one.fields["city"] for one in desk.plan().operations()] == ["Rome"]
    shelf.refused = set()
    assert desk.deliver().confirmed == 1
    assert shelf.rows == {"c1": {"name": "Ann", "city": "Rome"}}
    assert desk.deliver().status == "nothing"


def test_an_insert_that_a_destination_broke_on_is_no_refusal(desk, shelf):
    desk.with_sync(mode="insert")
    desk.people(("c1", "Ann", "Oslo"))
    shelf.on_call = lambda: 1 / 0
    desk.deliver()
    shelf.on_call = None
    desk.people(("c1", "Ann", "Rome"))
    assert desk.warehouse.execute("select state, in_doubt from headwater.outbox").fetchall() == [("failed", True)]
    assert [one.fields["city"] for one in desk.plan().operations()] == ["Oslo"]


def test_a_row_in_doubt_that_was_refused_last_keeps_the_refusals_words_when_it_leaves_the_model(desk, shelf):
    desk.people(("c1", "Ann", "Oslo"))
    shelf.faults, shelf.refused = ["lost_request"], {"c1"}
    desk.deliver()
    desk.people()
    for _ in range(2):
        assert desk.deliver().warnings
        assert desk.warehouse.execute("select state, code, reason, in_doubt from headwater.outbox").fetchall() == [
            ("failed", "REFUSED", "REFUSED: c1 is not wanted", True)
        ]
