"""Decisions: one by one with full trace, and a million in a batch with trace and log written."""

import random
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater.clock import FixedClock
from headwater.decisions.batch import decide_batch
from headwater.decisions.customer import Customer
from headwater.decisions.decide import Decider
from headwater.decisions.settings import DecisionSettings
from headwater.warehouse import Warehouse

NOW = datetime(2026, 6, 30, 12, tzinfo=UTC)
SEGMENTS = ("churn_rescue_nps", "high_value_lapse_risk", "new_users_first_week_intent", None)
ZONES = ("America/New_York", "Europe/Berlin", "Asia/Tokyo", "America/Sao_Paulo", None)
BANDS = {
    "ml_segment": ("Champions (VIPs)", "Big Spenders", "Unsegmented"),
    "activity_status": ("Active", "Recent", "Dormant", "Inactive", "No orders"),
    "recency_bucket": ("0-30", "31-90", "91-180", ">180"),
    "revenue_band": ("0", "1-150", "150-500", ">500"),
    "nps_band": ("detractor", "passive", "promoter", None),
    "engagement_level": ("High", "Medium", "Low", "None"),
}
ONE_BY_ONE, BATCH = 60_000, 1_000_000


def one_by_one(_work: Path) -> Measured:
    """Every guardrail, the draw and the whole trace for one customer after the other; nothing is written to disk."""
    decider = Decider(DecisionSettings(), FixedClock(NOW))
    for customer in _customers(2_000, "warm"):
        decider.decide(customer)
    customers = list(_customers(ONE_BY_ONE, "C"))
    spent: list[float] = []
    for customer in customers:
        start = time.perf_counter()
        decider.decide(customer)
        spent.append(time.perf_counter() - start)
    took, bound = sum(spent), ONE_BY_ONE / 20_000
    p99 = sorted(spent)[int(len(spent) * 0.99)] * 1_000
    size = f"{ONE_BY_ONE:,} decisions, {ONE_BY_ONE / took:,.0f}/s, p99 {p99:.3f} ms"
    return Measured(size, took, peak_mb(), bound, took <= bound and p99 < 1)


def candidates_1m(folder: Path) -> None:
    """A DuckDB file with a million candidates, as `int_decision_candidates` has them."""
    with Warehouse(folder / "candidates.duckdb") as warehouse:
        bands = ", ".join(
            f"list_extract([{_listed(values)}], 1 + cast(hash(i, '{name}') % {len(values)} as integer)) as {name}"
            for name, values in BANDS.items()
        )
        warehouse.execute(f"""
            create table int_decision_candidates as
            select 'C' || (10000001 + i) as customer_id,
                list_extract([{_listed(SEGMENTS)}], 1 + cast(hash(i, 's') % {len(SEGMENTS)} as integer)) as segment,
                hash(i, 'a') % 100 < 97 as has_email, hash(i, 'b') % 100 < 88 as has_phone,
                hash(i, 'c') % 100 < 62 as email_consent, hash(i, 'd') % 100 < 27 as sms_consent,
                list_extract([{_listed(ZONES)}], 1 + cast(hash(i, 'z') % {len(ZONES)} as integer)) as time_zone,
                case when hash(i, 'm') % 10 > 0 then cast(30 + hash(i, 'n') % 30 as decimal(18, 4)) end as margin_pct,
                {bands}, timestamp '2026-06-29' as updated_at
            from range({BATCH}) made(i)""")
        warehouse.execute("insert into headwater.clock values (timestamp '2026-06-30', null, timestamp '2026-06-30')")


def batch(work: Path) -> Measured:
    """A million candidates, each decision in the log with its trace."""
    counted: list[int] = []
    with Warehouse(work / "candidates_1m" / "candidates.duckdb") as warehouse:

        def decide() -> None:
            counted.append(decide_batch(warehouse, DecisionSettings(), FixedClock(NOW), "bench").decided)

        took = seconds(decide)
    bound = BATCH / 300_000
    return Measured(f"{counted[0]:,} decisions, {BATCH / took:,.0f}/s", took, peak_mb(), bound, took <= bound)


def _customers(count: int, prefix: str) -> Iterator[Customer]:
    """Customers of every standing, as they come."""
    draw = random.Random(1)
    for i in range(count):
        yield Customer(
            customer_id=f"{prefix}{i}",
            segment=draw.choice(SEGMENTS),
            has_email=draw.random() < 0.97,
            has_phone=draw.random() < 0.88,
            email_consent=draw.random() < 0.62,
            sms_consent=draw.random() < 0.27,
            time_zone=draw.choice(ZONES),
            margin_pct=draw.choice((None, 35.0, 52.0)),
            features={name: draw.choice(values) for name, values in BANDS.items()},
        )


def _listed(values: tuple[str | None, ...]) -> str:
    return ", ".join("null" if value is None else f"'{value}'" for value in values)
