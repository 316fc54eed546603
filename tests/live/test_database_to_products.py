"""From a real Postgres through Debezium, the log and the engine to the data products and back into Postgres, killed all the way.

The log begins as the project's file and is moved to a real Kafka while the shop goes on selling.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import retail_oracle
import yaml

from headwater.clock import CLOCK_FILE, FileClock, SystemClock
from headwater.collect.databases import debezium
from headwater.collect.databases.state import Place
from headwater.live import project as projects
from headwater.live.verify import check
from headwater.stack import Stack
from headwater.testing import kafka, postgres
from headwater.testing.feed import DATABASE, Feed, load, prepare, run

pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")
pytestmark = [pytest.mark.cdc, pytest.mark.timeout(600)]
JARS = Path(__file__).resolve().parents[2] / ".kafka"
PLANTED, SEEN = "planted.address@customers.example", "Plantedname"
DURABLE = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


def until(true: Callable[[], Any], what: Callable[[], str], seconds: float = 120) -> Any:
    """Wait for a condition; its value. What a server that was killed refuses is asked again."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(psycopg.errors.UndefinedTable, psycopg.OperationalError):
            if found := true():
                return found
        time.sleep(0.25)
    raise AssertionError(what())


class Servers:
    """A Postgres and a broker, each with a folder and a port that stay its own however often it is killed."""

    def __init__(self, folder: Path, home: Path) -> None:
        """`folder`: of Postgres, which may run as another user; `home`: of the broker."""
        self._folder, self._home = folder, home
        self._running = {"postgres": ExitStack(), "kafka": ExitStack()}
        self.postgres = self._running["postgres"].enter_context(postgres.server(folder, settings=DURABLE))
        self.broker = self._running["kafka"].enter_context(kafka.broker(home, JARS))

    def kill(self) -> None:
        """Both at once, without a word, and both again on what is on their disks."""
        os.kill(self.postgres.pid, signal.SIGKILL)
        os.kill(int((self._home / "broker.pid").read_text()), signal.SIGKILL)
        for one in self._running.values():
            one.close()
        port = self.postgres.port
        self.postgres = self._running["postgres"].enter_context(
            postgres.server(self._folder, port=port, settings=DURABLE)
        )
        port = int(self.broker.rpartition(":")[2])
        self._running["kafka"].enter_context(kafka.broker(self._home, JARS, port=port))

    def close(self) -> None:
        for one in self._running.values():
            one.close()

    def connection(self, database: str = DATABASE) -> "psycopg.Connection[Any]":
        return psycopg.connect(self.postgres.address(database), autocommit=True)


class Orders(threading.Thread):
    """The shop: sells on, whatever happens to its database."""

    def __init__(self, servers: Servers) -> None:
        super().__init__()
        self._servers = servers
        self._stopping = threading.Event()
        self.lost = 0
        self.feed = Feed(servers.connection(), seed=5)

    def run(self) -> None:
        while not self._stopping.is_set():
            with suppress(psycopg.OperationalError):
                if self.feed.connection.closed:
                    self.feed.go_on(self._servers.connection())
                    self.lost += 1
                run(self.feed, 8, self._stopping)
            self._stopping.wait(0.1)

    def stop(self) -> None:
        self._stopping.set()
        self.join()
        self.feed.connection.close()


