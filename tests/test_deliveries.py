"""Live syncs of `headwater up`: an event becomes a request at the destination, beside a destination that is dead."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from headwater.clock import FileClock
from test_up import NOW, Running, until

sys.path.append(str(Path(__file__).parent / "activation"))
from receiver import Receiver, receiving

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def crm() -> Iterator[Receiver]:
    receiver = Receiver()
    with receiving(receiver):
        yield receiver


@pytest.fixture(scope="module")
def up(demo, crm: Receiver, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The demo project; its leads go to the receiver as they come, and to a second place where nobody listens."""
    import shutil

    home = tmp_path_factory.mktemp("deliveries")
    folder = Path(shutil.copytree(demo.folder, home / "shop"))
    path = folder / "headwater.yml"
    text = path.read_text(encoding="utf-8").replace("port: 8787", "port: 0")
    text = text.replace(
        "destinations:\n",
        "destinations:\n"
        f"  crm: {{type: webhook, options: {{url: '{crm.url}'}}}}\n"
        "  nobody: {type: webhook, options: {url: 'http://127.0.0.1:9/leads', timeout_seconds: 2}}\n",
    )
    before, leads = text.split("  - name: leads\n")
    leads, others = leads.split("\n  - name: mql_to_salesforce")
    leads = leads.replace("destination: outbox", "destination: crm\n    live: true")
    dead = leads.replace("destination: crm", "destination: nobody")
    path.write_text(
        f"{before}  - name: leads_to_crm\n{leads.rstrip()}\n\n  - name: dead\n{dead}\n  - name: mql_to_salesforce{others}",
        encoding="utf-8",
    )
    clock = home / "now"
    FileClock(clock).set(NOW)
    running = Running(folder, clock)
    try:
        running.wait_for("engine", "follows the log")
        yield running
    finally:
        if running.process.poll() is None:
            running.process.kill()
            running.process.wait()


def test_a_lead_reaches_the_destination_although_another_is_dead(up: Running, crm: Receiver) -> None:
    assert up.send("Demo Requested", "ada") == 200
    until(lambda: "ada" in crm.rows, "ada is at the destination")
    assert str(crm.rows["ada"]["mql_score"]) == "30"
    assert up.send("Whitepaper Downloaded", "ada") == 200
    until(lambda: str(crm.rows["ada"]["mql_score"]) == "50", "her new score is there")
    up.wait_for("sync dead", "")
    assert up.rows("select distinct status from headwater.sync_runs where sync = 'dead'") != []
    assert up.rows("select count(*) as n from headwater.outbox where sync = 'dead' and state = 'done'") == [{"n": 0}]


def test_a_build_gets_the_file_and_the_syncs_go_on_after_it(up: Running, crm: Receiver) -> None:
    built = up.type("build", "--json")
    assert built.returncode == 0, built.stdout + built.stderr
    assert up.send("Demo Requested", "grace") == 200
    until(lambda: "grace" in crm.rows, "grace is at the destination")
    assert len(crm.acted) == len(set(crm.acted)), "something was delivered twice"


def test_it_stops_cleanly(up: Running) -> None:
    assert up.stop() == 0
    assert (up.process.stderr.read() if up.process.stderr else "") == ""
