"""Shops for the tests of segments: real ones from the shared data, and synthetic ones from a seed.

Each fills `main.fct_orders` and makes `main.int_customer_rfm` a view of it at a moment, as the dbt project would.
"""

from datetime import datetime
from pathlib import Path

import numpy as np

from headwater.segments.features import Features, at_sql
from headwater.segments.settings import MlSegmentSettings
from headwater.warehouse.connection import Warehouse

AS_OF = datetime(2026, 6, 30)  # noqa: DTZ001  (the warehouse stores UTC without zone)
QUICK = MlSegmentSettings(stability_refits=8, stability_sample=2_000)


def marketing_insights(warehouse: Warehouse, data: Path) -> datetime:
    """1,468 customers of 2019; an order is a transaction of a customer."""
    warehouse.execute(f"""
        create table main.fct_orders as
        select CustomerID::varchar as customer_id, Transaction_ID || '/' || CustomerID as order_id,
            strptime(Transaction_Date::varchar, '%Y%m%d')::timestamp as ordered_at,
            sum((Quantity * Avg_Price)::decimal(18, 4))::decimal(18, 4) as revenue, 1::bigint as order_number
        from '{data}/marketing_insights/Online_Sales.parquet' group by all""")
    return view_at(warehouse, datetime(2019, 12, 31))  # noqa: DTZ001


def cdnow(warehouse: Warehouse, data: Path) -> datetime:
    """The 1/10 sample of CDNOW, seen at the end of the calibration period."""
    warehouse.execute(f"""
        create table main.fct_orders as
        select masterid::varchar as customer_id, row_number() over ()::varchar as order_id,
            strptime(date::varchar, '%Y%m%d')::timestamp as ordered_at, sales::decimal(18, 4) as revenue, 1::bigint as order_number
        from '{data}/cdnow_sample/cdnowElog.csv'""")
    return view_at(warehouse, datetime(1997, 9, 30))  # noqa: DTZ001


def online_retail(warehouse: Warehouse, data: Path) -> datetime:
    """4,383 customers with cancellations; a document that only gives back is no purchase."""
    warehouse.execute(f"""
        create table main.fct_orders as
        select "Customer ID"::bigint::varchar as customer_id, Invoice as order_id, min(InvoiceDate)::timestamp as ordered_at,
            sum((Quantity * Price)::decimal(18, 4))::decimal(18, 4) as revenue,
            case when max(Quantity) > 0 then 1::bigint end as order_number
        from '{data}/online_retail_2009_2010/online_retail_II_year_2009_2010.parquet'
        where "Customer ID" is not null group by 1, 2""")
    return view_at(warehouse, warehouse.value("select max(ordered_at) from main.fct_orders"))


def olist(warehouse: Warehouse, data: Path) -> datetime:
    """19,831 people, 163 of whom bought twice."""
    folder = data / "olist_sample"
    warehouse.execute(f"""
        create table main.fct_orders as
        select customer_unique_id as customer_id, orders.order_id, order_purchase_timestamp::timestamp as ordered_at,
            coalesce(paid.amount, 0)::decimal(18, 4) as revenue, 1::bigint as order_number
        from '{folder}/olist_orders_dataset.csv.gz' as orders
        join '{folder}/olist_customers_dataset.csv.gz' as customers on customers.customer_id = orders.customer_id
        left join (
            select order_id, sum(payment_value) as amount from '{folder}/olist_order_payments_dataset.csv.gz' group by 1
        ) as paid on paid.order_id = orders.order_id""")
    return view_at(warehouse, warehouse.value("select max(ordered_at) from main.fct_orders"))


