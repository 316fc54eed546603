"""Headwater: a project of one model, events through the log, the engine's own transaction for each batch.

`python -m benchmarks.peers.headwater_child INPUT OUTPUT`. As in `headwater up`, whoever makes the log's records is a process of
its own; the batch is handed over when that process begins to append it (durable: the log syncs), and its results are there
when the engine's transaction is committed.
"""

import shutil
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

from benchmarks.peers.pace import Pace, begun, ended, leave, newest
from headwater import scaffold
from headwater.clock import FixedClock
from headwater.live import project as projects
from headwater.live.engine import Engine
from headwater.live.settings import LiveSettings
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.warehouse import Warehouse

MODEL = """{{ config(materialized=live_kind()) }}

select
    customer_id,
    cast(sum(cast(properties ->> 'amount_cents' as bigint)) as bigint) as amount_cents,
    count(*) as events
from {{ source('collected', 'events') }}
where {{ within_last('occurred_at', '30 days') }} and customer_id is not null
group by customer_id
"""
YML = """version: 2

models:
  - name: customer_totals
    description: One row per customer who bought in the last 30 days.
    config:
      meta:
        headwater: {key: customer_id}
"""
START = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> None:
    given, output = Path(sys.argv[1]), Path(sys.argv[2])
    engine, log, clock = _opened(output)
    ours, theirs = get_context("spawn").Pipe()
    feeder = get_context("spawn").Process(target=feed, args=(given, output, theirs), daemon=True)
    feeder.start()
    theirs.close()  # so that a feeder that has failed is an error here, and no silence
    pace, as_of = Pace(), ""
    begun()
    since = time.perf_counter()
    ours.send(pace.size)
    while True:
        ours.send(pace.size)
        count, at, newer = ours.recv()
        if not count:
            break
        as_of = max(as_of, newer)
        clock.at = datetime.fromisoformat(as_of).replace(tzinfo=UTC)
        engine.step(limit=count)
        pace.took(time.monotonic() - at, count)
    ended(time.perf_counter() - since, pace)
    leave(output / "end.csv", _rows(engine.warehouse))
    with (given / "silent.csv").open("rb") as file:
        next(file)
        for line in file:
            log.append([_entry(line)])
            clock.at = datetime.fromisoformat(newest([line])).replace(tzinfo=UTC)
            while engine.step().committed:
                pass
    leave(output / "silent.csv", _rows(engine.warehouse))
    engine.close()
    log.close()


def _opened(output: Path) -> tuple[Engine, SqliteLog, FixedClock]:
    """`headwater init`, one model in the place of those that come with it, and the first build of it."""
    folder, clock = output / "shop", FixedClock(START)
    scaffold.init(folder, None)
    (folder / scaffold.MAPPING).unlink()
    for part in ("models", "seeds", "tests", "analyses"):
        kept = (folder / "models" / "sources.yml").read_text(encoding="utf-8") if part == "models" else None
        shutil.rmtree(folder / part, ignore_errors=True)
        (folder / part).mkdir()
        if kept:
            (folder / part / "sources.yml").write_text(kept, encoding="utf-8")
    (folder / "models" / "customer_totals.sql").write_text(MODEL, encoding="utf-8")
    (folder / "models" / "customer_totals.yml").write_text(YML, encoding="utf-8")
    with Stack(folder, clock=clock) as stack:
        stack.seed()
        stack.build()
        project, path = projects.load(stack.warehouse, stack.dbt), stack.warehouse.path
    assert [model.name for model in project.models] == ["customer_totals"], project.refused
    log = SqliteLog(output / "log.sqlite")
    engine = Engine(Warehouse(path), log, project, clock, LiveSettings())
    engine.step()
    return engine, log, clock


def _rows(w: Warehouse) -> Iterator[tuple[str, int, int]]:
    yield from w.execute("select customer_id, amount_cents, events from main.customer_totals").fetchall()


def feed(given: Path, output: Path, say: Connection) -> None:
    """The process of the senders: has the next batch ready, and appends it when it is asked for the one after."""
    with SqliteLog(output / "log.sqlite") as log, (given / "events.csv").open("rb") as file:
        next(file)
        entries: list[Entry] = []
        highest = ""
        first = True
        while True:
            size = say.recv()
            if not first:
                at = time.monotonic()
                if entries:
                    log.append(entries)
                say.send((len(entries), at, highest))
                if not entries:
                    return
            first = False
            lines = list(islice(file, size))
            entries = [_entry(line) for line in lines]
            highest = newest(lines) if lines else ""


def _entry(line: bytes) -> Entry:
    """One purchase as the collector logs it."""
    number, customer, amount, moment = line.decode().rstrip().split(",")
    payload = (
        f'{{"type":"track","messageId":"m-{number}","userId":"{customer}","event":"Purchased",'
        f'"properties":{{"amount_cents":{amount}}},"timestamp":"{moment.replace(" ", "T")}Z"}}'
    )
    return Entry("events", "web", customer, f"m-{number}", _micros(moment), payload.encode())


def _micros(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1_000_000)


if __name__ == "__main__":
    main()
