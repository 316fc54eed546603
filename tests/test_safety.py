"""What must not happen by accident: a demo that delivers somebody's data, a delivery past a switch that is on."""

import shutil
import subprocess
import sys
import threading

import pytest

from headwater.clock import FixedClock, SystemClock
from headwater.errors import Busy
from headwater.warehouse import Warehouse
from headwater.warehouse.lock import project_lock


def headwater(folder, *arguments):
    done = subprocess.run(
        [sys.executable, "-m", "headwater", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout + done.stderr


def test_demo_does_not_touch_a_project_that_it_did_not_make(tmp_path):
    assert headwater(tmp_path, "init", "mine")[0] == 0
    code, said = headwater(tmp_path, "demo", "mine")
    assert code == 2
    assert "mine holds a project that `demo` did not make, and `demo` delivers" in " ".join(said.split())
    assert not (tmp_path / "mine" / "outbox").exists() or not list((tmp_path / "mine" / "outbox").rglob("*.csv"))


@pytest.fixture
def shop(demo, tmp_path):
    folder = tmp_path / "shop"
    shutil.copytree(demo.folder, folder)
    return folder


@pytest.mark.long
def test_the_global_kill_switch_stops_every_sync(shop):
    """Also one that carries no decisions: here the leads, one of which has changed."""
    with Warehouse(shop / "warehouse" / "shop.duckdb") as warehouse:
        warehouse.execute("update main.user_alerts set mql_score = mql_score + 1")
    headwater(shop, "kill-switch", "on", "--reason", "wrong prices")
    code, said = headwater(shop, "activate", "--sync", "leads", "--no-dry-run")
    assert code == 0
    assert "– activate leads" in said
    assert "nothing was sent: the global kill switch is on" in said
    assert "wrong prices" in said
    headwater(shop, "kill-switch", "off")
    _, said = headwater(shop, "activate", "--sync", "leads", "--no-dry-run")
    assert "confirmed" in said


def test_a_sync_that_does_not_exist_is_a_wrong_call(shop):
    code, said = headwater(shop, "activate", "--sync", "leeds")
    assert code == 2
    assert (
        "there is no sync named 'leeds' in headwater.yml; there are: contacts_to_hubspot, cs_ticket_actions, email_actions, leads, mql_to_salesforce"
        in said
    )


def test_who_waits_for_the_lock_is_told_for_whom(tmp_path):
    told, held, done = [], threading.Event(), threading.Event()

    def hold():
        with project_lock(tmp_path, "headwater run"):
            held.set()
            done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)

    def on_wait(who):
        told.append(who)
        done.set()

    with project_lock(tmp_path, "headwater status", clock=FixedClock(SystemClock().now()), on_wait=on_wait):
        pass
    holder.join()
    assert [who.split(" (")[0] for who in told] == ["`headwater run`"]


def test_who_does_not_want_to_wait_is_told_by_the_error(tmp_path):
    with (
        project_lock(tmp_path, "headwater run"),
        pytest.raises(Busy, match="`headwater run`"),
        project_lock(tmp_path, "headwater doctor", wait_seconds=0),
    ):
        pass