def synthetic(warehouse: Warehouse, customers: int = 1_500, seed: int = 1) -> datetime:
    """Orders of four kinds of customers over two years: regulars, occasional ones, bulk buyers, and those who left."""
    random = np.random.default_rng(seed)
    kind = random.choice(4, customers, p=[0.2, 0.35, 0.15, 0.3])
    start = random.uniform(0, 500, customers)
    orders = 1 + random.poisson(np.array([14.0, 1.5, 5.0, 4.0])[kind])
    stop = np.where(kind == 3, np.minimum(start + random.uniform(20, 120, customers), 430), 729)
    owner = np.repeat(np.arange(customers), orders)
    day = start[owner] + random.random(len(owner)) * np.maximum(stop - start, 1)[owner]
    spend = np.round(np.exp(np.array([3.6, 3.2, 5.2, 3.6])[kind][owner] + 0.4 * random.standard_normal(len(owner))), 2)
    with warehouse.relation("made", {"owner": owner, "seconds": (day * 86400).astype(np.int64), "spend": spend}):
        warehouse.execute("""
            create or replace table main.fct_orders as
            select 'C' || (100000 + owner) as customer_id, 'O' || row_number() over (order by owner, seconds) as order_id,
                timestamp '2024-06-30' + to_seconds(seconds) as ordered_at, spend::decimal(18, 4) as revenue, 1::bigint as order_number
            from made""")
    return view_at(warehouse, AS_OF)


def view_at(warehouse: Warehouse, as_of: datetime) -> datetime:
    """`main.int_customer_rfm` as of a moment."""
    warehouse.execute(f"create or replace view main.int_customer_rfm as {at_sql('main.fct_orders', as_of)}")
    return as_of


def rfm_table(warehouse: Warehouse, values: np.ndarray, as_of: datetime = AS_OF) -> None:
    """`main.int_customer_rfm` as a table of recency_days, frequency, monetary (n, 3) and nothing to learn CLV from."""
    columns = {"recency_days": values[:, 0], "frequency": values[:, 1], "monetary": values[:, 2]}
    with warehouse.relation("given", columns):
        warehouse.execute(f"""
            create or replace table main.int_customer_rfm as
            select 'C' || lpad(row_number() over ()::varchar, 7, '0') as customer_id, timestamp '{as_of}' as as_of, recency_days,
                frequency::bigint as frequency, monetary, monetary / frequency as avg_order_value, recency_days + 1.0 as tenure_days,
                0::bigint as repeat_purchases, 0.0::double as last_purchase_age_days, null::double as repeat_value
            from given""")


def noise(customers: int, seed: int, kind: str = "logs") -> np.ndarray:
    """Recency, frequency, money without any structure: uniform in the logs, or uniform as they are."""
    random = np.random.default_rng(seed)
    if kind == "logs":
        return np.column_stack(
            [
                np.expm1(random.uniform(0, 6, customers)),
                np.maximum(1, np.round(np.expm1(random.uniform(0.7, 4, customers)))),
                np.expm1(random.uniform(2, 8, customers)),
            ]
        )
    return np.column_stack(
        [random.uniform(0, 365, customers), random.integers(1, 21, customers), random.uniform(1, 1000, customers)]
    )


def blobs(customers: int, seed: int, spread: float = 0.25) -> np.ndarray:
    """Five kinds of customers that stand well apart."""
    random = np.random.default_rng(seed)
    centres = np.array([[2.0, 3.4, 8.0], [3.0, 1.2, 6.6], [5.6, 2.2, 5.6], [5.4, 0.8, 3.4], [3.0, 2.4, 5.0]])
    logs = centres[random.integers(0, 5, customers)] + spread * random.standard_normal((customers, 3))
    values = np.expm1(logs)
    return np.column_stack(
        [np.maximum(values[:, 0], 0), np.maximum(1, np.round(values[:, 1])), np.maximum(values[:, 2], 1)]
    )


def features_of(values: np.ndarray) -> Features:
    """Features that were not read from a warehouse."""
    return Features(values, AS_OF, "given")


def bgnbd_histories(customers: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Repeat purchases, age at the last one and age now, weeks, of customers who buy and leave as BG/NBD says (r .8, alpha 6,
    a .8, b 2.4)."""
    random = np.random.default_rng(seed)
    rate, leave = random.gamma(0.8, 1 / 6, customers), random.beta(0.8, 2.4, customers)
    age = random.uniform(20, 60, customers)
    x, last = np.zeros(customers), np.zeros(customers)
    there = np.ones(customers, bool)
    while there.any():
        at = last + random.exponential(1, customers) / rate
        there &= at <= age
        x[there] += 1
        last[there] = at[there]
        there &= random.random(customers) >= leave
    return x, last, age
