"""Each kind of data-quality test fails when the data are wrong in its way."""

from pathlib import Path

from conftest import Shop

DAMAGE = {
    "unique_dim_customer_customer_id": "insert into dim_customer from dim_customer limit 1",
    "not_null_fct_events_person_id": "update fct_events set person_id = null where event_id = (select min(event_id) from fct_events)",
    "relationships_fct_orders_customer_id__customer_id__ref_dim_customer_": "update fct_orders set customer_id = 'nobody'"
    " where order_id = (select min(order_id) from fct_orders)",
    "between_dim_customer_nps_score__0__10": "update dim_customer set nps_score = 11 where customer_id = 'c1'",
    "unique_together_mart_marketing__roas_month__channel__campaign_id": "insert into mart_marketing__roas from mart_marketing__roas"
    " where campaign_id is null limit 1",
    "accepted_values_mart_marketing__segment_scores_segment__churn_rescue_nps__high_value_lapse_risk__new_users_first_week_intent": "update mart_marketing__segment_scores"
    " set segment = 'someone_elses' where customer_id = 'c1'",
    "every_customer_has_one_row": "delete from thirty_day_customer_snapshot where customer_id = 'c1'",
    "revenue_is_conserved": "update int_customer_orders set revenue = revenue + 0.0001"
    " where customer_id = (select min(customer_id) from int_customer_orders)",
    "order_lines_are_conserved": "delete from product_sales where order_line_id = (select min(order_line_id) from product_sales)",
    "cohorts_start_whole": "update mart_marketing__cohort_retention set active_customers = active_customers - 1 where months_since_first = 0",
    "a_segment_has_one_name": "insert into customer_segments values ('c1', 1, 'One'), ('c2', 1, 'Other')",
}


def test_each_data_test_fails_on_the_damage_that_it_watches_for(random_shop: Shop, tmp_path: Path) -> None:
    damaged = random_shop.copy(tmp_path / "shop")
    passed = {name for kind, name, status in random_shop.results()["nodes"] if kind == "test" and status == "pass"}
    assert set(DAMAGE) <= passed, "on whole data they pass"
    with damaged.warehouse() as warehouse:
        for statement in DAMAGE.values():
            warehouse.execute(statement)
    result = damaged.dbt("test", "--select", *DAMAGE)
    assert not result.ok
    assert {test.name for test in result.tests if test.status == "fail"} == set(DAMAGE)
