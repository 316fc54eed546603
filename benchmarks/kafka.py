"""The log in a real Kafka on this machine: in, through to committed models; and Flink over the same topic, beside DuckDB."""

import json
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, timedelta
from decimal import Decimal
from pathlib import Path

from benchmarks import live, products
from benchmarks.log import BLOCK, _payload
from benchmarks.row import Measured, peak_mb, seconds
from headwater.clock import FixedClock
from headwater.live.deltas import at_moment
from headwater.live.engine import Engine
from headwater.live.settings import LiveSettings
from headwater.log.kafka import KafkaLog
from headwater.log.kafka_making import make_compacted
from headwater.log.kafka_topic import Looker, TopicReader
from headwater.log.settings import KafkaLogSettings, LogSettings
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.testing import kafka
from headwater.warehouse import Warehouse
from headwater.warehouse.flink import local
from headwater.warehouse.flink.gateway import Gateway
from headwater.warehouse.flink.script import PRODUCTS, render
from headwater.warehouse.flink.settings import FlinkSettings

HERE = Path(__file__).resolve().parents[1]
EVENTS = 1_000_000
GROUP = 10 * BLOCK
"""Events of one call: what the collector gathers for one commit while many send."""
RATE = 100_000
FLINK_FACTOR = 12
FLINK_PATIENCE = 1_800.0
"""Seconds after which Flink is not waited for any longer."""


@contextmanager
def _log(work: Path) -> Iterator[tuple[KafkaLog, KafkaLogSettings]]:
    with kafka.broker(work / "broker", HERE / ".kafka", quick=False) as address:
        own = KafkaLogSettings(bootstrap_servers=address, timeout_seconds=60)
        with KafkaLog(own, {}) as log:
            yield log, own


def log_in(work: Path) -> Measured:
    """A million events; every call is answered when the broker has all of it."""
    group = [Entry("events", "website", f"u{n}", f"m{n}", 1_790_000_000_000_000 + n, _payload(n)) for n in range(GROUP)]

    def run(log: KafkaLog) -> None:
        for _ in range(EVENTS // GROUP):
            log.append(group)

    with _log(work / "kafka_in") as (log, _):
        log.append(group)
        took = seconds(lambda: run(log))
        assert log.end("events") == EVENTS + GROUP
    bound = EVENTS / RATE
    size = f"{EVENTS:,} events in calls of {GROUP:,}, {EVENTS / took:,.0f}/s"
    return Measured(size, took, peak_mb(), bound, took <= bound)


def log_through(work: Path) -> Measured:
    """A million logged calls through landing, identity and the leads pipeline, until nothing waits; then verified."""
    clock = FixedClock(live.START + timedelta(microseconds=40_000 * EVENTS) + timedelta(minutes=1))
    with _log(work / "kafka_through") as (log, own):
        with KafkaLog(own, {}) as sender:
            live.with_calls(sender, EVENTS, 60_000, 40_000)
        engine = live._engine(work, "kafka_through_shop", log, clock, settled=False)
        landed = 0

        def run() -> None:
            nonlocal landed
            while (result := engine.step()).committed:
                landed += result.landed.read

        took = seconds(run)
        peak = peak_mb()
        wrong = sum(found.wrong for found in engine.verify())
        engine.close()
    bound = EVENTS / RATE
    size = f"{landed:,} events, {landed / took:,.0f}/s, {wrong} wrong rows"
    return Measured(size, took, peak, bound, took <= bound and not wrong)


def flink_pipeline(work: Path) -> Measured:
    """420,000 changes: the data products by DuckDB from the landed tables, and by Flink from the topic."""
    return _flink(work, 420_000)


def flink_pipeline_4m(work: Path) -> Measured:
    """The same of 4.2 million."""
    return _flink(work, 4_200_000)


def _flink(work: Path, changes: int) -> Measured:
    folder = work / f"flink_{changes}"
    with _log(folder) as (log, own):
        part: list[Entry] = []
        for entry in products._changes(changes):
            part.append(entry)
            if len(part) == 20_000:
                log.append(part)
                part = []
        log.append(part)
        totals, took, peak = _by_duckdb(work, folder, log)
        counted, flink = _by_flink(folder, own)
    bound = flink / FLINK_FACTOR
    if counted is None:
        size = f"{changes:,} changes, Flink not done after {flink:,.0f} s = {flink / took:,.0f} ×, nothing to compare"
        return Measured(size, took, peak, bound, False)
    wrong = sum(counted[name] != totals[name] for name in totals)
    size = f"{changes:,} changes, Flink {flink:,.0f} s = {flink / took:,.1f} ×, {wrong} products differ"
    return Measured(size, took, peak, bound, took <= bound and not wrong)


Totals = dict[str, tuple[int, Decimal]]
"""Of the products with amounts: rows and their sum."""


def _by_duckdb(work: Path, folder: Path, log: KafkaLog) -> tuple[Totals, float, float]:
    shutil.copytree(work / "retail" / "shop", folder / "shop")
    with Stack(folder / "shop", clock=FixedClock(products.START)) as stack:
        project, path = products.projects.load(stack.warehouse, stack.dbt), stack.warehouse.path
    clock = FixedClock(products.START + timedelta(hours=1))
    w = Warehouse(path)
    engine = Engine(w, log, project, clock, LiveSettings())
    engine.open()
    while engine.step().committed:
        pass
    at = clock.now().astimezone(UTC).replace(tzinfo=None)

    def models() -> None:
        for model in project.models:
            w.execute(f"create or replace temp table full_{model.name} as {at_moment(model.analysis.whole, at)}")

    took, peak = seconds(models), peak_mb()
    found: Totals = {}
    for name in ("product_sales", "thirty_day_customer_snapshot"):
        row = w.execute(f"select count(*), sum(total_amount) from main.{name}").fetchone()
        assert row is not None
        found[name] = (row[0], row[1])
    engine.close()
    return found, took, peak


def _by_flink(folder: Path, own: KafkaLogSettings) -> tuple[Totals | None, float]:
    """The whole job, from its start to its end, on two cores, with state in memory, which is quicker than on the disk; the
    cluster is up before. No totals when it was not waited for."""
    make_compacted(own, {}, [f"products.{name}" for name in PRODUCTS])
    script = render(
        "shop",
        LogSettings(kind="kafka", kafka=own),
        FlinkSettings(parallelism=2, state_backend="hashmap"),
        source="retail",
        before_first="first_version",
        folder=folder,
        bounded=True,
    )
    home = local.home()
    with local.gateway(folder / "flink", home, HERE / ".flink", memory_mb=4_000) as url, Gateway(url) as session:
        started = time.perf_counter()

        def late() -> bool:
            return time.perf_counter() - started > FLINK_PATIENCE

        session.run(script.told({}), stopped=late)
        took = time.perf_counter() - started
    if took > FLINK_PATIENCE:
        return None, took
    return {name: _newest(own, f"products.{name}") for name in ("product_sales", "thirty_day_customer_snapshot")}, took


def _newest(own: KafkaLogSettings, topic: str) -> tuple[int, Decimal]:
    looker, reader = Looker(own.client({}), 60), TopicReader(own.client({}), topic, 60)
    amounts: dict[bytes, Decimal] = {}
    for number, (low, high) in looker.bounds(topic).items():
        for message in reader.span(number, low, high):
            value, key = message.value(), message.key() or b""
            if value is None:
                amounts.pop(key, None)
            else:
                amounts[key] = json.loads(value, parse_float=Decimal)["total_amount"]
    looker.close()
    reader.close()
    return len(amounts), sum(amounts.values(), Decimal())
