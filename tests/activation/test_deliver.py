"""A plan goes out, exactly as reviewed, and only what was confirmed counts as delivered."""

import csv
import json
import threading
from datetime import timedelta

import pytest

from headwater.activation import deliver as deliver_module
from headwater.activation import runs as runs_module
from headwater.activation.destinations import Later, Limits
from headwater.activation.destinations.files import Files
from headwater.activation.plan import Plan
from headwater.activation.settings import DestinationSettings
from headwater.testing.fake_destination import SHELVES, FakeDestination, Shelf


def test_what_the_model_says_arrives_in_a_file_once(desk):
    desk.destination = DestinationSettings(type="files")
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", None))
    first = desk.deliver()
    again = desk.deliver()
    assert (first.status, first.planned, first.confirmed) == ("ok", 2, 2)
    assert (again.status, again.planned) == ("nothing", 0)
    files = list((desk.folder / "outbox" / "people").iterdir())
    assert len(files) == 1
    with files[0].open() as lines:
        rows = [(row["operation"], row["key"], row["name"], row["city"]) for row in csv.DictReader(lines)]
    assert rows == [("create", "c1", "Ann", "Oslo"), ("create", "c2", "Bo", "")]


def test_one_changed_row_is_one_row_sent(desk):
    desk.people(("c1", "Ann", "Oslo"), ("c2", "Bo", "Rome"))
    desk.deliver()
    desk.people(("c1", "Ann", "Bergen"), ("c2", "Bo", "Rome"))
    (operation,) = desk.plan().operations()
    assert (operation.operation, operation.key, operation.fields, operation.previous) == (
        "update",
        "c1",
        {"name": "Ann", "city": "Bergen"},
        {"name": "Ann", "city": "Oslo"},
    )
    assert desk.deliver().confirmed == 1
    assert desk.delivered() == {"c1": ("Ann", "Bergen"), "c2": ("Bo", "Rome")}


@pytest.fixture
def shelf(desk, tmp_path):
    shelf = SHELVES[str(tmp_path)] = Shelf(limits=Limits(max_rows=5))
    desk.destination = DestinationSettings(
        type="headwater.testing.fake_destination:FakeDestination", options={"shelf": str(tmp_path)}, attempts=2
    )
    yield shelf
    del SHELVES[str(tmp_path)]


def many(desk, number):
    desk.people(*[(f"c{position:03d}", "n", "c") for position in range(number)])


def runs(desk):
    return desk.warehouse.rows(
        "select status, dry_run, planned, sent, confirmed, failed, held, message, ended_at is null as open from headwater.sync_runs order by sync_run_id"
    )


def test_a_dry_run_calls_nobody_changes_nothing_and_leaves_a_preview(desk, shelf):
    many(desk, 3)
    delivery = desk.deliver(dry_run=True)
    assert (delivery.status, delivery.planned, delivery.left, delivery.sent) == ("dry_run", 3, 3, 0)
    assert delivery.message == "dry run: 3 rows would be sent in 1 call; see outbox/people.preview.json"
    assert [row["key"] for row in json.loads(delivery.preview.read_text())["operations"]] == ["c000", "c001", "c002"]
    assert (shelf.calls, desk.delivered(), desk.states()) == ([], {}, {})
    assert [(run["status"], run["dry_run"]) for run in runs(desk)] == [("dry_run", True)]


def test_batches_are_as_large_as_the_destination_takes(desk, shelf):
    many(desk, 13)
    desk.deliver()
    assert [len(call) for call in shelf.calls] == [5, 5, 3]


def test_a_destination_that_cannot_tell_repetitions_is_sent_one_call_per_claim(desk, shelf):
    shelf.limits = Limits(max_rows=5, idempotent=False)
    many(desk, 13)
    claimed = []
    shelf.on_call = lambda: claimed.append(desk.states().get("claimed"))
    desk.deliver()
    assert claimed == [5, 5, 3]


