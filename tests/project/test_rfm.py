"""The features that segments are made from: the dbt model, and the same definition at any moment."""

from random_rows import AS_OF

from conftest import Shop
from headwater.segments.features import at_sql

COLUMNS = (
    "customer_id, recency_days, frequency, monetary, avg_order_value, tenure_days, repeat_purchases, "
    "last_purchase_age_days, repeat_value"
)


def test_the_model_is_what_segments_compute_for_an_earlier_moment(random_shop: Shop) -> None:
    model = f"select {COLUMNS} from main.int_customer_rfm"
    query = f"select {COLUMNS} from ({at_sql('main.fct_orders', AS_OF)})"
    assert random_shop.value(f"select count(*) from ({model})") > 20
    assert random_shop.rows(f"({model}) except ({query})") == []
    assert random_shop.rows(f"({query}) except ({model})") == []
