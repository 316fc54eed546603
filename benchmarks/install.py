"""The size of the core install: every package of requirements/core.txt and Headwater itself, in a new environment."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from benchmarks.row import Measured, children_peak_mb, seconds

ROOT = Path(__file__).resolve().parents[1]
MEGABYTES = 450


def uv() -> str:
    """The uv that the Makefile uses."""
    return str((ROOT / (os.environ.get("UV") or shutil.which("uv") or ".bootstrap/bin/uv")).absolute())


def core(work: Path) -> Measured:
    """Installs with hashes, as `make setup` does. Seconds are those of the install; the bar is about the megabytes."""
    venv = work / "core"

    def run(*arguments: str) -> None:
        subprocess.run([uv(), *arguments], check=True, capture_output=True, text=True)

    def install() -> None:
        run("venv", "--python", sys.executable, str(venv))
        python = str(venv / "bin" / "python")
        requirements = str(ROOT / "requirements" / "core.txt")
        run("pip", "install", "--link-mode", "copy", "--require-hashes", "--python", python, "-r", requirements)
        run("pip", "install", "--link-mode", "copy", "--no-deps", "--python", python, str(ROOT))

    took = seconds(install)
    megabytes = sum(f.lstat().st_blocks * 512 for f in venv.rglob("*") if not f.is_symlink()) / 1e6
    packages = len(list((venv / "lib").rglob("*.dist-info")))
    shutil.rmtree(venv)
    size = f"{megabytes:.0f} MB, {packages} packages"
    return Measured(size, took, children_peak_mb(), took * MEGABYTES / megabytes, megabytes <= MEGABYTES)