def test_counts_add_up_in_the_result_and_in_the_table(desk, shelf):
    many(desk, 8)
    shelf.refused = {"c001", "c006"}

    def recheck(relation):
        rows = desk.warehouse.rows(f"from {relation}")
        return [(row["operation_id"], "consent", "no") for row in rows if row["key"] == "c003"]

    assert desk.deliver(recheck=recheck, dry_run=True).message == (
        "dry run: 7 rows would be sent in 2 calls, 1 held back (consent 1); see outbox/people.preview.json"
    )
    delivery = desk.deliver(recheck=recheck)
    assert (delivery.planned, delivery.confirmed, delivery.failed, delivery.held, delivery.left) == (8, 5, 2, 1, 0)
    _, run = runs(desk)
    assert (run["status"], run["planned"], run["sent"], run["confirmed"], run["failed"], run["held"], run["open"]) == (
        "partial",
        7,
        7,
        5,
        2,
        1,
        False,
    )
    assert (
        run["message"]
        == delivery.message
        == "5 of 8 rows confirmed, 2 failed, 1 held back (consent 1; headwater.outbox says who)"
    )
    assert delivery.warnings == (
        "2 rows failed; `headwater.sync_rows` has the destination's code, its words and what to do. "
        "`headwater activate --sync people --no-dry-run` tries them again",
    )
    assert desk.states() == {"done": 5, "failed": 2, "held": 1}


def test_a_row_that_is_allowed_again_goes_out_with_the_next_run(desk, shelf):
    many(desk, 1)
    no = [lambda relation: [(row["operation_id"], "quiet", "night") for row in desk.warehouse.rows(f"from {relation}")]]
    assert desk.deliver(recheck=no[0]).held == 1
    assert shelf.calls == []
    assert desk.deliver(recheck=lambda relation: []).confirmed == 1


def test_a_rule_that_says_no_only_at_the_moment_of_sending(desk, shelf):
    many(desk, 2)
    asked = []

    def recheck(relation):
        asked.append(relation)
        rows = desk.warehouse.rows(f"from {relation} order by key")
        return [(rows[0]["operation_id"], "consent", "withdrawn")] if len(asked) == 2 else []

    delivery = desk.deliver(recheck=recheck)
    assert (delivery.confirmed, delivery.held, len(asked)) == (1, 1, 2)
    assert [
        row["reason"] for row in desk.warehouse.rows("select reason from headwater.outbox where state = 'held'")
    ] == ["consent: withdrawn"]


def test_too_many_failures_stop_the_run_and_the_rest_stays_ready(desk, shelf, monkeypatch):
    monkeypatch.setattr(deliver_module, "CLAIM_ROWS", 10)
    many(desk, 60)
    shelf.refused = {f"c{number:03d}" for number in range(60)}
    delivery = desk.deliver()
    assert (delivery.status, delivery.failed, delivery.left) == ("stopped", 20, 40)
    assert (
        delivery.message
        == "stopped after 0 of 60 rows: 20 of 20 rows failed (100.0%); `max_failed_share` of 'people' allows 50.0%"
    )
    assert len(shelf.calls) == 4
    shelf.refused = set()
    assert desk.deliver().confirmed == 60


def test_an_unusable_destination_stops_the_run_and_loses_nothing(desk, shelf):
    many(desk, 12)
    shelf.faults = ["ok", "unusable"]
    delivery = desk.deliver()
    assert (delivery.status, delivery.confirmed, delivery.left, delivery.failed) == ("stopped", 5, 7, 0)
    assert delivery.message == "stopped after 5 of 12 rows: there cannot be used: the shelf is closed (CLOSED). Open it"
    assert desk.deliver().confirmed == 7


def test_a_destination_that_cannot_open(desk):
    many(desk, 1)
    desk.destination = DestinationSettings(
        type="webhook", options={"url": "http://127.0.0.1:9/", "signature_env": "HEADWATER_NO_SUCH_SECRET"}
    )
    delivery = desk.deliver()
    assert (delivery.status, delivery.left) == ("stopped", 1)
    assert "the environment has no HEADWATER_NO_SUCH_SECRET" in delivery.message
    assert desk.states() == {"ready": 1}


