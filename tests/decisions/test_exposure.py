import pytest

from headwater.decisions.exposure import measure


def test_a_group_that_gets_less_is_named(shop):
    shop.warehouse.execute(
        "create table dim_customer as select 'c' || i as customer_id, if(i < 400, 'f', 'm') as gender from range(1000) t(i)"
    )
    shop.warehouse.execute(
        "create table decided as select 'c' || i as customer_id, if(i % 10 < if(i < 400, 2, 5), 'winback_soft', 'none') as action from range(1000) t(i)"
    )
    low, high = measure(shop.warehouse, "decided")
    assert (low.group, low.customers, low.share) == ("f", 400, pytest.approx(0.2))
    assert low.ratio == pytest.approx(0.2 / 0.38)
    assert low.low
    assert not high.low
    assert low.sentence.startswith(
        "customers with gender = f get an action 0.53 times as often as all do (20.0% of 400)"
    )


def test_small_groups_and_unknown_people_say_nothing(shop):
    shop.warehouse.execute("create table decided as select 'c' || i as customer_id, 'a' as action from range(99) t(i)")
    assert measure(shop.warehouse, "decided") == []
    shop.warehouse.execute(
        "create table dim_customer as select 'c' || i as customer_id, 'x' as gender from range(99) t(i)"
    )
    assert measure(shop.warehouse, "decided") == []


def test_each_attribute_is_held_to_its_own_total_and_ties_have_an_order(shop):
    """People of whom one attribute is unknown count for the other."""
    shop.warehouse.execute(
        "create table dim_customer as select 'c' || i as customer_id, if(i < 200, null, if(i % 2 = 0, 'm', 'f')) as gender,"
        " if(i < 300, 'PT', 'AT') as country from range(600) t(i)"
    )
    shop.warehouse.execute(
        "create table decided as select 'c' || i as customer_id, if(i % 4 < 2, 'tips', 'none') as action from range(600) t(i)"
    )
    assert [(e.attribute, e.group, e.customers, e.ratio) for e in measure(shop.warehouse, "decided")] == [
        ("gender", "f", 200, 1.0),
        ("gender", "m", 200, 1.0),
        ("country", "AT", 300, 1.0),
        ("country", "PT", 300, 1.0),
    ]
