"""ML memberships in `headwater up`: time alone moves them, a sync that follows a segment hears of it, a kill leaves nothing behind."""

import json
import shutil
import sys
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from headwater.clock import FileClock
from test_up import NOW, Running, until

sys.path.append(str(Path(__file__).parent / "activation"))
from receiver import Receiver, receiving

pytestmark = [pytest.mark.timeout(900), pytest.mark.crash]

SEGMENTS = "select customer_id, segment_name from fct_customer_segments where segment_id is not null order by 1"
OPEN = "select customer_id, segment_name from headwater.segment_assignments where valid_to is null order by 1"


@pytest.fixture
def crm() -> Iterator[Receiver]:
    receiver = Receiver()
    with receiving(receiver):
        yield receiver


def test_midnights_move_memberships_and_a_sync_through_kills(demo, crm: Receiver, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(demo.folder, tmp_path / "shop"))
    settings = folder / "headwater.yml"
    text = settings.read_text(encoding="utf-8").replace("port: 8787", "port: 0")
    text = text.replace(
        "destinations:\n", f"destinations:\n  crm: {{type: webhook, options: {{url: '{crm.url}'}}}}\n", 1
    )
    sync = "  - {name: segments, model: fct_customer_segments, destination: crm, mode: upsert, key: customer_id, live: true, where: \"customer_id like '%7'\",\n"
    sync += "     fields: {customer_id: customer_id, segment_name: segment_name}}\n"
    settings.write_text(text.replace("syncs:\n", f"syncs:\n{sync}", 1), encoding="utf-8")
    clock = tmp_path / "now"
    FileClock(clock).set(NOW)

    running = Running(folder, clock)
    try:
        running.wait_for("engine", "follows the log")
        until(
            lambda: {row["segment_name"] for row in crm.rows.values()} >= {"Champions (VIPs)"},
            "everybody is at the CRM",
        )
        before = _segments(running, SEGMENTS)
        FileClock(clock).set(NOW + timedelta(days=60))
        moved = until(lambda: _moved(running, before), "memberships moved at midnight")
        told = {customer: segment for customer, segment in moved.items() if customer in crm.rows}
        assert told
        for customer, segment in told.items():
            until(lambda c=customer, s=segment: crm.rows[c]["segment_name"] == s, f"{customer} is {segment} at the CRM")
        known = {one["follower"]: one for one in json.loads(running.type("status", "--json").stdout)["followers"]}
        assert known["ML segments"]["members"] == len(before)
        assert known["ML segments"]["waiting"] == 0
        checked = running.type("verify", "segment_assignments", "--json")
        assert checked.returncode == 0, checked.stdout
        assert running.stop() == 0
    finally:
        running.close()

    for days, name in ((120, "memberships.following"), (121, "memberships.followed")):
        FileClock(clock).set(NOW + timedelta(days=days))
        killed = Running(folder, clock, HEADWATER_FAILPOINT=name)
        try:
            assert until(lambda k=killed: k.process.poll(), name) == 137
        finally:
            killed.close()
    running = Running(folder, clock)
    try:
        running.wait_for("engine", "follows the log")
        until(lambda: not _waiting(running), "everything is followed")
        assert _segments(running, SEGMENTS) == _segments(running, OPEN)
        assert json.loads(running.type("verify", "segment_assignments", "--json").stdout)["wrong_rows"] == 0
        assert running.stop() == 0
    finally:
        running.close()
    lines = (folder / "seeds" / "customer_segments.csv").read_text(encoding="utf-8").splitlines()
    assert len(lines) == len(before) + 1


def _waiting(running: Running) -> int:
    return sum(one["waiting"] for one in json.loads(running.type("status", "--json").stdout)["followers"])


def _segments(running: Running, sql: str) -> dict[str, str]:
    rows = json.loads(running.type("query", sql, "--limit", "100000", "--json").stdout)
    return {row["customer_id"]: row["segment_name"] for row in rows}


def _moved(running: Running, before: dict[str, str]) -> dict[str, str]:
    """Who is in another segment than before."""
    now = _segments(running, SEGMENTS)
    return {customer: segment for customer, segment in now.items() if before.get(customer) != segment}
