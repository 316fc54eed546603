"""kill -9 at every failpoint and at random moments: what was acknowledged is there, once, in its order."""

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.failpoint import NAMES
from headwater.log.sqlite import SqliteLog

WRITER = Path(__file__).parent / "log_writer.py"
POINTS = [name for name in NAMES if name.startswith("log.")]


class Project:
    """A log that is written by one child after the other."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "log.sqlite"
        self.start = 0
        self.acknowledged: set[int] = set()

    def write(self, failpoint: str | None = None, lines: int | None = None) -> int:
        """Let a child write until its failpoint, or kill it after so many answers; how many answers it gave."""
        environment = {**os.environ, "HEADWATER_FAILPOINT": failpoint or ""}
        answers = 0
        with subprocess.Popen(
            [sys.executable, str(WRITER), str(self.path), str(self.start)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        ) as child:  # fmt: skip
            assert child.stdout is not None
            assert child.stderr is not None
            for line in child.stdout:
                number = int(line.split()[1])
                self.acknowledged.update(range(number - 3, number))
                answers += 1
                if answers == (lines or 3_000):
                    child.kill()
            assert child.wait() == (-9 if lines else 137), f"{failpoint} was not passed: {child.stderr.read()}"
        self.start += 10_000_000
        return answers

    def check(self) -> None:
        with SqliteLog(self.path) as log:
            found: list[tuple[str, int]] = []
            after = 0
            while more := log.read("events", after, 10_000):
                found += [(record.key, int(record.message_id[1:])) for record in more]
                after = more[-1].offset
        numbers = [number for _, number in found]
        assert self.acknowledged <= set(numbers), f"lost: {sorted(self.acknowledged - set(numbers))[:10]}"
        assert len(numbers) == len(set(numbers)), "an entry is there twice"
        calls: dict[tuple[str, int], list[int]] = {}
        for key, number in found:
            calls.setdefault((key, number // 10_000_000), []).append(number)
        for (key, _), own in calls.items():
            if key.startswith("lane"):
                assert own == sorted(own)
                assert len(own) % 3 == 0, "half a call was kept"


@pytest.mark.parametrize("name", POINTS)
def test_nothing_acknowledged_is_lost_at_a_failpoint(name: str, tmp_path: Path) -> None:
    project = Project(tmp_path)
    project.write(f"{name}:1")
    project.write(f"{name}:3")
    project.check()


@pytest.mark.parametrize("seed", [1])
def test_nothing_acknowledged_is_lost_at_random_moments(seed: int, tmp_path: Path) -> None:
    moments = random.Random(seed)
    project = Project(tmp_path)
    for _ in range(5):
        project.write(lines=moments.randint(1, 120))
        project.check()
    assert len(project.acknowledged) > 100


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(4))
def test_nothing_acknowledged_is_lost_at_many_random_moments(seed: int, tmp_path: Path) -> None:
    moments = random.Random(seed)
    project = Project(tmp_path)
    for _ in range(50):
        project.write(lines=moments.randint(1, 1_000))
        project.check()
