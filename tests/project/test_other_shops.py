"""Shops that lack most of what a shop can have: every model still builds, and every test passes."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from conftest import Shop, problems


@pytest.fixture(scope="module")
def bare(new_shop: Callable[[str], Shop]) -> Shop:
    return new_shop("bare")


def build_and_test(shop: Shop) -> None:
    result = shop.dbt("build", "--exclude-resource-type", "unit_test")
    assert result.ok, problems(result)
    assert sum(1 for test in result.tests if test.status == "pass") >= 40


def test_a_shop_without_a_single_row(bare: Shop) -> None:
    bare.load({}, datetime.fromisoformat("2026-01-01T00:00:00"))
    bare.build()
    assert bare.value("select count(*) from mart_marketing__customer_360") == 0
    assert bare.value("select count(*) from excluded_rows") == 0


@pytest.mark.long
def test_marketing_insights_has_orders_and_customers_only(bare: Shop, shared_data: Path) -> None:
    """No events, products, campaigns, consent or NPS: windows, segments and retention come from orders alone."""
    folder = shared_data / "marketing_insights"
    bare.load({}, datetime.fromisoformat("2019-12-31T00:00:00"))
    with bare.warehouse() as warehouse:
        warehouse.execute(
            f"insert into raw.customers by name select CustomerID::varchar as customer_id, Gender as gender, Location as city,"
            f" Tenure_Months as tenure_months from read_csv('{folder}/CustomersData.csv')"
        )
        warehouse.execute(
            "create or replace temp table sales as select *, Transaction_ID || '-' || CustomerID as order_id,"
            f" strptime(Transaction_Date::varchar, '%Y%m%d') as ordered_at from '{folder}/Online_Sales.parquet'"
        )
        warehouse.execute(
            "insert into raw.orders by name select order_id, any_value(CustomerID)::varchar as customer_id,"
            " min(ordered_at) as ordered_at from sales group by order_id"
        )
        warehouse.execute(
            "insert into raw.order_lines by name select row_number() over () || '' as order_line_id, order_id,"
            " Product_SKU as product_id, Quantity as quantity, Avg_Price as unit_price from sales"
        )
    build_and_test(bare)
    totals = bare.rows(
        "select count(*) as customers, sum(total_revenue) as revenue, sum(customer_lifetime_value) as clv,"
        " count(*) filter (where segment_name = 'Unsegmented') as unsegmented from fct_customer_segments"
    )[0]
    assert totals == {
        "customers": 1468,
        "revenue": Decimal("4670794.62"),
        "clv": Decimal("4670794.62"),
        "unsegmented": 1468,
    }
    lapsing = bare.rows(
        "select min(days_since_last_order) as least, max(days_since_last_order) as most from mart_marketing__customer_360"
        " where rule_segment = 'high_value_lapse_risk'"
    )[0]
    assert (lapsing["least"], lapsing["most"]) == (30, 89), "where no event is ever seen, a purchase is a sign of life"
    assert bare.value("select count(*) from product_sales") == 52924
    assert bare.value("select count(*) from user_alerts") == 0


@pytest.mark.long
def test_the_toy_files(bare: Shop, shared_data: Path) -> None:
    """Orders without lines, a customer without anything, consent and NPS."""
    folder = shared_data / "customer_activation_seeds"
    bare.load({}, datetime.fromisoformat("2025-08-06T09:07:00"))
    with bare.warehouse() as warehouse:
        for statement in (
            f"insert into raw.customers by name select customer_id::varchar as customer_id, email, first_name, last_name, country,"
            f" created_at, marketing_opt_in = 1 as email_opt_in, nps_score::bigint as nps_score from '{folder}/customers.csv'",
            f"insert into raw.orders by name select order_id::varchar as order_id, customer_id::varchar as customer_id,"
            f" order_ts as ordered_at, status, amount from '{folder}/orders.csv'",
            f"insert into raw.events by name select event_id::varchar as event_id, customer_id::varchar as customer_id,"
            f" event_type as event_name, event_ts as occurred_at, session_id from '{folder}/web_events.csv'",
            f"insert into raw.ad_spend by name select date || '/' || channel as ad_spend_id, date as spent_on, channel,"
            f" campaign as campaign_id, spend as amount from '{folder}/ad_spend.csv'",
        ):
            warehouse.execute(statement)
    build_and_test(bare)
    rows = bare.rows(
        "select customer_id, activity_status, revenue_90d, events_30d, rule_segment from mart_marketing__customer_360 order by 1"
    )
    assert [tuple(row.values()) for row in rows] == [
        ("1", "Active", Decimal(180), 2, None),
        ("2", "Active", Decimal("45.5"), 1, "churn_rescue_nps"),
        ("3", "No orders", Decimal(0), 0, None),
        ("4", "Active", Decimal(80), 1, "churn_rescue_nps"),
        ("5", "Active", Decimal(200), 1, None),
    ]
    snapshot = bare.rows(
        "select customer_id, total_amount, number_of_orders from thirty_day_customer_snapshot order by 1"
    )
    assert [tuple(row.values()) for row in snapshot] == [
        ("1", Decimal(180), 2),
        ("2", Decimal("45.5"), 1),
        ("3", Decimal(0), 0),
        ("4", Decimal(80), 1),
        ("5", Decimal(200), 1),
    ], "an order without lines counts with its amount"


def test_sessions_of_a_real_site(bare: Shop, shared_data: Path) -> None:
    """Thirty quiet minutes cut the 5,169 events of 1,092 visitors into 1,440 sessions, as the data's own notes say."""
    bare.load({}, datetime.fromisoformat("2016-01-01T00:00:00"))
    with bare.warehouse() as warehouse:
        warehouse.execute(
            "insert into raw.events by name select row_number() over () || '' as event_id, visitorid || '' as anonymous_id,"
            " event || '' as event_name, timestamp as occurred_at"
            f" from '{shared_data}/retailrocket_sample/events_sample.parquet'"
        )
    bare.build("--select", "+fct_events")
    totals = bare.rows(
        "select count(*) as n, count(distinct person_id) as people, count(distinct session_id) as s from fct_events"
    )
    assert totals == [{"n": 5169, "people": 1092, "s": 1440}]
