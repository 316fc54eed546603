"""The marts against the same marts in plain Python, on a shop of random rows; and what must hold when the clock moves."""

import shutil
from collections import Counter
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from marts_in_python import Marts, Row
from random_rows import AS_OF, shop, until

from conftest import Shop

RECOMPUTED: dict[str, Callable[[Marts], list[Row]]] = {
    "fct_orders": lambda marts: marts.orders,
    "mart_marketing__customer_360": Marts.customer_360,
    "int_customer_rfm": Marts.rfm,
    "product_sales": Marts.product_sales,
    "thirty_day_customer_snapshot": Marts.thirty_day_customer_snapshot,
    "mart_marketing__cohort_retention": Marts.cohort_retention,
    "mart_marketing__roas": Marts.roas,
    "mart_marketing__engagement_metrics": Marts.engagement_metrics,
    "mart_marketing__segment_performance": Marts.segment_performance,
    "user_mql_score": Marts.user_mql_score,
    "user_alerts": Marts.user_alerts,
}


# seeds; lines, which have the time of their order only; and the list of what is left out, which is what differs
HAVE_NO_TIME = ("customer_segments", "mql_score", "int_order_totals", "excluded_rows")


def rows_of(random_shop: Shop, relation: str, columns: list[str]) -> Counter[tuple[Any, ...]]:
    found = random_shop.rows(f"select {', '.join(columns)} from {relation}")
    return Counter(tuple(row.values()) for row in found)


def differences(random_shop: Shop, relation: str, expected: list[Row]) -> list[str]:
    """Every row that only one side has; floats are compared to twelve digits."""

    def plain(value: Any) -> Any:
        return float(f"{value:.12g}") if isinstance(value, float) else value

    columns = list(expected[0])
    found = random_shop.rows(f"select {', '.join(columns)} from {relation}")
    ours = Counter(tuple(plain(row[c]) for c in columns) for row in found)
    theirs = Counter(tuple(plain(row[c]) for c in columns) for row in expected)
    return [f"only in the mart: {row}" for row in (ours - theirs)] + [
        f"only in Python: {row}" for row in (theirs - ours)
    ]


def test_every_model_builds_and_every_test_passes(random_shop: Shop) -> None:
    results = random_shop.results()
    assert results["problems"] == ""
    passed = [name for kind, name, status in results["nodes"] if kind == "test" and status == "pass"]
    assert len(passed) >= 40
    ended = {status for kind, _, status in results["nodes"] if kind != "exposure"}
    assert ended == {"success", "pass"}


@pytest.mark.parametrize("relation", RECOMPUTED)
def test_the_mart_equals_its_python_twin(random_shop: Shop, relation: str) -> None:
    expected = RECOMPUTED[relation](Marts(shop(), AS_OF))
    assert len(expected) >= 5, "the random shop must put the mart to the test"
    assert differences(random_shop, relation, expected) == []


def test_the_random_shop_holds_what_can_go_wrong(random_shop: Shop) -> None:
    """The comparison above says little where the shop has no such rows."""
    marts = Marts(shop(), AS_OF)
    assert {line["excluded_because"] for line in marts.priced_lines} >= {
        None,
        "product deleted at the time",
        "product without a name",
        "price not positive",
    }
    first_price = {}
    for version in sorted(shop()["product_prices"], key=lambda v: v["valid_from"], reverse=True):
        first_price[version["product_id"]] = version["price"]
    sales = [line for line in marts.priced_lines if not line["excluded_because"] and line["product_id"] in first_price]
    assert sum(line["price"] != first_price[line["product_id"]] for line in sales) > 20
    starts = {(version["product_id"], version["valid_from"]) for version in shop()["product_prices"]}
    assert any((line["product_id"], line["order"]["ordered_at"]) in starts for line in sales)
    assert {row["activity_status"] for row in marts.customer_360()} == {
        "Active",
        "Recent",
        "Dormant",
        "Inactive",
        "No orders",
    }
    assert len({row["rule_segment"] for row in marts.customer_360()}) == 4
    assert any(order["customer_id"] is None for order in marts.orders)
    assert any(not order["is_purchase"] for order in marts.orders)
    assert any(person.startswith("anon:") for person in (row["person_id"] for row in marts.user_alerts()))
    assert {"only_in_orders", "only_in_events", "only_gives_back"} <= marts.customer_ids
    assert random_shop.value("select count(*) from excluded_rows") >= 7


