"""Alerts of six kinds: each opens when it should, is told once to a real listener, and is over when it is over."""

import http.server
import json
import threading
from datetime import timedelta

import pytest

from headwater.activation import alerts, metrics
from headwater.activation.alerts import Alert
from headwater.activation.apprise import Teller
from headwater.activation.settings import AlertSettings, DestinationSettings
from headwater.collect import collector
from headwater.errors import Refused
from headwater.testing.fake_destination import SHELVES, Shelf

WANTED = AlertSettings()


def run(desk, status="ok", planned=100, confirmed=100, failed=0, seconds=1.0, hours_ago=0.0, message="as usual"):
    """One run in the books."""
    ended = desk.clock.now().replace(tzinfo=None) - timedelta(hours=hours_ago)
    number = desk.warehouse.value("select count(*) from headwater.sync_runs")
    desk.warehouse.execute(
        "insert into headwater.sync_runs values (?, 'people', 'p', null, false, ?, ?, ?, ?, ?, 0, ?, ?, ?)",
        [f"r{number:04d}", status, planned, confirmed, confirmed, failed, ended - timedelta(seconds=seconds), ended, message],
    )  # fmt: skip


def kinds(desk, wanted=WANTED):
    return [alert.kind for alert in alerts.judge(desk.warehouse, wanted, [desk.sync], desk.clock)]


def keep(desk, wanted=WANTED):
    found = alerts.judge(desk.warehouse, wanted, [desk.sync], desk.clock)
    return alerts.keep(desk.warehouse, wanted, [desk.sync], found, desk.clock)


@pytest.mark.parametrize(
    ("last", "kind"),
    [
        ({"status": "failed"}, "failed_run"),
        ({"status": "interrupted"}, "failed_run"),
        ({"status": "stopped"}, "stopped"),
        ({"status": "refused", "planned": 0, "confirmed": 0}, "stopped"),
        ({"status": "partial", "confirmed": 94, "failed": 6}, "failed_share"),
        ({"seconds": 3_601}, "run_time"),
        ({"planned": 151, "confirmed": 151}, "count_deviation"),
        ({"planned": 49, "confirmed": 49}, "count_deviation"),
    ],
)
def test_each_kind_opens_at_its_bound_and_not_before(desk, last, kind):
    for hours in range(6, 0, -1):
        run(desk, hours_ago=hours)
    assert kinds(desk) == []
    run(desk, **last)
    assert kind in kinds(desk)
    assert kinds(desk, AlertSettings(kinds=[])) == []


@pytest.mark.parametrize(
    "last",
    [
        {"status": "partial", "confirmed": 95, "failed": 5},
        {"seconds": 3_600},
        {"planned": 150, "confirmed": 150},
        {"planned": 0, "confirmed": 0, "status": "nothing"},
    ],
)
def test_what_is_within_the_bounds_is_no_alert(desk, last):
    for hours in range(6, 0, -1):
        run(desk, hours_ago=hours)
    run(desk, **last)
    assert kinds(desk) == []


def test_a_sync_without_a_good_run_for_long_is_not_fresh(desk):
    run(desk, hours_ago=25.9)
    assert kinds(desk) == []
    desk.clock.at += timedelta(hours=0.2)
    assert kinds(desk) == ["freshness"]
    run(desk, status="nothing", planned=0, confirmed=0)
    assert kinds(desk) == []


def test_of_a_live_sync_a_row_that_waits_is_not_fresh(desk):
    desk.with_sync(live=True)
    run(desk, hours_ago=100)
    assert kinds(desk) == []
    desk.warehouse.execute(
        "insert into headwater.outbox (operation_id, sync, key, state, created_at) values ('o', 'people', 'k', 'ready', ?)",
        [desk.clock.now().replace(tzinfo=None) - timedelta(hours=27)],
    )
    assert kinds(desk) == ["freshness"]


def test_a_row_that_every_good_run_leaves_is_not_fresh(desk):
    """A destination that asks for a longer pause each time leaves rows ready, and each run is `partial`."""
    desk.warehouse.execute(
        "insert into headwater.outbox (operation_id, sync, key, state, created_at) values ('o', 'people', 'k', 'ready', ?)",
        [desk.clock.now().replace(tzinfo=None) - timedelta(hours=27)],
    )
    run(desk, status="partial")
    assert kinds(desk) == ["freshness"]
    desk.warehouse.execute("update headwater.outbox set state = 'held'")
    assert kinds(desk) == []


