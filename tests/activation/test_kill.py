"""A process killed at any moment of a delivery, for real, then the same command again: the destination ends as if nothing
had happened, nobody is contacted twice, nothing is lost."""

import copy
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import killed
import pytest
from receiver import Receiver, receiving

from headwater.activation.settings import DestinationSettings
from headwater.warehouse import Warehouse

ROWS = 20
MODE = "mirror"
CLAIM_ROWS = 8
POINTS = {
    "files": [
        "activate.planned",
        "activate.claimed",
        "activate.file_written:2",
        "activate.answered",
        "activate.sent",
        "activate.recorded",
        "activate.finished",
    ],
    "webhook": [
        "activate.planned",
        "activate.claimed:2",
        "activate.answered:3",
        "activate.sent:2",
        "activate.recorded",
        "activate.recorded:2",
        "activate.finished",
    ],
}


def start(
    folder: Path, destination: DestinationSettings, failpoint: str = "", *, decisions: bool = True
) -> subprocess.Popen[str]:
    """The activation as a child process; it ends with 137 at the failpoint."""
    told = {"destination": destination.model_dump(), "mode": MODE, "claim_rows": CLAIM_ROWS, "decisions": decisions}
    return subprocess.Popen(
        [sys.executable, str(Path(killed.__file__)), str(folder), json.dumps(told)],
        env={**os.environ, "HEADWATER_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Files:
    """The outbox on the disk."""

    kind = "files"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = DestinationSettings(type="files", options={"format": "json"})

    def rows(self) -> list[tuple[str, str, str]]:
        """Operation, key and id of every row in every file; a file that is not complete does not parse."""
        return [
            (row["operation"], row["key"], row["operation_id"])
            for path in sorted(self.folder.glob("outbox/people/*.json"))
            for row in json.loads(path.read_text())
        ]

    def state(self) -> object:
        return sorted(self.rows())

    def repeated(self) -> list[object]:
        return [row for row, number in Counter(self.rows()).items() if number > 1]


class Http:
    """A receiver that acts once per operation id."""

    kind = "webhook"

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.settings = DestinationSettings(type="webhook", options={"url": receiver.url, "concurrency": 2})

    def state(self) -> object:
        return {"rows": self.receiver.rows, "acted": sorted(self.receiver.acted)}

    def repeated(self) -> list[object]:
        return [one for one, number in Counter(self.receiver.acted).items() if number > 1]


def contacts(folder: Path) -> list[tuple[str, int]]:
    with Warehouse(folder / "shop.duckdb") as warehouse:
        assert warehouse.value("select count(*) from headwater.outbox where state <> 'done'") == 0
        return warehouse.execute("select decision_id, count(*) from main.contacts group by 1 order by 1").fetchall()


def make(kind: str, folder: Path, server: Receiver) -> Files | Http:
    return Files(folder) if kind == "files" else Http(server)


@pytest.fixture(scope="module")
def server():
    with receiving(Receiver()) as receiver:
        yield receiver


@dataclass
class Calm:
    """An undisturbed delivery of both versions of the model, and how things stood after the first."""

    folder: Path
    rows: dict[str, dict[str, str]]
    acted: list[str]
    state: object
    contacts: list[tuple[str, int]]

    def begin(self, kind: str, folder: Path, server: Receiver) -> Files | Http:
        """A destination to which version 1 was delivered, and a model that is at version 2."""
        shutil.copytree(self.folder, folder)
        server.rows, server.acted = copy.deepcopy(self.rows), list(self.acted)
        killed.build(folder, ROWS, 2)
        return make(kind, folder, server)


@pytest.fixture(scope="module", params=["files", "webhook"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def calm(kind, server, tmp_path_factory):
    folder = tmp_path_factory.mktemp("calm")
    work = folder / "work"
    work.mkdir()
    server.rows, server.acted = {}, []
    destination = make(kind, work, server)
    killed.build(work, ROWS, 1)
    killed.run(work, destination.settings, MODE, CLAIM_ROWS)
    shutil.copytree(work, folder / "after1")
    after = (copy.deepcopy(server.rows), list(server.acted))
    killed.build(work, ROWS, 2)
    killed.run(work, destination.settings, MODE, CLAIM_ROWS)
    return Calm(folder / "after1", *after, copy.deepcopy(destination.state()), contacts(work))


@pytest.mark.parametrize("number", range(7))
def test_killed_at_a_failpoint(kind, number, calm, server, tmp_path):
    point = POINTS[kind][number]
    wild = calm.begin(kind, tmp_path / "wild", server)
    child = start(tmp_path / "wild", wild.settings, point)
    _, errors = child.communicate(timeout=60)
    assert child.returncode == 137, f"the process did not come to {point}: {errors}"
    killed.run(tmp_path / "wild", wild.settings, MODE, CLAIM_ROWS)
    assert wild.state() == calm.state
    assert wild.repeated() == []
    assert contacts(tmp_path / "wild") == calm.contacts


def test_every_failpoint_of_activation_is_killed_at():
    from headwater.failpoint import NAMES

    declared = {name for name in NAMES if name.startswith("activate.")}
    assert declared == {point.partition(":")[0] for points in POINTS.values() for point in points}


@pytest.mark.slow
@pytest.mark.timeout(1_800)
def test_killed_at_random_moments(kind, calm, server, tmp_path):
    """50 kills (SIGKILL), at moments drawn from a seed, before the command may end."""
    draw = random.Random(7)
    wild = calm.begin(kind, tmp_path / "wild", server)
    for _ in range(50):
        child = start(tmp_path / "wild", wild.settings)
        child.stdout.readline()
        time.sleep(draw.uniform(0, 0.3))
        child.send_signal(signal.SIGKILL)
        child.communicate()
    killed.run(tmp_path / "wild", wild.settings, MODE, CLAIM_ROWS)
    assert wild.state() == calm.state
    assert wild.repeated() == []
    assert contacts(tmp_path / "wild") == calm.contacts
