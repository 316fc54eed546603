"""A collector that refuses now and then as a busy one does, what it kept, and what lands of that; and the JavaScript SDKs."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from filelock import FileLock

from headwater.clock import SystemClock, naive_utc
from headwater.errors import LogFull, LogUnavailable, Overloaded
from headwater.live.landing import Landing
from headwater.log.memory import MemoryLog
from headwater.records.logged import Entry
from headwater.warehouse import Warehouse

LOCKED = Path(__file__).parents[1] / "sdks"


class MoodyLog(MemoryLog):
    """Refuses its first appends, one after the other, as the moods say.

    full: no room (503) · busy: too much waits (429) · lost: kept, and then it cannot say so (503), so that the sender sends
    again what is in the log already.
    """

    def __init__(self, moods: Sequence[str]) -> None:
        super().__init__()
        self.moods = list(moods)

    def append(self, entries: Sequence[Entry]) -> None:
        mood = self.moods.pop(0) if self.moods else "fine"
        if mood == "full":
            raise LogFull("there is no room in the log of this test")
        if mood == "busy":
            raise Overloaded("too much is waiting in this test")
        super().append(entries)
        if mood == "lost":
            raise LogUnavailable("the log of this test forgot to answer")


def landed(log: MemoryLog) -> list[str]:
    """The message ids that end in the warehouse when the engine has read the log, in order, repeats dropped."""
    with Warehouse(":memory:") as warehouse:
        landing = Landing(warehouse)
        with warehouse.transaction():
            landing.land(log.read("events", 0, 100_000), naive_utc(SystemClock().now()))
        tables = ("events", "identifies", "aliases")
        union = " union all ".join(f"select event_id, position from collected.{table}" for table in tables)
        return [row["event_id"] for row in warehouse.rows(f"select event_id from ({union}) order by position")]


def sdks() -> Path:
    """The folder with `node_modules` of Segment's SDKs in their locked versions; fetched on first use, kept for the next.

    It is in the user's cache, or in the folder that HEADWATER_SDKS names.
    """
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("Node is not installed: `apt-get install -y nodejs npm`")
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headwater" / "sdks"
    home = Path(os.environ.get("HEADWATER_SDKS") or cache)
    digest = hashlib.sha256((LOCKED / "package-lock.json").read_bytes()).hexdigest()[:12]
    folder = home / digest
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(home / f"{digest}.lock"):
        if not (folder / "complete").exists():
            for name in ("package.json", "package-lock.json"):
                shutil.copy(LOCKED / name, folder / name)
            done = subprocess.run(
                ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"],
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, f"npm cannot fetch the SDKs: {done.stderr[-2_000:]}"
            (folder / "complete").touch()
    return folder
