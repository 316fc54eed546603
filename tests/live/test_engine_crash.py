"""The engine is killed at every failpoint; started again it has every event once, and every row right."""

import os
import pickle
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import live_shop
import pytest
from live_shop import CUSTOMERS, LEADS, Live, call

from headwater.failpoint import NAMES
from headwater.log.sqlite import SqliteLog

CHILD = Path(__file__).with_name("live_child.py")
OTHERS = {"live.redriven", "live.compacting", "live.compacted", "live.reshaped"} | {
    "live.aside", "live.aside_written", "live.aside_swapped"
}  # fmt: skip
"""Passed by a redrive, by a compaction that is worth it, by a database's new table and by a large model; test_redrive_live.py,
test_storage.py, test_data_products_killed.py and test_aside.py kill there."""
POINTS = sorted(name for name in NAMES if name.startswith("live.") and name not in OTHERS)


def prepared(home: Path, folder: Path) -> tuple[Live, Path]:
    """A shop with a durable log of nine calls, and its project as the child reads it."""
    shop = live_shop.copy(home, folder)
    live = Live(shop, log=SqliteLog(shop / "warehouse" / "log.sqlite"), models=LEADS)
    pickled = folder.parent / "project.pickle"
    pickled.write_bytes(pickle.dumps(live.project))
    live.settle()
    live.send(
        live.track("Demo Requested", None, "a-1"),
        live.track("Page Viewed", "L1"),
        call("identify", "i", live.now, userId="L1", anonymousId="a-1", traits={"email": "l1@example.org"}),
        live.track("Demo Requested", CUSTOMERS[0], ago=29.5 * 86_400),
        *(live.track("Newsletter Subscribed", f"L{n}") for n in range(2, 7)),
    )
    live.close()
    return live, pickled


def child(live: Live, pickled: Path, point: str | None = None, *, seconds: int = 86_400) -> subprocess.Popen[str]:
    """An engine that takes up what waits, `seconds` after the last one; killed when it passes `point`."""
    env = {**os.environ, "HEADWATER_FAILPOINT": point} if point else dict(os.environ)
    command = [sys.executable, str(CHILD), str(live.folder), str(pickled), str(seconds)]
    return subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True)


def holds(live: Live) -> None:
    """Every call landed once, every model right, at the state that the last child has left."""
    live.restart()
    live.settle()
    landed = live.rows("select event_id from collected.events union all select event_id from collected.identifies")
    assert sorted(row[0] for row in landed) == sorted(entry.message_id for entry in live.entries)
    assert live.wrong() == []
    assert live.rows("select mql_score from user_alerts where person_id = 'L1'") == [(30,)]
    live.close()


@pytest.mark.crash
def test_a_kill_at_every_point_loses_and_doubles_nothing(live_home: Path, tmp_path: Path) -> None:
    """One shop, killed at each point in turn (at its first passing, later ones at the second), then at random statements."""
    live, pickled = prepared(live_home, tmp_path / "shop")
    points = [f"{name}:{1 + number % 2}" if name == "live.model" else name for number, name in enumerate(POINTS)]
    for point in [*points, "live.statement:5", "live.statement:12"]:
        live.log = SqliteLog(live.folder / "warehouse" / "log.sqlite")
        live.send(live.track("Page Viewed", "L1", "a-1"))
        live.log.close()
        process = child(live, pickled, point)
        _, said = process.communicate(timeout=120)
        assert process.returncode == 137, f"{point} was never passed: {said[-2000:]}"
    live.log = SqliteLog(live.folder / "warehouse" / "log.sqlite")
    holds(live)


@pytest.mark.slow
@pytest.mark.timeout(3_600)
def test_random_kills(live_home: Path, tmp_path: Path) -> None:
    chosen = random.Random(5)
    live, pickled = prepared(live_home, tmp_path / "shop")
    for _ in range(100):
        live.log = SqliteLog(live.folder / "warehouse" / "log.sqlite")
        live.send(
            *(live.track("Page Viewed", f"L{chosen.randrange(9)}", f"b-{chosen.randrange(5)}") for _ in range(20))
        )
        live.log.close()
        process = child(live, pickled, seconds=600)
        time.sleep(chosen.uniform(0.3, 3.0))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    live.log = SqliteLog(live.folder / "warehouse" / "log.sqlite")
    holds(live)
