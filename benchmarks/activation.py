"""The plan of a sync: a million rows of a model against a million that the destination has confirmed."""

import os
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.row import Measured, turns
from headwater.activation.plan import plan
from headwater.activation.settings import DestinationSettings, SyncSettings
from headwater.clock import FixedClock
from headwater.warehouse import Warehouse

ROWS = 1_000_000
LARGE_ROWS = int(os.environ.get("PLAN_ROWS", "10000000"))
CHANGED_EVERY = 100
FIELDS = {
    "email": "email",
    "segment": "segment",
    "orders": "order_count",
    "revenue": "lifetime_revenue",
    "last_order": "last_order_at",
    "score": "engagement_level",
}


def delivered_1m(folder: Path) -> None:
    """A model of a million customers, and the same rows as confirmed, of which every hundredth was different then."""
    _delivered(folder, ROWS)


def delivered_10m(folder: Path) -> None:
    """The same of ten million."""
    _delivered(folder, LARGE_ROWS)


def _delivered(folder: Path, rows: int) -> None:
    with Warehouse(folder / "shop.duckdb") as warehouse:
        warehouse.execute(f"""
            create table customers as
            select 'C' || (10000001 + i) as customer_id, 'name' || i || '@example.com' as email,
                case hash(i) % 4 when 0 then 'churn_rescue_nps' when 1 then 'high_value_lapse_risk' end as segment,
                cast(hash(i, 1) % 40 as bigint) as order_count,
                cast(hash(i, 2) % 900000 as decimal(18, 4)) / 100 as revenue,
                timestamp '2024-07-01' + to_seconds(cast(hash(i, 3) % 63000000 as bigint)) as last_order_at,
                case hash(i, 4) % 3 when 0 then 'High' when 1 then 'Medium' else 'Low' end as engagement_level
            from range({rows}) made(i)""")
        warehouse.execute(
            "create or replace table customers as select * replace (cast(revenue as decimal(18, 4)) as revenue) from customers"
        )
        warehouse.execute("alter table customers rename revenue to lifetime_revenue")
        fields = ", ".join(f"{column} as {field}" for field, column in FIELDS.items())
        warehouse.execute(f"""
            create table delivered.customers as
            select customer_id as _headwater_key, 1::bigint as _headwater_version,
                timestamp '2026-06-29' as _headwater_confirmed_at, {fields} from customers""")
        warehouse.execute(
            f"update customers set order_count = order_count + 1, lifetime_revenue = lifetime_revenue + 10 where rowid % {CHANGED_EVERY} = 0"
        )


def plan_1m(work: Path) -> Measured:
    """The whole plan, rows and counts and digest, against a bare EXCEPT of the mapped columns."""
    size, took, peak, bound, right = _plan(work, work / "delivered_1m", ROWS, rounds=3)
    return Measured(size, took, peak, bound, right and took < 1 and took <= 2 * bound)


def plan_10m(work: Path) -> Measured:
    """The same of ten million rows."""
    size, took, peak, bound, right = _plan(work, work / "delivered_10m", LARGE_ROWS, rounds=1)
    return Measured(size, took, peak, bound, right and took < 10 and took <= 2 * bound and peak < 4_000)


def _plan(work: Path, folder: Path, rows: int, rounds: int) -> tuple[str, float, float, float, bool]:
    """Size in words, seconds, peak, bound, and whether the plan found what had changed."""
    sync = SyncSettings(name="customers", model="customers", destination="crm", key="customer_id", fields=FIELDS)
    destination = DestinationSettings(type="files", options={})
    fields = ", ".join(f"{column} as {field}" for field, column in FIELDS.items())
    columns = ", ".join(FIELDS)
    found: list[int] = []
    with Warehouse(folder / "shop.duckdb", memory_limit="2GB") as warehouse:

        def compare() -> None:
            made = plan(warehouse, sync, destination, FixedClock(datetime(2026, 6, 30, tzinfo=UTC)), folder=work)
            found.append(made.counts.planned)

        def bare() -> None:
            warehouse.execute(
                f"create or replace temp table bare as select customer_id, {fields} from customers "
                f"except select _headwater_key, {columns} from delivered.customers"
            )

        took, bound, peak = turns(compare, bare, rounds)
    return f"{rows:,} rows, {found[0]:,} changed", took, peak, bound, found[0] == rows // CHANGED_EVERY
