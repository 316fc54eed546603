"""ML segments of a million customers: features, fit and names; scoring in SQL; stability."""

from datetime import datetime
from pathlib import Path

import numpy as np
from sklearn.cluster import KMeans

from benchmarks.row import Measured, peak_mb, seconds, turns
from headwater.segments.assign import to_sql
from headwater.segments.cluster import fit, prepare
from headwater.segments.features import COLUMNS, at_sql, read
from headwater.segments.naming import name, profile
from headwater.segments.settings import MlSegmentSettings
from headwater.segments.stability import measure
from headwater.testing.shop import Shop
from headwater.warehouse import Warehouse

CUSTOMERS = 1_170_000
"""Of whom a million have bought."""
AS_OF = datetime(2026, 6, 30)  # noqa: DTZ001  (the warehouse stores UTC without zone)
SETTINGS = MlSegmentSettings()
K = 5


def orders_1m(folder: Path) -> None:
    """A DuckDB file with the orders of a million customers, as `fct_orders` has them, and their features as a view."""
    shop = Shop(customers=CUSTOMERS)
    orders, lines = shop.orders, shop.lines
    paid = lines.quantity * lines.price.astype(np.int64) - np.maximum(lines.discount, 0)
    columns = {
        "customer": orders.customer,
        "second": orders.second,
        "nth": orders.nth,
        "cents": np.bincount(lines.order, weights=paid, minlength=orders.second.size).astype(np.int64),
    }
    with Warehouse(folder / "orders.duckdb") as warehouse:
        with warehouse.relation("made", columns) as made:
            warehouse.execute(f"""
                create table fct_orders as
                select 'C' || (10000001 + customer) as customer_id,
                    timestamp '{shop.season.start:%Y-%m-%d %H:%M:%S}' + to_seconds(second) as ordered_at,
                    cast(cents * 0.01 as decimal(18, 4)) as revenue, nth + 1 as order_number
                from {made} where customer >= 0""")
        warehouse.execute(f"create view int_customer_rfm as {at_sql('main.fct_orders', AS_OF)}")


def features_fit_names(work: Path) -> Measured:
    """From orders to named segments, against the feature SQL and scikit-learn's fit on features that are ready."""
    with _warehouse(work) as warehouse:
        ready = prepare(read(warehouse, "main.int_customer_rfm"))[1]

        def segments() -> None:
            features = read(warehouse, "main.int_customer_rfm")
            found = fit(features, K, SETTINGS.seed)
            name(profile(features, found.labels, K), features.repeat_share)

        def bare() -> None:
            warehouse.execute("create or replace temp table bare as select * from main.int_customer_rfm")
            KMeans(K, n_init=10, random_state=SETTINGS.seed).fit(ready)

        took, bound, peak = turns(segments, bare)
        return Measured(f"{len(ready):,} customers with orders", took, peak, bound, took <= 1.5 * bound)


def scoring(work: Path) -> Measured:
    """The champion as SQL over features that are there."""
    with _warehouse(work) as warehouse:
        features = read(warehouse, "main.int_customer_rfm")
        found = fit(features, K, SETTINGS.seed)
        named = name(profile(features, found.labels, K), features.repeat_share)
        model = found.model.named(named.segments)
        columns = ", ".join(f"cast({column} as double) as {column}" for column in COLUMNS)
        warehouse.execute(f"create temp table features as select customer_id, {columns} from main.int_customer_rfm")
        sql = f"create or replace temp table scored as {to_sql(model, 'features')}"
        took = min(seconds(lambda: warehouse.execute(sql)) for _ in range(3))
        return Measured(f"{features.customers:,} customers with orders", took, peak_mb(), 0.5, took < 0.5)


def stability(work: Path) -> Measured:
    """The verdict on a model: 50 refits of 20,000 customers."""
    with _warehouse(work) as warehouse:
        found = fit(read(warehouse, "main.int_customer_rfm"), K, SETTINGS.seed)
    sample, refits = SETTINGS.stability_sample, SETTINGS.stability_refits
    took = seconds(lambda: measure(found.z, found.labels, K, SETTINGS.seed, sample=sample, refits=refits))
    return Measured(f"{sample:,} sampled of {len(found.z):,}, {refits} refits", took, peak_mb(), 30.0, took < 30)


def _warehouse(work: Path) -> Warehouse:
    return Warehouse(work / "orders_1m" / "orders.duckdb")
