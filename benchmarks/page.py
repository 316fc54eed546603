"""Writes the tables of results.json into docs/benchmarks.md, with date and machine: `python -m benchmarks.page`."""

import json
import os
import platform
from pathlib import Path
from typing import Any

from benchmarks.__main__ import COLUMNS, RESULTS, cell
from benchmarks.peers.rows import side_by_side
from benchmarks.registry import BENCHES
from headwater.clock import SystemClock

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"


def main() -> None:
    rows = json.loads(RESULTS.read_text(encoding="utf-8"))
    page = _put(PAGE.read_text(encoding="utf-8"), "results", f"{_machine()}\n\n{_table(rows)}")
    if any("facts" in row for row in rows):
        page = _put(page, "side by side", f"{_machine()}\n\n{side_by_side(rows)}")
    PAGE.write_text(page, encoding="utf-8")


def _put(page: str, part: str, text: str) -> str:
    """The page with this text between the marks of a part."""
    begin, end = f"<!-- begin: {part} -->", f"<!-- end: {part} -->"
    before, _, rest = page.partition(begin)
    return f"{before}{begin}\n\n{text}\n\n{end}{rest.partition(end)[2]}"


def _machine() -> str:
    processor = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.processor(),
    )
    memory = next((int(line.split()[1]) / 1e6 for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0.0)
    return (
        f"Measured on {SystemClock().now():%Y-%m-%d}: {os.cpu_count()} cores ({processor}), {memory:.0f} GB of memory, "
        f"{platform.system()}, Python {platform.python_version()}."
    )


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8").splitlines() if Path(path).exists() else []


def _table(rows: list[dict[str, Any]]) -> str:
    """Every row of the registry in its order; one that was not measured in this run says so."""
    measured = {row["name"]: row for row in rows}
    lines: list[str] = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for name in BENCHES:
        row = measured.get(name)
        rest = [cell(row[c]) for c in COLUMNS[1:]] if row else ["not measured in this run", *[""] * (len(COLUMNS) - 2)]
        lines.append(" | ".join([f"`{name}`", *rest]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