def test_a_destination_that_asks_for_an_hour_is_left_alone_for_an_hour(desk, shelf):
    many(desk, 1)
    destination = Patient
    desk.destination = desk.destination.model_copy(update={"type": f"{__name__}:{destination.__name__}"})
    first = desk.deliver()
    assert (first.status, first.left) == ("partial", 1)
    assert first.warnings == (
        "1 row waits because there asked for a longer pause; `headwater activate --sync people --no-dry-run` sends it later",
    )
    assert (desk.deliver().left, len(shelf.calls)) == (1, 1)
    desk.clock.push(timedelta(hours=1))
    assert desk.deliver().confirmed == 1


class Patient(FakeDestination):
    """Asks for an hour at its first call."""

    def deliver(self, batch):
        if not self.shelf.calls:
            self.shelf.calls.append(())
            raise Later("DAILY", "come back in an hour", retry_after=3600)
        return super().deliver(batch)


def test_every_try_is_a_row_with_code_words_and_advice(desk, shelf):
    many(desk, 2)
    shelf.refused = {"c001"}
    shelf.faults = ["later"]
    desk.deliver()
    rows = desk.warehouse.rows(
        "select key, attempt, status, code, message, advice, cast(request as varchar) as request from headwater.sync_rows order by attempt, key"
    )
    request = '{{"operation":"create","key":"{}","fields":{{"name":"n","city":"c"}}}}'
    busy = {
        "attempt": 1,
        "status": "retry",
        "code": "BUSY",
        "message": "the shelf is busy",
        "advice": "the next run tries it again",
    }
    assert rows == [
        {"key": "c000", **busy, "request": request.format("c000")},
        {"key": "c001", **busy, "request": request.format("c001")},
        {
            "key": "c000",
            "attempt": 2,
            "status": "done",
            "code": None,
            "message": None,
            "advice": None,
            "request": request.format("c000"),
        },
        {
            "key": "c001",
            "attempt": 2,
            "status": "failed",
            "code": "REFUSED",
            "message": "c001 is not wanted",
            "advice": "take it out",
            "request": request.format("c001"),
        },
    ]


def test_bodies_are_kept_of_failures_and_of_the_last_rows_only(desk, shelf, monkeypatch):
    monkeypatch.setattr(runs_module, "KEEP_BODIES", 2)
    many(desk, 6)
    shelf.refused = {"c000"}
    desk.deliver()
    kept = desk.warehouse.execute(
        "select key from headwater.sync_rows where request is not null order by key"
    ).fetchall()
    assert kept == [("c000",), ("c004",), ("c005",)]


def test_bodies_of_earlier_claims_and_runs_do_not_pile_up(desk, shelf, monkeypatch):
    monkeypatch.setattr(runs_module, "KEEP_BODIES", 2)
    monkeypatch.setattr(deliver_module, "CLAIM_ROWS", 2)
    shelf.limits, shelf.refused = Limits(max_rows=2), {"c000"}
    many(desk, 6)
    for name in ("first", "second"):
        desk.warehouse.execute("update main.people set name = ?", [name])
        desk.deliver()
    kept = desk.warehouse.rows(
        "select key, status, cast(request as varchar) as request from headwater.sync_rows where request is not null order by rowid"
    )
    assert [(row["key"], row["status"]) for row in kept] == [
        ("c000", "failed"),
        ("c000", "failed"),
        ("c004", "done"),
        ("c005", "done"),
    ]
    assert '"name":"second"' in kept[-1]["request"]


def test_a_run_that_a_crash_left_open_is_closed_by_the_next(desk, shelf, monkeypatch):
    many(desk, 1)

    def die(name):
        if name == "activate.claimed":
            raise KeyboardInterrupt

    monkeypatch.setattr(deliver_module, "failpoint", die)
    with pytest.raises(KeyboardInterrupt):
        desk.deliver()
    assert [(run["status"], run["open"]) for run in runs(desk)] == [("running", True)]
    assert desk.states() == {"claimed": 1}
    monkeypatch.undo()
    desk.deliver()
    assert [(run["status"], run["open"]) for run in runs(desk)] == [("interrupted", False), ("ok", False)]


