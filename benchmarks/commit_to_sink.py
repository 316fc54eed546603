"""The whole way of a change: committed in a real Postgres, through Debezium and the log into the data products, and back into
the operational Postgres and a second one. All clocks are one machine's; Postgres itself says when a transaction was committed.
"""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb
import psycopg

from benchmarks.processes import Meter
from benchmarks.row import Measured
from headwater.log.sqlite import SqliteLog
from headwater.testing import feed
from headwater.testing.postgres import server

PER_SECOND = 200
PRODUCTS, ITEMS = 1_000, 3
WAIT_SECONDS = 900.0
SNAPSHOT, SALES = "thirty_day_customer_snapshot", "product_sales"
HISTORY = """
insert into addresses select 'A' || i, i || ' Street', 'City ' || i, 'S' || i % 50, '00100', 'X' from generate_series(0, {customers} - 1) as i;
insert into customers select i, 'Customer ' || i, 'c' || i || '@customers.example', 'New', 'A' || i, 'A' || (i * 7) % {customers}
    from generate_series(0, {customers} - 1) as i;
insert into products select i, 'B' || i % 20, 'Product ' || i, 'c', 'made to last', 'red', 'L', 5.99 + i % 90, 5 from generate_series(0, {products} - 1) as i;
insert into orders select i, (i * 31) % {customers}, localtimestamp - interval '1 day' - (i % 20) * interval '1 day', 'Completed'
    from generate_series(0, {orders} - 1) as i;
insert into order_items select i, i / {items}, (i * 13) % {products}, 1 + i % 9 from generate_series(0, {orders} * {items} - 1) as i;
analyze;
"""
"""No order turns thirty days old while the row is measured, so that both sides stand still in the end."""
ORDER = """
with made as (insert into orders values (%(order)s, %(customer)s, localtimestamp, 'Pending')),
items as (insert into order_items select %(order)s * 3 + i, %(order)s, (%(product)s + i * 7) %% 1000, 1 + i from generate_series(0, 2) as i)
select pg_current_xact_id()::text
"""
OTHERS = (
    "update orders set status = 'Completed' where orderid = %(order)s - 50",
    "update products set price = price + 1 where productid = %(product)s",
    "update customers set shipping_address_id = billing_address_id, billing_address_id = shipping_address_id where customerid = %(customer)s",
)
"""What happens beside seventeen orders of twenty: an order is completed, a price changes, somebody moves."""
WATCHED = """
create table arrivals (key int, updated_at timestamptz, xid xid8 default pg_current_xact_id());
create function arrived() returns trigger language plpgsql security definer as $$
begin
    insert into public.arrivals (key, updated_at) values (new.{key}, new.updated_at);
    return null;
end $$;
create trigger arrived after insert or update on {table} for each row execute function arrived();
"""


def small(work: Path) -> Measured:
    """200 transactions a second for ten seconds, upon 20,000 orders."""
    return _measured(work, 20_000, 10)


def large(work: Path) -> Measured:
    """200 transactions a second for a minute, upon a million orders."""
    return _measured(work, 1_000_000, 60)


@dataclass(frozen=True)
class _Order:
    """One order of the load: its number, its customer, the transaction that made it."""

    number: int
    customer: int
    xid: str


@dataclass(frozen=True)
class _Batch:
    """One batch of the engine: the newest change in it, when it was committed, how long it took; seconds."""

    upto: int
    at: float
    took: float