def test_an_alert_is_told_once_again_after_a_day_and_when_it_is_over(desk):
    run(desk, status="stopped", message="the token is wrong")
    (message,) = keep(desk)
    assert (message.title, message.text, message.over) == ("people: the sync is stopped", "the token is wrong", False)
    alerts.told(desk.warehouse, [message.alert_id], None, desk.clock)
    assert keep(desk) == []
    desk.clock.at += timedelta(hours=24)
    assert [one.alert_id for one in keep(desk)] == [message.alert_id]
    run(desk)
    (over,) = keep(desk)
    assert over.over
    assert over.text.endswith("It was: the token is wrong")
    alerts.told(desk.warehouse, [over.alert_id], None, desk.clock)
    assert keep(desk) == []
    (row,) = alerts.listed(desk.warehouse)
    assert row["resolved_at"] is not None


def test_what_could_not_be_told_is_told_at_the_next_occasion(desk):
    run(desk, status="failed", message="broke")
    (message,) = keep(desk)
    alerts.told(desk.warehouse, [message.alert_id], "nobody answered", desk.clock)
    assert [one.alert_id for one in keep(desk)] == [message.alert_id]


def test_a_run_that_breaks_or_is_refused_stands_in_the_books(desk):
    desk.people(("1", "Ada", "London"))
    SHELVES["alerts"] = Shelf()
    desk.destination = DestinationSettings(
        type="headwater.testing.fake_destination:FakeDestination", options={"shelf": "alerts"}
    )
    with pytest.raises(Refused):
        desk.with_sync(max_rows=0).deliver()
    assert kinds(desk) == ["stopped"]
    with pytest.raises(RuntimeError):
        desk.with_sync(max_rows=None).deliver(recheck=lambda _: [], release=broken)
    assert kinds(desk) == ["failed_run"]
    desk.deliver()
    assert kinds(desk) == []


def broken(_relation):
    raise RuntimeError("the ledger is gone")


# ------------------------------------------------------------------ telling, for real


@pytest.fixture
def listener():
    """A local HTTP receiver as Apprise's json:// knows it: (address, what arrived, the status it answers)."""
    arrived: list[dict] = []
    answers = [200]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            arrived.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(answers[0])
            self.end_headers()

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"json://127.0.0.1:{server.server_port}", arrived, answers
        server.shutdown()
        thread.join()


def test_an_alert_reaches_a_listener(desk, listener):
    address, arrived, _ = listener
    run(desk, status="stopped", message="the token is wrong")
    teller = Teller("shop", address)
    messages = keep(desk)
    teller.tell(messages)
    teller.tell(messages)
    assert list(teller.outcomes(30)) == [([messages[0].alert_id], None)]
    (one,) = arrived
    assert (one["title"], one["message"], one["type"]) == (
        "shop: people: the sync is stopped",
        "the token is wrong",
        "warning",
    )


def test_a_listener_that_refuses_delays_nobody_and_its_address_stays_secret(desk, listener):
    address, arrived, answers = listener
    answers[0] = 500
    run(desk, status="failed", message="broke")
    messages = keep(desk)
    teller = Teller("shop", f"{address}/s3cret nonsense://s3cret json://127.0.0.1:1/s3cret")
    teller.tell(messages)
    (outcome,) = teller.outcomes(30)
    assert outcome[0] == [messages[0].alert_id]
    assert "address 1" in outcome[1]
    assert "address 3" in outcome[1]
    assert "s3cret" not in outcome[1]
    assert len(arrived) == 1


def test_alerts_of_other_syncs_are_left_alone(desk):
    alerts.keep(desk.warehouse, WANTED, [desk.sync], [Alert("stopped", "people", "s")], desk.clock)
    other = desk.sync.model_copy(update={"name": "others"})
    assert alerts.keep(desk.warehouse, WANTED, [other], [], desk.clock) == []
    assert desk.warehouse.value("select count(*) from headwater.alerts where resolved_at is null") == 1


def test_metrics_say_what_the_syncs_do(desk):
    run(desk, confirmed=90, failed=10, status="partial", hours_ago=1)
    run(desk, seconds=2)
    keep(desk)
    path = desk.folder / "deliveries.prom"
    metrics.write(desk.warehouse, [desk.sync], path)
    lines = set(path.read_text().splitlines())
    assert {
        'headwater_sync_runs_total{status="ok",sync="people"} 1.0',
        'headwater_sync_runs_total{status="partial",sync="people"} 1.0',
        'headwater_sync_rows_total{result="confirmed",sync="people"} 190.0',
        'headwater_sync_rows_total{result="failed",sync="people"} 10.0',
        'headwater_sync_last_run_seconds{sync="people"} 2.0',
    } <= lines
    assert metrics.FILE == collector.DELIVERIES


def test_metrics_that_have_not_changed_are_not_written_again(desk):
    path = desk.folder / "deliveries.prom"
    run(desk, seconds=2)
    metrics.write(desk.warehouse, [desk.sync], path)
    first = path.stat().st_ino
    metrics.write(desk.warehouse, [desk.sync], path)
    assert path.stat().st_ino == first
    run(desk, status="failed", message="broke")
    metrics.write(desk.warehouse, [desk.sync], path)
    assert path.stat().st_ino != first
