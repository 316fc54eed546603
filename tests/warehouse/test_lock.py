"""One command at a time: the second is told who holds the lock, and a dead holder holds nothing."""

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from headwater.errors import Busy
from headwater.warehouse.lock import project_lock

HOLD = """
import sys, time
from pathlib import Path
from headwater.warehouse.lock import project_lock
with project_lock(Path(sys.argv[1]), "headwater build"):
    print("held", flush=True)
    sys.stdin.read()
"""


def hold(folder: Path) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout and child.stdout.readline() == "held\n"
    return child


def test_the_second_command_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    child = hold(tmp_path)
    try:
        with (
            pytest.raises(
                Busy, match=rf"`headwater build` \(process {child.pid}, since .*holds this project; waited 0 s"
            ),
            project_lock(tmp_path, "headwater run", wait_seconds=0),
        ):
            pass
    finally:
        child.communicate("")


def test_the_second_command_waits_for_the_first(tmp_path: Path) -> None:
    child = hold(tmp_path)
    ending = threading.Timer(0.2, child.communicate, [""])
    ending.start()
    with project_lock(tmp_path, "headwater run", wait_seconds=30):
        pass
    ending.join()


def test_a_killed_holder_leaves_the_project_free(tmp_path: Path) -> None:
    child = hold(tmp_path)
    child.kill()
    child.communicate()
    with project_lock(tmp_path, "headwater run", wait_seconds=10):
        pass
