"""The synthetic shop: made in numpy, written as ten Parquet files."""

import shutil
from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater.testing.shop import Shop

ROWS_A_SECOND = 1_000_000


def files_100k(folder: Path) -> None:
    """A shop of 100,000 customers and about a million order lines."""
    Shop(customers=100_000).write(folder)


def files_1m(folder: Path) -> None:
    """A shop of a million customers and about ten million order lines."""
    Shop(customers=1_000_000).write(folder)


def generate_100k(work: Path) -> Measured:
    return _generate(work, 100_000)


def generate_1m(work: Path) -> Measured:
    return _generate(work, 1_000_000)


def _generate(work: Path, customers: int) -> Measured:
    folder = work / f"generated_{customers}"
    Shop(customers=100).write(folder)  # imports and DuckDB's start are not the shop's
    counts: dict[str, int] = {}
    took = seconds(lambda: counts.update(Shop(customers=customers).write(folder)))
    shutil.rmtree(folder)
    rows = sum(counts.values())
    bound = rows / ROWS_A_SECOND
    return Measured(f"{rows:,} rows, {counts['order_lines']:,} order lines", took, peak_mb(), bound, took <= bound)
