"""From a real Postgres through Debezium, the log and the engine to the data products and back into Postgres, killed all the way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest
import retail_oracle

from headwater.clock import SystemClock
from headwater.collect.databases import debezium
from headwater.collect.databases.state import Place
from headwater.live import project as projects
from headwater.live.verify import check
from headwater.stack import Stack
from headwater.testing.feed import DATABASE, Feed, load, prepare, run
from headwater.testing.postgres import Server

pytestmark = pytest.mark.cdc
PLANTED = "planted.address@customers.example"


def until(true: Callable[[], Any], what: Callable[[], str], seconds: float = 120) -> Any:
    """Wait for a condition; its value."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(psycopg.errors.UndefinedTable):
            if found := true():
                return found
        time.sleep(0.1)
    raise AssertionError(what())


class Running:
    """`headwater up` in a project, as a user would have it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._said = folder.parent / "up.txt"
        self.start()

    def start(self) -> None:
        with self._said.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headwater", "up"],
                cwd=self.folder,
                env=self._environment,
                stdout=out,
                stderr=out,
            )

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(60)

    @property
    def said(self) -> str:
        return self._said.read_text()[-4_000:]

    def follower(self, other_than: int = 0) -> int | None:
        """The process that follows the database, once it does so."""
        note = Place(self.folder, "retail").note()
        return note.pid if note is not None and note.phase == "streaming" and note.pid not in (0, other_than) else None

    def collector(self) -> int | None:
        """The collector's process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if "collector" in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                return int(child)
        return None


@pytest.fixture
def running(retail_home: Path, logical_postgres: Server, tmp_path: Path) -> Iterator[tuple[Running, Server]]:
    if lacking := debezium.missing():
        pytest.skip(lacking)
    addresses = prepare(logical_postgres)
    with psycopg.connect(logical_postgres.address(DATABASE), autocommit=True) as shop:
        load(shop)
        retail_oracle.install(shop)
    folder = tmp_path / "shop"
    shutil.copytree(retail_home, folder)
    settings = folder / "headwater.yml"
    text = settings.read_text().replace("port: 8787", "port: 0")
    # the shop loses a quarter of its customers in a minute, which would rightly be stopped
    settings.write_text(text.replace("mode: mirror", "max_removal_share: 1\n    mode: mirror"))
    with Stack(folder) as stack:  # the clock of the built project is that of other tests
        stack.warehouse.execute("update headwater.clock set as_of = timestamp '2000-01-01'")
    one = Running(folder, {**os.environ, **addresses})
    yield one, logical_postgres
    one.stop()


def kill_each(up: Running, shop: "psycopg.Connection[Any]", last: int) -> int:
    """Kill what follows the database, the collector and the engine, in the midst of orders; the first one's process."""
    follower = until(lambda: up.follower(other_than=last), lambda: up.said)
    before = shop.execute("select count(*) from orders").fetchone()
    until(lambda: shop.execute("select count(*) from orders").fetchone() != before, lambda: "no orders")
    os.kill(follower, signal.SIGKILL)
    os.kill(until(up.collector, lambda: up.said), signal.SIGKILL)
    again = until(lambda: up.follower(other_than=follower), lambda: up.said)
    up.kill()
    up.start()
    return again


def test_the_products_are_those_of_the_database_whatever_is_killed(running: tuple[Running, Server]) -> None:
    up, server = running
    shop = psycopg.connect(server.address(DATABASE), autocommit=True)
    analytics = psycopg.connect(server.address("analytics"), autocommit=True)

    def sunk(connection: "psycopg.Connection[Any]", product: str) -> list[tuple[Any, ...]]:
        rows = connection.execute(f"select {retail_oracle.COLUMNS[product]} from {product}".encode()).fetchall()
        return retail_oracle.plain(rows)

    def caught_up() -> bool:
        snapshot, sales = "thirty_day_customer_snapshot", "product_sales"
        return sunk(shop, snapshot) == retail_oracle.expected(shop, snapshot) and sunk(
            analytics, sales
        ) == retail_oracle.expected(shop, sales)

    def why() -> str:
        if analytics.execute("select to_regclass('product_sales')").fetchone() == (None,):
            return f"nothing was delivered\n{up.said}"
        expected, found = (
            set(rows(s, "product_sales")) for rows, s in ((retail_oracle.expected, shop), (sunk, analytics))
        )
        return f"{sorted(expected - found)[:3]} missing, {sorted(found - expected)[:3]} too many\n{up.said}"

    until(caught_up, why, 200)
    feed = Feed(psycopg.connect(server.address(DATABASE), autocommit=True), seed=5)
    shop.execute("insert into customers values (999, 'Planted', %s, 'New', 'A1', 'A2')", [PLANTED])
    stopping = threading.Event()
    orders = threading.Thread(target=run, args=(feed, 20, stopping))
    orders.start()
    try:
        follower = 0
        for _ in range(3):
            follower = kill_each(up, shop, follower)
    finally:
        stopping.set()
        orders.join()
    shop.execute("update products set price = price + 1 where productid < 20")
    shop.execute("insert into customers values (5001, 'Renamed', 'renamed@customers.example', 'New', 'A1', 'A2')")
    shop.execute("update customers set customerid = 5002 where customerid = 5001")
    until(caught_up, why, 200)
    up.stop()
    assert up.process.returncode == 0, up.said
    with Stack(up.folder, clock=SystemClock()) as stack:
        w = stack.warehouse
        for product, columns in retail_oracle.COLUMNS.items():
            if product != "thirty_day_customer_snapshot":  # its window goes on while nobody looks
                rows = w.execute(f"select {columns} from main.{product}").fetchall()
                assert retail_oracle.plain(rows) == retail_oracle.expected(shop, product), product
        wrong = [one for one in check(w, projects.load(w, stack.dbt)) if not one.clean or one.late or one.stale]
        assert wrong == []
        for table in ("customers", "addresses", "products", "orders", "order_items"):
            count = shop.execute(f"select count(*) from {table}".encode()).fetchone()
            assert w.execute(f"select count(*) from landed.retail__{table}").fetchone() == count
        assert w.value("select count(*) from headwater.rejected_events") == 0
        position = json.loads(w.value("select position from headwater.clock"))
        assert position["changes"] == stack.open_log().end("changes")
    assert feed.done["order"] > 20
    holding = [path for path in up.folder.rglob("*") if path.is_file() and PLANTED.encode() in path.read_bytes()]
    assert holding == []
    for connection in (shop, analytics, feed.connection):
        connection.close()
