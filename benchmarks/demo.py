"""`make demo` in a fresh copy of the tree: environment, shop, the whole loop, report. The package cache is warm."""

import shutil
import subprocess
from pathlib import Path

from benchmarks.install import ROOT, uv
from benchmarks.row import Measured, children_peak_mb, seconds

LIMIT = 60.0


def warm_cache(folder: Path) -> None:
    """Installs once, so that every package is in the cache."""
    _copy(folder / "tree")
    _make(folder / "tree", "setup")
    shutil.rmtree(folder / "tree")


def demo(work: Path) -> Measured:
    tree = work / "demo"
    _copy(tree)
    took = seconds(lambda: _make(tree, "demo"))
    report = tree / "shop" / "bi" / "report.html"
    kilobytes = report.stat().st_size / 1_000
    shutil.rmtree(tree)
    return Measured(f"a fresh copy; report of {kilobytes:,.0f} kB", took, children_peak_mb(), LIMIT, took < LIMIT)


def _copy(to: Path) -> None:
    """What git would clone, with the changes that are not committed yet."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)


def _make(tree: Path, target: str) -> None:
    subprocess.run(["make", target, f"UV={uv()}"], cwd=tree, check=True, capture_output=True, text=True)