@dataclass
class _Up:
    """`headwater up`, and its batches, which it says right after each is committed."""

    folder: Path
    environment: dict[str, str]
    batches: list[_Batch] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    pid: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        process = subprocess.Popen(
            [sys.executable, "-m", "headwater", "up", "--json", "--project", str(self.folder)],
            env=self.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.pid = process.pid
        reader = threading.Thread(target=self._read, args=(process,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            process.terminate()
            process.wait(120)
            reader.join()

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            said, now = json.loads(line), time.time()
            if said["stage"] == "engine" and "landed" in said["details"]:
                before = self.batches[-1].upto if self.batches else 0
                self.batches.append(_Batch(before + said["details"]["landed"], now, said["details"]["seconds"]))
            elif said["status"] == "failed":
                self.failed.append(said["sentence"])

    def until(self, true: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + WAIT_SECONDS
        while not true():
            assert time.monotonic() < end and not self.failed, f"{what}: waited in vain; {self.failed[:3]}"
            time.sleep(0.2)

    def command(self, *words: str) -> Any:
        done = subprocess.run(
            [sys.executable, "-m", "headwater", *words, "--json", "--project", str(self.folder)],
            env=self.environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        return json.loads(done.stdout)

    def moments(self, orders: list[_Order]) -> tuple[list[float], list[_Batch]]:
        """Of each order: when its last change came out of Debezium, and the batch that committed its rows. `up` has ended."""
        numbers, taken = {one.number for one in orders}, dict[int, tuple[float, int]]()
        with SqliteLog(self.folder / "warehouse" / "log.sqlite") as log:
            after = 0
            while records := log.read("changes", after, 50_000):
                after = records[-1].offset
                for record in records:
                    if record.key.startswith("order_items:"):
                        row = json.loads(record.payload).get("row")
                        if row and row["orderid"] in numbers:
                            taken[row["orderid"]] = (record.received_at / 1e6, record.offset)
        assert self.batches[-1].upto == after, f"{self.batches[-1].upto:,} of {after:,} changes were landed"
        ends = [batch.upto for batch in self.batches]
        told = [taken[one.number] for one in orders]
        return [at for at, _ in told], [self.batches[bisect_left(ends, offset)] for _, offset in told]

    def differing(self, there: dict[str, psycopg.Connection[Any]]) -> int:
        """Rows that a database has otherwise than the warehouse; `up` has ended."""
        wrong = 0
        with duckdb.connect(str(self.folder / "warehouse" / "shop.duckdb"), read_only=True) as warehouse:
            for table, connection in there.items():
                sql = f"select * exclude (updated_at) from main.{table}"
                ours = warehouse.execute(sql)
                columns = ", ".join(column[0] for column in ours.description or ())
                theirs = connection.execute(f"select {columns} from {table}".encode()).fetchall()
                wrong += len(set(ours.fetchall()) ^ {tuple(map(_naive, row)) for row in theirs})
        return wrong


Arrivals = dict[int, list[tuple[float, float]]]
"""Key -> (newest source time in the row, when Postgres committed the row), in the order of the commits; seconds."""


def _measured(work: Path, history: int, seconds: int) -> Measured:
    folder, customers = work / f"commit_to_sink_{history}", history // 10
    shutil.copytree(work / "retail" / "shop", folder / "shop")
    settings = folder / "shop" / "headwater.yml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("port: 8787", "port: 0"), encoding="utf-8")
    with server(folder / "postgres", settings={"max_slot_wal_keep_size": "8GB", "max_wal_size": "4GB"}) as running:
        told = feed.prepare(running, source="retail")
        shop, analytics = (
            psycopg.connect(running.address(name), autocommit=True, options="-c timezone=UTC")
            for name in (feed.DATABASE, feed.ANALYTICS)
        )
        shop.execute(HISTORY.format(customers=customers, products=PRODUCTS, orders=history, items=ITEMS).encode())
        up = _Up(folder / "shop", {**os.environ, **told, "HEADWATER_MASK_KEY": "a key of the bench"})
        with up.running(), Meter(up.pid, every=2.0) as meter:
            up.until(lambda: _count(shop, SNAPSHOT) == customers, "the snapshot is in the operational database")
            up.until(lambda: _count(analytics, SALES) == history * ITEMS, "the sales are in the second database")
            shop.execute(WATCHED.format(key="customerid", table=SNAPSHOT).encode())
            analytics.execute(WATCHED.format(key="orderid", table=SALES).encode())
            _load(shop, history, customers, 2 * PER_SECOND)  # by then everything was done once
            time.sleep(2)
            before = meter.cpu_seconds
            orders, took = _load(shop, history + 10_000, customers, seconds * PER_SECOND)
            busy = (meter.cpu_seconds - before) / took
            committed = _commits(shop, orders)
            up.until(lambda: None not in _sunk(orders, committed, shop), "every order is in the snapshot")
            up.until(lambda: None not in _sold(orders, analytics), "every order is in the second database")
            wrong = sum(one["wrong"] for one in up.command("verify", "--all")["models"])
        sunk, sold = _sunk(orders, committed, shop), _sold(orders, analytics)
        taken, batches = up.moments(orders)
        wrong += up.differing({SNAPSHOT: shop, SALES: analytics})
        shop.close()
        analytics.close()
    starts = [committed[one.xid] for one in orders]
    begun, models = [batch.at - batch.took for batch in batches], [batch.at for batch in batches]
    inside, out, other = (_waits(starts, ends) for ends in (models, sunk, sold))
    hops = {
        "Debezium": _waits(starts, taken),
        "log and linger": _waits(taken, begun),
        "batch": _waits(begun, models),
        "sync": _waits(models, sunk),
    }
    rate = seconds * PER_SECOND / took
    size = (
        f"{len(orders):,} orders in {seconds * PER_SECOND:,} transactions, {rate:.0f}/s upon {history:,}: product_sales and snapshot"
        f" {_said(inside)}, back in Postgres {_said(out)}, in a second Postgres {_said(other)}; of it {', '.join(f'{name} {_ms(way, 0.5)} ms' for name, way in hops.items())};"
        f" {wrong} wrong rows, {busy:.2f} cores"
    )
    ok = _share(inside, 0.5) < 0.3 and _share(inside, 0.99) < 1 and _share(out, 0.5) < 1 and not wrong and not up.failed
    return Measured(size, _share(inside, 0.99), meter.peak_mb, 1.0, ok)


# ---------------------------------------------------------------------- what is sent


def _load(shop: psycopg.Connection[Any], first: int, customers: int, count: int) -> tuple[list[_Order], float]:
    """So many transactions, 200 a second; the orders among them, and how long it took."""
    draw, made, began = random.Random(first), [], time.monotonic()
    for n in range(count):
        values = {"order": first + n, "customer": draw.randrange(customers), "product": draw.randrange(PRODUCTS)}
        if n % 20 < 17:
            row = shop.execute(ORDER.encode(), values).fetchone()
            assert row is not None
            made.append(_Order(values["order"], values["customer"], row[0]))
        else:
            shop.execute(OTHERS[n % 20 - 17].encode(), values)
        time.sleep(max(0.0, began + (n + 1) / PER_SECOND - time.monotonic()))
    return made, time.monotonic() - began


# ---------------------------------------------------------------------- what came of it


def _commits(shop: psycopg.Connection[Any], orders: list[_Order]) -> dict[str, float]:
    """When each order's transaction was committed, by Postgres' own record."""
    return dict(
        shop.execute(
            "select xid, extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 from unnest(%s::text[]) as xid",
            [[one.xid for one in orders]],
        ).fetchall()
    )


def _arrivals(connection: psycopg.Connection[Any]) -> Arrivals:
    found: Arrivals = defaultdict(list)
    for key, source, at in connection.execute(
        "select key, extract(epoch from updated_at)::float8, extract(epoch from pg_xact_commit_timestamp(xid::xid))::float8 as at"
        " from arrivals order by at"
    ):
        found[key].append((source, at))
    return found


def _sunk(orders: list[_Order], committed: dict[str, float], shop: psycopg.Connection[Any]) -> list[float | None]:
    """When each customer's row first knew of the order: its newest source time is the order's commit, or later."""
    found = _arrivals(shop)
    return [
        next((at for source, at in found.get(one.customer, ()) if source >= committed[one.xid] - 1e-6), None)
        for one in orders
    ]


def _sold(orders: list[_Order], analytics: psycopg.Connection[Any]) -> list[float | None]:
    """When each order's last item was first there."""
    found = _arrivals(analytics)
    return [found[one.number][ITEMS - 1][1] if len(found.get(one.number, ())) >= ITEMS else None for one in orders]


def _count(connection: psycopg.Connection[Any], table: str) -> int:
    if connection.execute("select to_regclass(%s)", [table]).fetchone() == (None,):
        return -1
    row = connection.execute(f"select count(*) from {table}".encode()).fetchone()
    return row[0] if row else -1


def _naive(value: Any) -> Any:
    """A moment as the warehouse has it."""
    return value.replace(tzinfo=None) if isinstance(value, datetime) else value


def _waits(starts: list[Any], ends: list[Any]) -> list[float]:
    return sorted(end - start for start, end in zip(starts, ends, strict=True))


def _share(waits: list[float], share: float) -> float:
    return waits[int(len(waits) * share)]


def _ms(waits: list[float], share: float) -> int:
    return round(_share(waits, share) * 1_000)


def _said(waits: list[float]) -> str:
    return f"p50 {_ms(waits, 0.5)} ms, p99 {_ms(waits, 0.99)} ms"
