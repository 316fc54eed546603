"""A child on a leash ends with its parent, however the parent ends."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from headwater.leash import VARIABLE, Leashed

CHILD = """
import sys, threading
from pathlib import Path
from headwater import leash
if sys.argv[2] == "held":
    leash.hold()
Path(sys.argv[1]).write_text("up")
threading.Event().wait(60)
"""
PARENT = """
import os, sys, threading
from headwater.leash import Leashed
child = []
thread = threading.Thread(target=lambda: child.append(Leashed([sys.executable, *sys.argv[1:]], env=os.environ)))
thread.start()
thread.join()  # the thread that started the child is gone, and the child must not mind
print(child[0].pid, flush=True)
threading.Event().wait(60)
"""


def until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def family(tmp_path: Path):
    """Starts a parent with a child, and knows both process ids; nothing is left of them afterwards."""
    started: list[int] = []

    def start(how: str) -> tuple[subprocess.Popen[str], int]:
        mark = tmp_path / how
        parent = subprocess.Popen(
            [sys.executable, "-c", PARENT, "-c", CHILD, str(mark), how], stdout=subprocess.PIPE, text=True
        )
        assert parent.stdout is not None
        with parent.stdout:
            child = int(parent.stdout.readline())
        started.extend([parent.pid, child])
        until(mark.exists)
        return parent, child

    yield start
    for pid in started:
        if alive(pid):
            os.kill(pid, 9)


def test_a_child_ends_when_its_parent_is_killed(family) -> None:
    parent, child = family("held")
    assert alive(child)
    parent.kill()
    parent.wait()
    until(lambda: not alive(child))


def test_without_holding_the_leash_it_would_live_on(family) -> None:
    held_parent, held = family("held")
    loose_parent, loose = family("loose")
    loose_parent.kill()
    loose_parent.wait()
    held_parent.kill()
    held_parent.wait()
    until(lambda: not alive(held))
    assert alive(loose)


def test_a_child_that_will_not_stop_is_killed_and_the_pipe_given_back() -> None:
    deaf = "import signal, sys, threading; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); threading.Event().wait(60)"
    child = Leashed([sys.executable, "-c", deaf], env=os.environ, stdout=subprocess.PIPE)
    assert child.stdout is not None
    with child.stdout:
        assert child.stdout.readline() == b"up\n"
        before = len(list(Path("/proc/self/fd").iterdir())) if Path("/proc/self/fd").exists() else 0
        child.stop(0.2)
        assert child.returncode == -9
        if before:
            assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
    child.stop(0.2)


def test_what_a_child_starts_itself_is_not_told_of_the_leash() -> None:
    code = "import os; from headwater import leash; leash.hold(); print(os.environ.get('" + VARIABLE + "'))"
    child = Leashed([sys.executable, "-c", code], env=os.environ, stdout=subprocess.PIPE)
    out, _ = child.communicate(timeout=60)
    child.let_go()
    assert out == b"None\n"
