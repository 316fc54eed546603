from datetime import datetime, timedelta

import numpy as np
import pytest
from segment_shops import AS_OF, blobs, rfm_table, synthetic, view_at

from headwater.segments.features import (
    COLUMNS,
    ConstantColumn,
    DuplicateCustomer,
    FutureOrder,
    MissingValue,
    at_sql,
    from_orders,
    read,
)
from headwater.warehouse.connection import Warehouse

NUMBERS = (
    "recency_days",
    "frequency",
    "monetary",
    "avg_order_value",
    "tenure_days",
    "repeat_purchases",
    "last_purchase_age_days",
    "repeat_value",
)


def orders_with_refunds(warehouse: Warehouse) -> None:
    """A synthetic shop in which some documents only give money back, on days with and without a purchase."""
    synthetic(warehouse, 400)
    warehouse.execute("""
        insert into main.fct_orders
        select customer_id, order_id || '-R', ordered_at + interval 1 hour, -revenue / 2, null from main.fct_orders where hash(order_id) % 5 = 0
        union all
        select customer_id, order_id || '-S', ordered_at + interval 3 day, -revenue / 3, null from main.fct_orders where hash(order_id) % 7 = 0
        union all select 'C-only-refunds', 'R1', timestamp '2026-01-01', -5, null
        union all select null, 'G1', timestamp '2026-01-01', 50, 1""")


@pytest.mark.parametrize("days_back", [0, 90, 400])
def test_sql_and_python_give_the_same_features(warehouse: Warehouse, days_back: int) -> None:
    orders_with_refunds(warehouse)
    as_of = AS_OF - timedelta(days=days_back)
    sql = warehouse.execute(f"select * from ({at_sql('main.fct_orders', as_of)}) order by customer_id").fetchnumpy()
    orders = warehouse.execute("select * from main.fct_orders where customer_id is not null").fetchnumpy()
    python = from_orders(
        np.asarray(orders["customer_id"]),
        np.asarray(orders["ordered_at"]),
        np.asarray(orders["revenue"], float),
        ~np.ma.getmaskarray(orders["order_number"]),
        as_of,
    )
    assert python["customer_id"].tolist() == sql["customer_id"].tolist()
    assert len(python["customer_id"]) > 50
    for column in NUMBERS:
        there = np.ma.filled(np.ma.asarray(sql[column]).astype(float), np.nan)
        np.testing.assert_allclose(np.asarray(python[column], float), there, rtol=1e-9, atol=6e-5, err_msg=column)


def test_a_customer_who_only_gave_back_is_no_customer_of_the_clustering(warehouse: Warehouse) -> None:
    orders_with_refunds(warehouse)
    view_at(warehouse, AS_OF)
    assert warehouse.value("select count(*) from main.int_customer_rfm where customer_id = 'C-only-refunds'") == 0


def test_features_are_read_in_the_order_of_the_ids(warehouse: Warehouse) -> None:
    values = blobs(300, 1)
    rfm_table(warehouse, values)
    forwards = read(warehouse, "main.int_customer_rfm")
    warehouse.execute(
        "create or replace table main.int_customer_rfm as select * from main.int_customer_rfm order by customer_id desc"
    )
    backwards = read(warehouse, "main.int_customer_rfm")
    np.testing.assert_array_equal(forwards.values, values)
    np.testing.assert_array_equal(backwards.values, values)
    assert forwards.digest == backwards.digest
    assert forwards.as_of == AS_OF


def test_another_value_is_another_digest(warehouse: Warehouse) -> None:
    rfm_table(warehouse, blobs(300, 1))
    before = read(warehouse, "main.int_customer_rfm").digest
    warehouse.execute("update main.int_customer_rfm set monetary = monetary + 0.01 where customer_id = 'C0000007'")
    assert read(warehouse, "main.int_customer_rfm").digest != before


