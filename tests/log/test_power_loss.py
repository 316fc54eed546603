"""What was acknowledged survives a loss of power: the writes that were not synced are taken away, all or in parts."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from headwater.errors import LogUnavailable
from headwater.log.sqlite import SqliteLog

CHILD = Path(__file__).parent / "power_child.py"


def outages(folder: Path, synchronous: str, seed: int) -> list[dict[str, Any]]:
    done = subprocess.run(
        [sys.executable, str(CHILD), str(folder), synchronous, str(seed)], capture_output=True, text=True, check=True
    )
    said = json.loads(done.stdout)
    if "skipped" in said:
        pytest.skip(said["skipped"])
    return said["outages"]


def lost(outage: dict[str, Any]) -> int:
    """How many acknowledged entries are not in what is left (all of them when it cannot even be read)."""
    expected = outage["acknowledged"]
    try:
        with SqliteLog(Path(outage["folder"]) / "log.sqlite") as log:
            kept = [record.message_id for record in log.read("events", 0, expected + 10)]
    except LogUnavailable:
        return expected
    return len({f"m{number}" for number in range(expected)} - set(kept))


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_nothing_acknowledged_is_lost_with_the_power(seed: int, tmp_path: Path) -> None:
    found = outages(tmp_path, "full", seed)
    assert found[-1]["acknowledged"] > 1_000
    assert [lost(outage) for outage in found] == [0] * len(found)


@pytest.mark.parametrize("synchronous", ["off", "normal"])
def test_the_outage_is_real_without_syncs_entries_are_lost(synchronous: str, tmp_path: Path) -> None:
    found = outages(tmp_path, synchronous, 1)
    assert sum(lost(outage) > 0 for outage in found) > len(found) / 2
