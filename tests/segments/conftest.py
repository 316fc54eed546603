"""Fixtures of the segment tests."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater.clock import FixedClock
from headwater.warehouse.connection import Warehouse


@pytest.fixture
def warehouse(tmp_path: Path) -> Iterator[Warehouse]:
    """An empty warehouse with its ledgers."""
    with Warehouse(tmp_path / "shop.duckdb") as opened:
        yield opened


@pytest.fixture
def clock() -> FixedClock:
    """The wall clock of the tests: 2026-07-01 06:00 UTC."""
    return FixedClock(datetime(2026, 7, 1, 6, tzinfo=UTC))