def test_what_is_left_out_is_counted(random_shop: Shop) -> None:
    marts, rows = Marts(shop(), AS_OF), shop()
    expected = Counter(
        ("order_lines", f"not in product_sales: {line['excluded_because']}")
        for line in marts.priced_lines
        if line["excluded_because"]
    )
    expected["orders", "dated after the clock"] = sum(row["ordered_at"] > AS_OF for row in rows["orders"])
    expected["orders", "without a customer (counted in fct_orders, in no customer model)"] = sum(
        order["customer_id"] is None for order in marts.orders
    )
    expected["events", "dated after the clock"] = sum(row["occurred_at"] > AS_OF for row in rows["events"])
    expected["events", "with neither customer nor visitor"] = sum(
        not row["customer_id"] and not row["anonymous_id"] and row["occurred_at"] <= AS_OF for row in rows["events"]
    )
    expected["campaign_responses", "dated after the clock"] = sum(
        r["sent_at"] > AS_OF for r in rows["campaign_responses"]
    )
    expected["ad_spend", "dated after the clock"] = sum(row["spent_on"] > AS_OF.date() for row in rows["ad_spend"])
    found = {
        (row["entity"], row["reason"]): row["row_count"] for row in random_shop.rows("select * from excluded_rows")
    }
    assert found == dict(expected)


@pytest.fixture(scope="module")
def own_shop(random_shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Shop:
    """A copy that a test may change; each test first loads the rows and sets the clock that it needs."""
    return random_shop.copy(tmp_path_factory.mktemp("own") / "shop")


@pytest.mark.long
def test_after_400_quiet_days_the_windows_are_empty(own_shop: Shop) -> None:
    own_shop.load(shop(), AS_OF + timedelta(days=400))
    old_status = (
        "select count(*) from mart_marketing__customer_360 where activity_status not in ('Inactive', 'No orders')"
    )
    assert own_shop.value(old_status) == 0, "ages are counted when the view is read: no build is needed"
    own_shop.build("--select", "+mart_marketing__customer_360", "+thirty_day_customer_snapshot", "+user_alerts")
    windows = own_shop.rows(
        "select sum(abs(revenue_30d)) + sum(abs(revenue_90d)) + sum(abs(revenue_365d)) as revenue,"
        " sum(orders_30d) + sum(orders_90d) as orders, sum(events_30d) + sum(sessions_30d) as events,"
        " count(*) as customers from mart_marketing__customer_360"
    )[0]
    assert (windows["revenue"], windows["orders"], windows["events"]) == (0, 0, 0)
    assert windows["customers"] == own_shop.value("select count(*) from dim_customer")
    quiet = own_shop.rows("select distinct total_amount, number_of_orders from thirty_day_customer_snapshot")
    assert quiet == [{"total_amount": 0, "number_of_orders": 0}], "a quiet customer stays, with 0.00 and 0"
    assert own_shop.value("select count(*) from user_alerts") == 0
    expected = Marts(shop(), AS_OF + timedelta(days=400)).customer_360()
    assert differences(own_shop, "mart_marketing__customer_360", expected) == []


@pytest.mark.long
def test_a_clock_set_back_sees_nothing_of_what_came_after(own_shop: Shop, tmp_path: Path) -> None:
    """Every table at an earlier moment equals the same table built from files that end at that moment."""
    moment = AS_OF - timedelta(days=45, hours=7)
    own_shop.load(until(shop(), moment), moment)
    own_shop.build()
    cut = tmp_path / "cut.duckdb"
    shutil.copy(own_shop.path, cut)
    own_shop.load(shop(), moment)
    own_shop.build()
    tables = own_shop.rows(
        "select table_name from information_schema.tables where table_schema = 'main' and table_type = 'BASE TABLE'"
    )
    relations = [row["table_name"] for row in tables if row["table_name"] not in HAVE_NO_TIME]
    assert len(relations) >= 20
    with own_shop.warehouse() as warehouse:
        warehouse.execute(f"attach '{cut}' as cut (read_only)")
        differing = {
            name: warehouse.value(
                f"select count(*) from ((from main.{name} except all from cut.main.{name})"
                f" union all (from cut.main.{name} except all from main.{name}))"
            )
            for name in relations
        }
    assert {name: count for name, count in differing.items() if count} == {}


def test_a_later_price_never_changes_an_old_sale(random_shop: Shop, own_shop: Shop) -> None:
    rows, change = shop(), AS_OF - timedelta(hours=1)
    versioned = {row["product_id"] for row in rows["product_prices"] if row["valid_from"] <= change}
    rows["product_prices"] += [
        {
            "product_price_id": f"{product}@new",
            "product_id": product,
            "valid_from": change,
            "price": 999,
            "is_deleted": False,
        }
        for product in versioned
    ]
    own_shop.load(rows, AS_OF)
    own_shop.build("--select", "+product_sales")
    old = f"product_sales where ordered_at < timestamp '{change}'"
    new = f"product_sales where ordered_at >= timestamp '{change}' and price = 999"
    columns = ["order_line_id", "price", "total_amount"]
    before = rows_of(random_shop, old, columns)
    assert before
    assert rows_of(own_shop, old, columns) == before
    assert rows_of(own_shop, new, columns), "the new price is there for new sales"
