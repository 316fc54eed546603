"""What a customer looks like to a model: recency, frequency and money, as of one moment.

The features are written once, in SQL: the dbt model `int_customer_rfm` for the moment of the run, and `at_sql` here for an
earlier moment (the churn head needs one). `from_orders` is the same definition in numpy; a test holds the two together.
Only orders with `ordered_at <= as_of` are ever seen.

`read` is what the models call. It looks at all problems of the input before it raises, and the class of the error is the
first problem found:

    BadFeatures                 the features cannot be used; nothing was fitted, nothing was changed
    ├── MissingValue            a null, NaN or infinity where a number must stand
    ├── DuplicateCustomer       a customer_id on more than one row
    ├── FutureOrder             an order after the as_of
    └── ConstantColumn          a column that is the same for everybody and so separates nobody
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
import numpy.typing as npt

from headwater.errors import DataError
from headwater.records.counted import counted
from headwater.warehouse.connection import Warehouse

Matrix = npt.NDArray[np.float64]

COLUMNS = ("recency_days", "frequency", "monetary")
"""What the clustering sees, in this order: days since the last order, number of orders, net revenue in shop currency."""

FLOOR_QUANTILE = 0.01
"""Net spend below this quantile of the positive spends is clipped to it, for clustering only: a customer who gave
everything back is a light customer, not a cluster of his own four standard deviations away."""


class BadFeatures(DataError):
    """The features cannot be used as they stand; every problem is in the message."""


class MissingValue(BadFeatures):
    """A null, NaN or infinity where a number must stand."""


class DuplicateCustomer(BadFeatures):
    """A customer_id on more than one row."""


class FutureOrder(BadFeatures):
    """An order lies after the as_of."""


class ConstantColumn(BadFeatures):
    """A column is the same for every customer."""


@dataclass(frozen=True)
class Features:
    """One row per customer with at least one order.

    `values` is (n_customers, 3) float64 in shop units, columns as `COLUMNS`, no nulls; row i is the i-th customer by
    customer_id. `as_of` is naive UTC. `digest` is the same for the same rows on every machine with the same DuckDB.
    """

    values: Matrix
    as_of: datetime
    digest: str

    @property
    def customers(self) -> int:
        return len(self.values)

    @property
    def unspent(self) -> npt.NDArray[np.bool_]:
        """True for customers whose net spend is not positive: clipped for clustering, published as unsegmented."""
        return self.values[:, COLUMNS.index("monetary")] <= 0

    @property
    def repeat_share(self) -> float:
        """Share of customers with two or more orders, 0 to 1."""
        return float(np.mean(self.values[:, COLUMNS.index("frequency")] >= 2)) if self.customers else 0.0


def spenders(warehouse: Warehouse, relation: str) -> tuple[int, int]:
    """Customers in `relation`, and how many of them have a positive net spend."""
    row = warehouse.execute(f"select count(*), count(*) filter (where monetary > 0) from {relation}").fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def read(warehouse: Warehouse, relation: str) -> Features:
    """The features of every customer in `relation` (the columns of `int_customer_rfm`), checked.

    Raises the errors of the module docstring, with every problem in the message. A frequency of 1 for everybody is no
    error: the shop has no repeat buyers, and the clustering leaves that column out.
    """
    columns = ", ".join(f"cast({name} as double) as {name}" for name in COLUMNS)
    warehouse.execute(
        f"create or replace temp table segment_features as select customer_id, as_of, {columns} from {relation} order by customer_id"
    )
    try:
        check(warehouse, "segment_features", relation)
        arrays = warehouse.execute(f"select {', '.join(COLUMNS)} from segment_features").fetchnumpy()
        as_of = warehouse.value("select max(as_of) from segment_features")
        digest = warehouse.value(
            f"select format('{{:032x}}-{{}}', bit_xor(md5_number(concat_ws('|', customer_id, {', '.join(COLUMNS)}))), count(*)) from segment_features"
        )
    finally:
        warehouse.execute("drop table if exists segment_features")
    values = np.empty((len(arrays[COLUMNS[0]]), len(COLUMNS)))
    for position, name in enumerate(COLUMNS):
        values[:, position] = arrays[name]
    return Features(values, as_of, str(digest))


def check(warehouse: Warehouse, table: str, relation: str, *, constant: bool = True) -> None:
    """Raise when `table` (columns `customer_id`, `as_of` and `COLUMNS`, doubles) cannot be used; `relation` names it to
    the user. Without `constant`, columns that are the same for everybody pass: scoring does not mind them."""
    parts = ["count(*)", "count(distinct customer_id)", "count(*) filter (where customer_id is null)"]
    parts.append("count(*) filter (where as_of is null)")
    for name in COLUMNS:
        parts += [f"count(*) filter (where {name} is null or not isfinite({name}))", f"min({name})", f"max({name})"]
    row = warehouse.execute(f"select {', '.join(parts)} from {table}").fetchone() or ()
    rows, distinct, nameless, timeless, *rest = row
    missing: list[str] = []
    double: list[str] = []
    future: list[str] = []
    same: list[str] = []
    if nameless:
        missing.append(f"{counted(nameless, 'row')} of {relation} without a customer_id; every row needs one")
    if timeless:
        missing.append(
            f"{relation} has rows without an as_of; expected one moment for all. Run `headwater seed`, it sets the clock"
        )
    if rows - nameless > distinct:
        who = _some(warehouse, f"select customer_id from {table} group by 1 having count(*) > 1 order by 1")
        double.append(
            f"{relation} has {rows - nameless} rows for {distinct} customers; expected one row each. Twice there: {who}. "
            "Mend the key in mapping.yml, or the model"
        )
    for position, name in enumerate(COLUMNS):
        empty, low, high = rest[3 * position : 3 * position + 3]
        if empty:
            who = _some(
                warehouse, f"select customer_id from {table} where {name} is null or not isfinite({name}) order by 1"
            )
            missing.append(
                f"{relation}.{name} is null, NaN or infinite for {counted(empty, 'customer')}: {who}. Every customer needs a number; mend the source rows"
            )
        if name == "recency_days" and low is not None and low < 0:
            who = _some(warehouse, f"select customer_id from {table} where {name} < 0 order by 1")
            future.append(
                f"{relation} has customers whose last order lies after the as_of (recency {low:g} days): {who}. "
                "Expected no order from the future; mend the dates or set a later as_of"
            )
        if constant and rows > 1 and low is not None and low == high and not (name == "frequency" and low == 1):
            same.append(
                f"{relation}.{name} is {low:g} for all {rows} customers: a constant column separates nobody. Mend its mapping"
            )
    for kind, problems in (
        (MissingValue, missing),
        (DuplicateCustomer, double),
        (FutureOrder, future),
        (ConstantColumn, same),
    ):
        if problems:
            raise kind("\n".join(missing + double + future + same))


def _some(warehouse: Warehouse, sql: str) -> str:
    found = [str(row[0]) for row in warehouse.execute(f"{sql} limit 4").fetchall()]
    return ", ".join(found[:3]) + (", …" if len(found) > 3 else "")


def at_sql(orders: str, as_of: datetime) -> str:
    """A query with the columns of `int_customer_rfm` as they were at `as_of` (naive UTC), from an orders relation like
    `fct_orders`: `customer_id`, `ordered_at`, `revenue` (net) and `order_number` (null for a row that only gives money
    back). One row per customer with a purchase by then; later orders are not looked at."""
    moment = f"timestamp '{as_of}'"
    return f"""
    with order_days as (
        select customer_id, cast(ordered_at as date) as order_date,
            min(ordered_at) filter (where order_number is not null) as first_order_at,
            max(ordered_at) filter (where order_number is not null) as last_order_at,
            count(order_number) as order_count, sum(revenue) as revenue
        from {orders} where customer_id is not null and ordered_at <= {moment} group by 1, 2
    ),
    customers as (
        select customer_id, min(first_order_at) as first_order_at, max(last_order_at) as last_order_at,
            cast(sum(order_count) as bigint) as order_count, count(*) filter (where order_count > 0) as purchase_days,
            sum(revenue) as revenue,
            sum(revenue) filter (where order_count > 0) - arg_min(revenue, order_date) filter (where order_count > 0) as repeat_revenue
        from order_days group by 1
    )
    select customer_id, {moment} as as_of, (epoch({moment}) - epoch(last_order_at)) / 86400.0 as recency_days,
        order_count as frequency, revenue as monetary,
        cast(cast(revenue as double) / order_count as decimal(18, 4)) as avg_order_value,
        (epoch({moment}) - epoch(first_order_at)) / 86400.0 as tenure_days, purchase_days - 1 as repeat_purchases,
        (epoch(last_order_at) - epoch(first_order_at)) / 86400.0 as last_purchase_age_days,
        cast(cast(repeat_revenue as double) / nullif(purchase_days - 1, 0) as decimal(18, 4)) as repeat_value
    from customers where order_count > 0
    """


def from_orders(
    customers: npt.NDArray[Any],
    ordered_at: npt.NDArray[np.datetime64],
    revenue: Matrix,
    purchase: npt.NDArray[np.bool_],
    as_of: datetime,
) -> dict[str, npt.NDArray[Any]]:
    """`at_sql` in numpy, for orders that are not in a warehouse: arrays of one length, one entry per order; `purchase` is
    False for a row that only gives money back.

    Returns arrays by column name, one entry per customer with a purchase, sorted by customer_id; `repeat_value` is NaN
    where there is no repeat purchase (null in SQL). Orders after `as_of` (naive UTC) are not looked at.
    """
    moment = np.datetime64(as_of, "us")
    times = ordered_at.astype("datetime64[us]")
    known = times <= moment
    bought = known & purchase
    names = np.unique(customers[bought].astype(str))
    known &= np.isin(customers.astype(str), names)
    bought &= known
    count = len(names)

    def owner(rows: npt.NDArray[np.bool_]) -> npt.NDArray[np.intp]:
        return np.searchsorted(names, customers[rows].astype(str))

    first, last = np.full(count, moment), np.full(count, np.datetime64(0, "us"))
    np.minimum.at(first, owner(bought), times[bought])
    np.maximum.at(last, owner(bought), times[bought])
    frequency = np.bincount(owner(bought), minlength=count)
    monetary = np.bincount(owner(known), revenue[known], count)

    day = times.astype("datetime64[D]").astype(np.int64)
    width = int(day[known].max() - day[known].min() + 1) if known.any() else 1
    start = int(day[known].min()) if known.any() else 0
    place = owner(known) * width + (day[known] - start)
    active = np.unique(owner(bought) * width + (day[bought] - start))
    repeats = np.bincount(active // width, minlength=count) - 1
    opening = np.arange(count) * width + (first.astype("datetime64[D]").astype(np.int64) - start)
    repeated = np.isin(place, active) & ~np.isin(place, opening)
    repeat_revenue = np.bincount(owner(known)[repeated], revenue[known][repeated], count)

    def days(span: npt.NDArray[np.timedelta64]) -> Matrix:
        return span / np.timedelta64(1, "us") / 1e6 / 86400.0

    return {
        "customer_id": names,
        "recency_days": days(moment - last),
        "frequency": frequency,
        "monetary": monetary,
        "avg_order_value": monetary / np.maximum(frequency, 1),
        "tenure_days": days(moment - first),
        "repeat_purchases": repeats,
        "last_purchase_age_days": days(last - first),
        "repeat_value": np.where(repeats > 0, repeat_revenue / np.maximum(repeats, 1), np.nan),
    }
