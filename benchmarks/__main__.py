"""`make bench`: run the rows, print the table, write results.json.

ONLY=name runs one row (and its inputs), ONLY='peers_*_5m' all that match; FULL=1 the large rows too. Exit code 1 when a row could not be run; a row that
misses its bar is said in the table and under it, and is no failure of the bench.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.registry import BENCHES

HERE = Path(__file__).parent
RESULTS = HERE / "results.json"
WORK = HERE / "work"
COLUMNS = ("name", "size", "seconds", "peak_mb", "bound", "ratio", "bar", "ok")


def main() -> int:
    only, full = os.environ.get("ONLY"), os.environ.get("FULL") == "1"
    console = Console()
    console = console if console.is_terminal else Console(width=150)
    names = [name for name, bench in BENCHES.items() if (fnmatchcase(name, only) if only else full or not bench.large)]
    if not names:
        console.print(f"ONLY: found {only!r}; the rows are {', '.join(BENCHES)}")
        return 2
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir()
    started = time.monotonic()
    rows, broken = [], []
    try:
        for name in names:
            try:
                rows.append(_row(name, console))
            except subprocess.CalledProcessError as error:
                broken.append(name)
                console.print(f"{name} could not be run:\n{error.stderr.strip()[-2_000:]}", style="red", markup=False)
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
    RESULTS.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    console.print(table(rows))
    missed = [row["name"] for row in rows if not row["ok"]]
    said = [f"{len(rows)} rows in {time.monotonic() - started:.0f} s, written to {RESULTS.parent.name}/{RESULTS.name}"]
    said += [f"below the bar: {', '.join(missed)}" if missed else "every bar that was measured is met"]
    said += [f"could not be run: {', '.join(broken)}"] if broken else []
    console.print("; ".join(said))
    return 1 if broken else 0


def _row(name: str, console: Console) -> dict[str, Any]:
    bench = BENCHES[name]
    for needed in bench.inputs:
        if not (WORK / needed).exists():
            with console.status(f"making {needed}"):
                try:
                    _child("input", needed)
                except subprocess.CalledProcessError:
                    shutil.rmtree(WORK / needed, ignore_errors=True)
                    raise
    with console.status(f"measuring {name}"):
        found = json.loads(_child("row", name).splitlines()[-1])
    row = {**found, "name": name, "bar": bench.bar}
    return {column: row[column] for column in COLUMNS} | ({"facts": found["facts"]} if found["facts"] else {})


def _child(kind: str, name: str) -> str:
    """Its environment is this one's, but for the wish to compile every import anew, which no user has."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.child", kind, name, str(WORK)],
        cwd=HERE.parent, env=environment, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def table(rows: list[dict[str, Any]]) -> Table:
    """The rows as a table for the screen."""
    shown = Table(title="Headwater, measured")
    for column in COLUMNS:
        number = column in ("seconds", "peak_mb", "bound", "ratio")
        shown.add_column(column, justify="right" if number else "left", no_wrap=number or column == "name")
    for row in rows:
        shown.add_row(*(cell(row[column]) for column in COLUMNS), style=None if row["ok"] else "red")
    return shown


def cell(value: Any) -> str:
    """A value as the table shows it."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return str(value)


if __name__ == "__main__":
    sys.exit(main())
