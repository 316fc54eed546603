"""Fixtures of the live tests: a shop whose models are built once for the whole session."""

import os
from collections.abc import Iterator
from pathlib import Path

import live_shop
import pytest
import retail_shop
from filelock import FileLock
from live_shop import Live


@pytest.fixture(scope="session")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built shop. Read only: `live_shop.copy` it."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "live"
    home.mkdir(exist_ok=True)
    with FileLock(home / ".lock"):
        if not (home / "built").exists():
            live_shop.build(home / "shop")
            (home / "built").touch()
    return home / "shop"


@pytest.fixture
def live(live_home: Path, tmp_path: Path) -> Iterator[Live]:
    """An engine over a shop of its own, at 2026-06-30 00:00 UTC."""
    opened = Live(live_shop.copy(live_home, tmp_path / "shop"))
    yield opened
    opened.close()


@pytest.fixture(scope="session")
def retail_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the built project of the online retailer. Read only: `retail_shop.Retail` copies it."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "retail"
    home.mkdir(exist_ok=True)
    with FileLock(home / ".lock"):
        if not (home / "built").exists():
            retail_shop.build(home / "shop")
            (home / "built").touch()
    return home / "shop"
