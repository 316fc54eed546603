"""The input of the comparison: what customers bought in 90 days, in the order in which it arrived.

`events.csv` has a line per event: number, customer, amount in cents, time (UTC, milliseconds). There are fifty events for each
customer, some buy often and some hardly ever; a fifth arrives up to two hours late, so that times are out of order. Every
engine may assume that bound. `silent.csv` holds two events more, of somebody else, 31 days after the newest and a second apart:
all that an engine without a wall clock needs to know that the time has passed. They are handed over one by one.
"""

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np

from headwater.warehouse import Warehouse

LARGE, SMALL = 5_000_000, 200_000
DAYS, WINDOW, SILENT = 90, 30, 31
LATE = timedelta(hours=2)
START = datetime(2026, 1, 1)  # noqa: DTZ001  (naive UTC, as every engine here stores it)
HEARTBEAT = "HEARTBEAT"
_FORMAT = "(header, timestampformat '%Y-%m-%d %H:%M:%S.%g')"


def large(folder: Path) -> None:
    """Five million events of 100,000 customers."""
    write(folder, LARGE)


def small(folder: Path) -> None:
    """200,000 events of 4,000 customers."""
    write(folder, SMALL)


def write(folder: Path, count: int) -> None:
    """Both files, and the answers of DuckDB in batch: `end.parquet` and `silent.parquet`."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(7)
    number = np.arange(count)
    arrived = number * (DAYS * 86_400_000) // count
    late = np.where(draw.random(count) < 0.2, draw.integers(0, int(LATE.total_seconds() * 1_000), count), 0)
    columns = {
        "number": number,
        "who": ((count // 50) * draw.random(count) ** 1.5).astype(np.int64),
        "amount_cents": draw.integers(100, 50_000, count),
        "ms": np.maximum(arrived - late, 0),
    }
    with Warehouse(folder / "input.duckdb") as w:
        w.connection.register("drawn", columns)
        w.execute(
            "create table events as select number, printf('C%07d', who) as customer_id, amount_cents,"
            f" timestamp '{START}' + to_milliseconds(ms) as ts from drawn order by number"
        )
        w.execute(f"copy events to '{folder / 'events.csv'}' {_FORMAT}")
        w.execute(
            f"create table silent as select {count} + n as number, '{HEARTBEAT}' as customer_id, 1 as amount_cents,"
            f" (select max(ts) from events) + interval '{SILENT} days' + n * interval '1 second' as ts from range(2) as t(n)"
        )
        w.execute(f"copy silent to '{folder / 'silent.csv'}' {_FORMAT}")
        w.execute(f"copy ({answer('events')}) to '{folder / 'end.parquet'}'")
        w.execute(f"copy ({answer('(from events union all from silent)')}) to '{folder / 'silent.parquet'}'")
    (folder / "input.duckdb").unlink()


def answer(events: str) -> str:
    """The query, in batch."""
    return (
        "select customer_id, cast(sum(amount_cents) as bigint) as amount_cents, count(*) as events"
        f" from {events} where ts > (select max(ts) from {events}) - interval '{WINDOW} days' group by customer_id"
    )


def wrong(folder: Path, moment: str, seen: Path) -> int:
    """Customers of which a reader sees another row than the batch answer: missing, too much or different."""
    with Warehouse(folder / "compare.duckdb") as w:
        w.execute(f"create temp table wanted as from '{folder / moment}.parquet'")
        w.execute(
            "create temp table found as from"
            f" read_csv('{seen}', header = true, columns = {{customer_id: varchar, amount_cents: bigint, events: bigint}})"
        )
        return int(
            w.value(
                "select count(distinct customer_id) from"
                " ((from wanted except all from found) union all (from found except all from wanted))"
            )
        )