class Running:
    """`headwater up` in a project, as a user would have it."""

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self._environment = environment
        self._said = folder.parent / "up.txt"
        self.start()

    def start(self, **environment: str) -> None:
        with self._said.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "headwater", "up"],
                cwd=self.folder,
                env={**self._environment, **environment},
                stdout=out,
                stderr=out,
            )

    def type(self, *argv: str) -> str:
        """A command, typed in the project's folder; what it said."""
        command = [sys.executable, "-m", "headwater", *argv]
        done = subprocess.run(
            command, cwd=self.folder, env=self._environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

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

    def follower(self, since: datetime) -> int | None:
        """The process that follows the database, once it has taken something that was committed `since` then."""
        note = Place(self.folder, "retail").note()
        if note is None or note.phase != "streaming" or note.newest_at is None:
            return None
        return note.pid if datetime.fromisoformat(note.newest_at) > since else None

    def collector(self) -> int | None:
        """The collector's process."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        for child in children:
            if "collector" in Path(f"/proc/{child}/cmdline").read_text().split("\0"):
                return int(child)
        return None

    def into_kafka(self, broker: str) -> None:
        """Stop, go on with a log in Kafka, start: as the page of Kafka says."""
        self.stop()
        path = self.folder / "headwater.yml"
        settings = yaml.safe_load(path.read_text())
        settings["log"] = {"kind": "kafka", "kafka": {"bootstrap_servers": broker, "topic_prefix": "shop."}}
        path.write_text(yaml.safe_dump(settings))
        assert "the file is log.sqlite.moved now" in self.type("log", "move")
        self.start()


@pytest.fixture
def servers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Servers]:
    """Not below pytest's own folder: for root, Postgres is somebody else, who may not enter there."""
    monkeypatch.setenv("JAVA_TOOL_OPTIONS", kafka.QUICK)  # starts sooner, which is most of what happens here
    if lacking := debezium.missing() or kafka.found(JARS) or postgres.found():
        pytest.skip(lacking)
    with tempfile.TemporaryDirectory(prefix="headwater-postgres-") as folder:
        both = Servers(Path(folder), tmp_path / "kafka")
        yield both
        both.close()


@pytest.fixture
def up(retail_home: Path, servers: Servers, tmp_path: Path) -> Iterator[Running]:
    addresses = prepare(servers.postgres, source="retail")
    with servers.connection() as shop:
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
    yield one
    one.stop()


def kill_each(up: Running, servers: Servers) -> None:
    """Kill the database and the broker, and when changes flow again, what follows the database, the collector and the engine."""
    servers.kill()
    back = datetime.now(UTC)
    follower = until(lambda: up.follower(since=back), lambda: up.said)
    assert up.process.poll() is None, f"the engine did not wait for the broker\n{up.said}"
    os.kill(follower, signal.SIGKILL)
    os.kill(until(up.collector, lambda: up.said), signal.SIGKILL)
    up.kill()
    up.start()


def test_the_products_are_those_of_the_database_whatever_is_killed(
    up: Running, servers: Servers, tmp_path: Path
) -> None:
    def sunk(database: str, product: str) -> list[tuple[Any, ...]]:
        with servers.connection(database) as connection:
            rows = connection.execute(f"select {retail_oracle.COLUMNS[product]} from {product}".encode()).fetchall()
        return retail_oracle.plain(rows)

    def expected(product: str) -> list[tuple[Any, ...]]:
        with servers.connection() as shop:
            return retail_oracle.expected(shop, product)

    def caught_up() -> bool:
        snapshot, sales = "thirty_day_customer_snapshot", "product_sales"
        return sunk(DATABASE, snapshot) == expected(snapshot) and sunk("analytics", sales) == expected(sales)

    def why() -> str:
        with servers.connection("analytics") as analytics:
            if analytics.execute("select to_regclass('product_sales')").fetchone() == (None,):
                return f"nothing was delivered\n{up.said}"
        due, found = set(expected("product_sales")), set(sunk("analytics", "product_sales"))
        return f"{sorted(due - found)[:3]} missing, {sorted(found - due)[:3]} too many\n{up.said}"

    until(caught_up, why, 200)
    with servers.connection() as shop:
        shop.execute("insert into customers values (999, %s, %s, 'New', 'A1', 'A2')", [SEEN, PLANTED])
    orders = Orders(servers)
    orders.start()
    try:
        began = datetime.now(UTC)
        until(lambda: up.follower(since=began), lambda: up.said)
        up.into_kafka(servers.broker)
        for _ in range(3):
            landed = datetime.now(UTC)
            until(lambda: up.follower(since=landed), lambda: up.said)  # noqa: B023 (called at once)
            kill_each(up, servers)
    finally:
        orders.stop()
    assert orders.lost == 3, "the shop has felt each end of its database"
    with servers.connection() as shop:
        shop.execute("update products set price = price + 1 where productid < 20")
        shop.execute("insert into customers values (5001, 'Renamed', 'renamed@customers.example', 'New', 'A1', 'A2')")
        shop.execute("update customers set customerid = 5002 where customerid = 5001")
        shop.execute("insert into customers values (5003, %s, %s, 'New', 'A1', 'A2')", [SEEN, f"again.{PLANTED}"])
        shop.execute("analyze")  # a server that was killed has forgotten what it knew of its tables
    until(caught_up, why, 200)
    up.stop()
    assert up.process.returncode == 0, up.said
    with Stack(up.folder, clock=SystemClock()) as stack:
        w = stack.warehouse
        for product, columns in retail_oracle.COLUMNS.items():
            if product != "thirty_day_customer_snapshot":  # its window goes on while nobody looks
                rows = w.execute(f"select {columns} from main.{product}").fetchall()
                assert retail_oracle.plain(rows) == expected(product), product
        wrong = [one for one in check(w, projects.load(w, stack.dbt)) if not one.clean or one.late or one.stale]
        assert wrong == []
        for table in ("customers", "addresses", "products", "orders", "order_items"):
            with servers.connection() as shop:
                count = shop.execute(f"select count(*) from {table}".encode()).fetchone()
            assert w.execute(f"select count(*) from landed.retail__{table}").fetchone() == count
        assert w.value("select count(*) from headwater.rejected_events") == 0
        position = json.loads(w.value("select position from headwater.clock"))
        assert position["changes"] == stack.open_log().end("changes")
        tables = w.execute(
            "select table_schema, table_name from information_schema.tables where table_type = 'BASE TABLE'"
        )
        names = [f'"{schema}"."{name}"' for schema, name in tables.fetchall()]
        held = {name: w.execute(f"select cast(t as varchar) from {name} as t").fetchall() for name in names}
    assert orders.feed.done["order"] > 20

    FileClock(tmp_path / "clock").set(datetime.now(UTC) + timedelta(days=31))  # silent days: nobody buys anything
    up.start(**{CLOCK_FILE: str(tmp_path / "clock")})
    until(lambda: {row[2:] for row in sunk(DATABASE, "thirty_day_customer_snapshot")} == {(0, 0)}, lambda: up.said)
    assert len(sunk(DATABASE, "thirty_day_customer_snapshot")) == len(expected("thirty_day_customer_snapshot"))
    up.stop()
    stored = {name: "\n".join(str(row[0]) for row in rows) for name, rows in held.items()}
    stored["the topics"] = everything(servers.broker)
    for path in tmp_path.rglob("*"):  # the warehouse and the topics once more, as bytes: what is left over of old pages
        if path.is_file():
            stored[str(path)] = path.read_bytes().decode(errors="replace")
    assert [where for where, text in stored.items() if PLANTED in text] == []
    found = {where for where, text in stored.items() if SEEN in text}
    assert {'"landed"."retail__customers__versions"', "the topics"} < found, "what is looked through is what was stored"


def everything(broker: str) -> str:
    """All messages of all topics of a broker, as one text."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

    consumer = Consumer({"bootstrap.servers": broker, "group.id": "looks", "enable.partition.eof": True})
    topics = consumer.list_topics(timeout=20).topics
    parts = [TopicPartition(topic, number, OFFSET_BEGINNING) for topic in topics for number in topics[topic].partitions]
    consumer.assign(parts)
    found: list[str] = []
    ended = 0
    while ended < len(parts):
        for message in consumer.consume(1_000, timeout=1):
            ended += message.error() is not None
            found.append(f"{message.key()!r} {message.value()!r} {message.headers()!r}")
    consumer.close()
    return "\n".join(found)
