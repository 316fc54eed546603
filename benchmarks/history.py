"""One transaction for 100 touched keys upon a history of one, ten and a hundred million rows: what does the length of it cost?

The history is made by DuckDB itself, and not through the log. Each kind of model is alone in its engine: sums of all history
and of 30 days kept by adding and taking away (mode delta), and the same recomputed for the touched keys (mode keyed).
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

from benchmarks.row import Measured, peak_mb
from headwater.clock import FixedClock
from headwater.live import contents
from headwater.live.analysis import AS_OF, Relation
from headwater.live.deltas import at_moment
from headwater.live.engine import Engine
from headwater.live.lineage import analyse
from headwater.live.project import LiveModel, Project
from headwater.live.settings import LiveSettings
from headwater.log.memory import MemoryLog
from headwater.records.logged import Entry
from headwater.warehouse import Warehouse

CUSTOMERS, KEYS, BATCHES = 1_000_000, 100, 15
NOW = datetime(2026, 6, 30, tzinfo=UTC)
NAIVE = NOW.replace(tzinfo=None)
MOST_SECONDS = 0.25
GROWTH = {"delta, all history": 2.0, "delta, 30 days": 2.0, "keyed, 30 days": 6.0, "keyed, all history": 30.0}
"""So many times may a transaction cost upon the long history what it costs upon a million rows."""

_SUMS = "select customer_id, count(*) as events, cast(sum(position) as bigint) as positions from collected.events where customer_id is not null{} group by customer_id"
_BEGIN = '{"events": 0, "changes": 0, "rejected": 0}'
_CLOCK = f"timestamp '{AS_OF}'"
_MONTH = f" and occurred_at > {_CLOCK} - interval '30 days' and occurred_at <= {_CLOCK}"


@dataclass(frozen=True)
class Cost:
    """Of the median transaction: seconds of processor and seconds."""

    cpu: float
    wall: float


def small(work: Path) -> Measured:
    return _grown(work / "history_10m", 10_000_000)


def large(work: Path) -> Measured:
    return _grown(work / "history_100m", 100_000_000)


def _grown(folder: Path, rows: int) -> Measured:
    short, long = _costs(folder / "short.duckdb", 1_000_000), _costs(folder / "long.duckdb", rows)
    told = []
    ok = True
    for name, most in GROWTH.items():
        growth = long[name].cpu / short[name].cpu
        ok = ok and growth <= most and long[name].wall < MOST_SECONDS
        told.append(
            f"{name}: {growth:.1f} × ({long[name].cpu * 1000:.0f} ms of processor, {long[name].wall * 1000:.0f} ms)"
        )
    slowest = max(cost.wall for cost in long.values())
    return Measured(
        f"{KEYS} keys of {CUSTOMERS:,}, {rows // 1_000_000}M rows against 1M: {'; '.join(told)}",
        slowest,
        peak_mb(),
        MOST_SECONDS,
        ok,
    )


def _costs(path: Path, rows: int) -> dict[str, Cost]:
    """What a transaction costs upon so many rows, for each kind of model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    with Warehouse(path) as w:
        w.execute(
            f"insert into collected.events by name select i + 1 - {rows} as position, 'h-' || i as event_id,"
            f" 'C' || (i * 7919 % {CUSTOMERS}) as customer_id, 'Page Viewed' as event_name,"
            f" timestamp '{NAIVE}' - to_microseconds(cast(({rows} - i) * (365 * 86400e6 / {rows}) as bigint)) as occurred_at"
            f" from range({rows}) as history(i)"
        )
        w.execute("insert into headwater.clock (as_of, position) values (?, ?)", [NAIVE, _BEGIN])
        w.execute("checkpoint")
    return {name: _cost(path, name) for name in GROWTH}


def _cost(path: Path, name: str) -> Cost:
    mode, _, span = name.partition(", ")
    sql = _SUMS.format(_MONTH if span == "30 days" else "")
    w = Warehouse(path)
    w.execute("delete from collected.events where position > 0")
    w.execute("update headwater.clock set as_of = ?, position = ?", [NAIVE, _BEGIN])
    w.execute("delete from headwater.live_models")
    w.execute(f"create or replace table main.history_sums as {at_moment(sql, NAIVE)}")
    events = Relation("collected.events", contents.types(w, "collected.events"))
    own = Relation("main.history_sums", contents.types(w, "main.history_sums"))
    analysis = analyse("history_sums", own.name, sql, "customer_id", {one.name: one for one in (events, own)}, {})
    if mode == "delta":
        assert analysis.additive is not None, analysis.why_not_additive
        analysis = replace(analysis, mode="delta")
    project = Project((LiveModel("history_sums", analysis, name),), (events.name,))
    clock = FixedClock(NOW)
    log = MemoryLog()
    engine = Engine(w, log, project, clock, LiveSettings(memory_limit="6GB", aside_rows=10**12))
    engine.step()
    costs = []
    for entries in _batches(name):
        clock.push(timedelta(seconds=1))
        log.append(entries)
        cpu, wall = time.process_time(), time.perf_counter()
        done = engine.step()
        costs.append(Cost(time.process_time() - cpu, time.perf_counter() - wall))
        assert done.landed.events == KEYS and not done.models["history_sums"].whole, done
    wrong = [one for one in engine.verify(keys=KEYS) if not one.clean]
    assert not wrong, wrong
    engine.close()
    kept = costs[3:]
    return Cost(median(one.cpu for one in kept), median(one.wall for one in kept))


def _batches(name: str) -> Iterator[list[Entry]]:
    for batch in range(BATCHES):
        at = NOW + timedelta(seconds=batch)
        micros = int(at.timestamp() * 1_000_000)
        yield [
            Entry(
                "events", "web", f"C{who}", f"{name} {who}", micros,
                f'{{"type":"track","messageId":"{name} {who}","userId":"C{who}","event":"Page Viewed","timestamp":"{at:%Y-%m-%dT%H:%M:%S}Z"}}'.encode(),
            )
            for who in (batch * KEYS * 97 + number * 89 for number in range(KEYS))
        ]  # fmt: skip
