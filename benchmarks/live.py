"""The live engine: catching up with a long log, and how long an accepted event takes until its live rows are committed."""

import random
import shutil
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater import scaffold
from headwater.clock import FixedClock
from headwater.live import project as projects
from headwater.live.engine import Engine
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.log.base import Log
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.testing.shop import Shop
from headwater.warehouse import Warehouse

CATCH_UP, HISTORY, CUSTOMERS = 5_000_000, 10_000_000, 1_000_000
PER_SECOND, FOR_SECONDS = 2_000, 60
START = datetime(2026, 6, 30, tzinfo=UTC)
NAMES = ("Page Viewed",) * 8 + ("Product Viewed",) * 6 + ("Demo Requested", "Newsletter Subscribed")


def shop(folder: Path) -> None:
    """A project with a small shop, seeded and built once."""
    Shop(customers=1_000).write(folder / "files")
    scaffold.init(folder / "shop", folder / "files")
    with Stack(folder / "shop") as stack:
        stack.seed()
        stack.build()


def live_log_5m(folder: Path) -> None:
    """A log of five million calls of 300,000 people, 25 a second."""
    with_calls(SqliteLog(folder / "log.sqlite"), CATCH_UP, 300_000, 40_000)


def with_calls(log: Log, count: int, people: int, gap_micros: int, first: int = 0) -> None:
    """Append so many calls, each `gap_micros` after the one before; two of three name the customer."""
    chosen = random.Random(first)
    begin = int(START.timestamp() * 1_000_000)
    for start in range(first, first + count, 20_000):
        log.append(
            [
                call(chosen, number, people, begin + number * gap_micros)
                for number in range(start, min(start + 20_000, first + count))
            ]
        )
    log.close()


def call(chosen: random.Random, number: int, people: int, at: int) -> Entry:
    """One track call of about 400 bytes."""
    who = chosen.randrange(people)
    user = f'"C{20_000_000 + who}"' if who % 3 else "null"
    moment = datetime.fromtimestamp(at / 1_000_000, UTC).replace(tzinfo=None).isoformat(timespec="milliseconds")
    name = f"m-{number:09d}-6f1c-4d2a"
    payload = (
        f'{{"type":"track","messageId":"{name}","userId":{user},"anonymousId":"a-{who}","event":"{chosen.choice(NAMES)}",'
        f'"properties":{{"product_id":"P{who % 100}","price":12.5}},"context":{{"page":{{"url":"https://shop.example/p/{who % 50}"}},'
        f'"userAgent":"Mozilla/5.0 (X11; Linux x86_64)","campaign":{{"source":"google","name":"spring"}}}},"timestamp":"{moment}Z"}}'
    )
    return Entry("events", "web", f"a-{who}", name, at, payload.encode())


def leads(project: Project) -> Project:
    """The models up to `user_alerts`, and no others."""
    wanted = {"user_alerts"}
    for model in reversed(project.models):
        if model.name in wanted:
            wanted |= {above.name for above in project.models if above.relation in model.analysis.reads}
    models = tuple(model for model in project.models if model.name in wanted)
    reads = {table for model in models for table in model.analysis.reads}
    return Project(models, tuple(sorted(reads - {model.relation for model in models})))


def _engine(work: Path, name: str, log: Log, clock: FixedClock, *, settled: bool = True) -> Engine:
    folder = work / name
    shutil.copytree(work / "live_shop" / "shop", folder)
    with Stack(folder) as stack:
        project = leads(projects.load(stack.warehouse, stack.dbt))
        path = stack.warehouse.path
    engine = Engine(Warehouse(path), log, project, clock, LiveSettings())
    if settled:
        engine.step()
    else:
        engine.open()
    return engine


def catch_up(work: Path) -> Measured:
    """Five million logged calls through landing, identity and the leads pipeline, until nothing waits; then verified."""
    clock = FixedClock(START + timedelta(microseconds=40_000 * CATCH_UP) + timedelta(minutes=1))
    log = SqliteLog(work / "live_log_5m" / "log.sqlite")
    engine = _engine(work, "catch_up", log, clock)
    landed = 0

    def run() -> None:
        nonlocal landed
        while (result := engine.step()).committed:
            landed += result.landed.read

    took = seconds(run)
    peak = peak_mb()
    wrong = sum(found.wrong for found in engine.verify())
    engine.close()
    log.close()
    bound = CATCH_UP / 100_000
    size = f"{landed:,} events, {landed / took:,.0f}/s, {wrong} wrong rows"
    return Measured(size, took, peak, bound, took <= bound and not wrong and peak < 2_000)


def click_to_row(work: Path) -> Measured:
    """2,000 calls a second for a minute, upon ten million of a million people: from durable in the log to committed rows."""
    log = SqliteLog(work / "history.sqlite")
    with_calls(log, HISTORY, CUSTOMERS, 250_000)
    log = SqliteLog(work / "history.sqlite")
    clock = FixedClock(START + timedelta(microseconds=250_000 * HISTORY) + timedelta(minutes=1))
    engine = _engine(work, "click_to_row", log, clock)
    while engine.step().committed:
        pass
    chosen, spent, number = random.Random(3), [], HISTORY
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < FOR_SECONDS:
        wanted = HISTORY + int(elapsed * PER_SECOND)
        clock.at = START + timedelta(microseconds=250_000 * HISTORY) + timedelta(minutes=1, seconds=elapsed)
        now = int(clock.at.timestamp() * 1_000_000)
        due = [begun + (n - HISTORY) / PER_SECOND for n in range(number, wanted)]
        log.append([call(chosen, n, CUSTOMERS, now) for n in range(number, wanted)])
        number = wanted
        while engine.step().lag:
            pass
        ended = time.perf_counter()
        spent += [ended - at for at in due]
    spent.sort()
    p50, p99 = (spent[int(len(spent) * share)] * 1_000 for share in (0.5, 0.99))
    wrong = sum(found.wrong for found in engine.verify(keys=1_000))
    engine.close()
    log.close()
    size = f"{len(spent):,} events, p50 {p50:,.0f} ms, p99 {p99:,.0f} ms, {wrong} wrong rows"
    return Measured(size, p99 / 1_000, peak_mb(), 0.5, p50 < 150 and p99 < 500 and not wrong and peak_mb() < 2_000)