BAD_INPUT = {
    "null": (
        "update main.int_customer_rfm set monetary = null where customer_id in ('C0000003', 'C0000001')",
        MissingValue,
        "main.int_customer_rfm.monetary is null, NaN or infinite for 2 customers: C0000001, C0000003. Every customer needs a number; mend the source rows",
    ),
    "nan": (
        "update main.int_customer_rfm set recency_days = 'nan' where customer_id = 'C0000002'",
        MissingValue,
        "main.int_customer_rfm.recency_days is null, NaN or infinite for 1 customer: C0000002. Every customer needs a number; mend the source rows",
    ),
    "infinite": (
        "update main.int_customer_rfm set monetary = 'infinity' where customer_id = 'C0000002'",
        MissingValue,
        "main.int_customer_rfm.monetary is null, NaN or infinite for 1 customer: C0000002. Every customer needs a number; mend the source rows",
    ),
    "nameless": (
        "update main.int_customer_rfm set customer_id = null where customer_id = 'C0000002'",
        MissingValue,
        "1 row of main.int_customer_rfm without a customer_id; every row needs one",
    ),
    "duplicate": (
        "insert into main.int_customer_rfm select * from main.int_customer_rfm where customer_id = 'C0000009'",
        DuplicateCustomer,
        "main.int_customer_rfm has 301 rows for 300 customers; expected one row each. Twice there: C0000009. Mend the key in mapping.yml, or the model",
    ),
    "future": (
        "update main.int_customer_rfm set recency_days = -2 where customer_id = 'C0000004'",
        FutureOrder,
        "main.int_customer_rfm has customers whose last order lies after the as_of (recency -2 days): C0000004. "
        "Expected no order from the future; mend the dates or set a later as_of",
    ),
    "constant": (
        "update main.int_customer_rfm set monetary = 5",
        ConstantColumn,
        "main.int_customer_rfm.monetary is 5 for all 300 customers: a constant column separates nobody. Mend its mapping",
    ),
    "no clock": (
        "update main.int_customer_rfm set as_of = null",
        MissingValue,
        "main.int_customer_rfm has rows without an as_of; expected one moment for all. Run `headwater seed`, it sets the clock",
    ),
}


@pytest.mark.parametrize("case", BAD_INPUT)
def test_bad_input_is_a_named_error(warehouse: Warehouse, case: str) -> None:
    change, error, sentence = BAD_INPUT[case]
    rfm_table(warehouse, blobs(300, 1))
    warehouse.execute(change)
    with pytest.raises(error) as raised:
        read(warehouse, "main.int_customer_rfm")
    assert str(raised.value) == sentence


def test_all_problems_are_reported_at_once(warehouse: Warehouse) -> None:
    rfm_table(warehouse, blobs(300, 1))
    for case in ("null", "duplicate", "future"):
        warehouse.execute(BAD_INPUT[case][0])
    with pytest.raises(MissingValue) as raised:
        read(warehouse, "main.int_customer_rfm")
    assert len(str(raised.value).splitlines()) == 3


def test_a_shop_without_repeat_buyers_is_no_bad_input(warehouse: Warehouse) -> None:
    values = blobs(300, 1)
    values[:, COLUMNS.index("frequency")] = 1
    rfm_table(warehouse, values)
    assert read(warehouse, "main.int_customer_rfm").repeat_share == 0.0


# Trap: the future leaks into features.


def leaking_sql(orders: str, as_of: datetime) -> str:
    """The mistake: the window is not closed at as_of."""
    return at_sql(orders, as_of).replace(f"ordered_at <= timestamp '{as_of}'", "true")


def forgetful_sql(orders: str, as_of: datetime) -> str:
    """The mistake: one column looks at all orders."""
    honest = at_sql(orders, as_of)
    return (
        f"select known.* exclude (frequency), everything.frequency from ({honest}) as known join "
        f"(select customer_id, count(order_number) as frequency from {orders} group by 1) as everything on everything.customer_id = known.customer_id"
    )


def knows_the_future(warehouse: Warehouse, features: object, as_of: datetime) -> bool:
    """Whether the features at `as_of` change when the source is cut off there, or when later orders arrive."""
    assert callable(features)
    warehouse.execute(
        f"create or replace temp table cut as select * from main.fct_orders where ordered_at <= timestamp '{as_of}'"
    )
    warehouse.execute(f"""
        create or replace temp table grown as select * from main.fct_orders
        union all select customer_id, order_id || '-later', timestamp '{as_of}' + interval 1 second, 99, 1 from main.fct_orders""")
    full, cut, grown = (features(orders, as_of) for orders in ("main.fct_orders", "cut", "grown"))
    differ = " union all ".join(
        f"(({a}) except ({b}))" for a, b in ((full, cut), (cut, full), (full, grown), (grown, full))
    )
    return bool(warehouse.value(f"select count(*) from ({differ})"))


def test_features_do_not_know_the_future(warehouse: Warehouse) -> None:
    synthetic(warehouse, 300)
    as_of = AS_OF - timedelta(days=120)
    assert not knows_the_future(warehouse, at_sql, as_of)


@pytest.mark.parametrize("mistake", [leaking_sql, forgetful_sql])
def test_the_leak_check_catches_a_leak(warehouse: Warehouse, mistake: object) -> None:
    synthetic(warehouse, 300)
    assert knows_the_future(warehouse, mistake, AS_OF - timedelta(days=120))