def test_the_answers_of_a_claim_are_recorded_as_a_whole_or_not_at_all(desk, shelf, monkeypatch):
    many(desk, 3)

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs_module, "log", die)
        with pytest.raises(KeyboardInterrupt):
            desk.deliver()
    assert (desk.states(), desk.delivered()) == ({"claimed": 3}, {})
    assert desk.deliver().confirmed == 3
    assert len(shelf.effects) == 3


def test_rows_that_a_crash_left_come_again_in_their_own_file(desk, monkeypatch):
    """New rows that sort before them must not be mixed in: every row stands in exactly one file."""
    monkeypatch.setattr(deliver_module, "CLAIM_ROWS", 2)
    monkeypatch.setattr(Files, "limits", Limits(max_rows=2))
    desk.destination = DestinationSettings(type="files", options={"format": "json"})
    many(desk, 5)

    def die(name):
        if name == "activate.sent":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deliver_module, "failpoint", die)
        with pytest.raises(KeyboardInterrupt):
            desk.deliver()
    desk.warehouse.execute("insert into main.people values ('a', 'n', 'c')")
    desk.clock.push(timedelta(minutes=1))
    assert desk.deliver().confirmed == 6
    files = sorted((desk.folder / "outbox" / "people").iterdir())
    assert [[row["key"] for row in json.loads(path.read_text())] for path in files] == [
        ["c000", "c001"],
        ["a", "c002"],
        ["c003", "c004"],
    ]


def test_an_interrupted_plan_from_a_file_goes_on_and_only_it(desk, shelf, monkeypatch):
    monkeypatch.setattr(deliver_module, "CLAIM_ROWS", 5)
    many(desk, 12)
    plan = Plan.read(desk.plan().write(desk.folder / "plan.json"))
    recorded = []

    def die(name):
        recorded.append(name)
        if recorded.count("activate.recorded") == 1 and name == "activate.claimed" and len(recorded) > 4:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(deliver_module, "failpoint", die)
        with pytest.raises(KeyboardInterrupt):
            desk.deliver(plan)
    assert desk.states() == {"claimed": 5, "done": 5, "ready": 2}
    delivery = desk.deliver(plan)
    assert (delivery.status, delivery.planned, delivery.confirmed, delivery.plan_id) == ("ok", 7, 7, plan.plan_id)
    assert len(shelf.effects) == 12
    assert desk.deliver(plan).status == "nothing"


def test_progress_is_told(desk, shelf, monkeypatch):
    monkeypatch.setattr(deliver_module, "CLAIM_ROWS", 5)
    many(desk, 12)
    told = []
    desk.deliver(on_progress=lambda done, planned: told.append((done, planned)))
    assert told == [(5, 12), (10, 12), (12, 12)]


def test_calls_go_out_at_the_same_time_where_the_destination_allows(desk, shelf):
    """Two calls must meet: each waits for the other, and would wait for ever if they came one after the other."""
    shelf.limits = Limits(max_rows=1, concurrency=2)
    desk.destination = desk.destination.model_copy(update={"type": f"{__name__}:Meeting"})
    many(desk, 4)
    assert desk.deliver().confirmed == 4


class Meeting(FakeDestination):
    """Answers only when two calls are there."""

    barrier = threading.Barrier(2)

    def deliver(self, batch):
        self.barrier.wait(timeout=20)
        return super().deliver(batch)


def test_a_rehearsal_inside_a_transaction_leaves_nothing(desk, shelf):
    many(desk, 2)
    with desk.warehouse.rehearsal():
        assert desk.deliver(dry_run=True).planned == 2
    assert runs(desk) == []


def test_the_rate_limit_belongs_to_the_destination_not_to_the_sync(desk, shelf, monkeypatch):
    asked = []
    monkeypatch.setattr(
        deliver_module.limits, "shared", lambda *destination_and_rate: asked.append(destination_and_rate)
    )
    desk.destination = desk.destination.model_copy(update={"rate_per_second": 5.0})
    many(desk, 1)
    desk.deliver()
    desk.with_sync(name="others")
    desk.deliver()
    assert asked == [(desk.folder, "there", 5.0, 1.0)] * 2
