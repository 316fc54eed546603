"""Writes the table of results.json into docs/benchmarks.md, with date and machine: `python -m benchmarks.page`."""

import json
import os
import platform
from pathlib import Path

from benchmarks.__main__ import COLUMNS, RESULTS, cell
from benchmarks.registry import BENCHES
from headwater.clock import SystemClock

PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: results -->", "<!-- end: results -->"


def main() -> None:
    before, _, rest = PAGE.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n\n{_machine()}\n\n{_table()}\n\n{END}{after}", encoding="utf-8")


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


def _table() -> str:
    """Every row of the registry in its order; one that was not measured in this run says so."""
    measured = {row["name"]: row for row in json.loads(RESULTS.read_text(encoding="utf-8"))}
    lines: list[str] = [" | ".join(COLUMNS), " | ".join("---" for _ in COLUMNS)]
    for name in BENCHES:
        row = measured.get(name)
        rest = [cell(row[c]) for c in COLUMNS[1:]] if row else ["not measured in this run", *[""] * (len(COLUMNS) - 2)]
        lines.append(" | ".join([f"`{name}`", *rest]))
    return "\n".join(f"| {line} |" for line in lines)


if __name__ == "__main__":
    main()
