"""The real data sets beside the checkout, mapped without a hand: the figures are those of their sources."""

from decimal import Decimal


def test_marketing_insights(shared_data, stage) -> None:
    shop = stage(shared_data / "marketing_insights")
    assert shop.mapping.entities["orders"][0].fields["order_id"] == "Transaction_ID || '-' || CustomerID"
    assert shop.value("select count(*) from stg_customers") == 1468
    assert shop.value("select count(distinct customer_id) from stg_orders") == 1468
    assert shop.value("select sum(quantity * unit_price) from stg_order_lines") == Decimal("4670794.62")
    assert shop.counts("order_lines") == {"read": 52924, "kept": 52924}
    assert shop.rows("select * from quarantined_rows") == []
    assert (
        str(shop.value("select min(ordered_at) || ' ' || max(ordered_at) from stg_orders"))
        == "2019-01-01 00:00:00 2019-12-31 00:00:00"
    )


def test_online_retail(shared_data, stage) -> None:
    shop = stage(shared_data / "online_retail_2009_2010")
    assert shop.value("select sum(quantity * unit_price) from stg_order_lines") == Decimal("9539484.634")
