"""The synthetic shop: the same seed gives the same shop, its references resolve, and it behaves like a shop."""

import csv
import hashlib
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from headwater.errors import InvalidValue
from headwater.records.entities import ENTITIES
from headwater.segments.clv import fit_bgnbd
from headwater.testing.shop import Shop
from headwater.testing.shop_behaviour import DAY, RATE_DAYS, RATE_SHAPE
from headwater.testing.shop_faults import FAULTS, HEAVY
from headwater.testing.shop_orders import STATUSES
from headwater.testing.shop_people import CHANNELS
from headwater.warehouse.connection import Warehouse


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop(customers=1_000, seed=7)


@pytest.fixture(scope="module")
def files(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shop")
    shop.write(folder)
    return folder


@pytest.fixture
def warehouse(files: Path):
    with Warehouse(":memory:") as warehouse:
        for entity in ENTITIES:
            warehouse.execute(f"create view {entity} as from '{files / entity}.parquet'")
        yield warehouse


@pytest.mark.parametrize("entity", ENTITIES)
def test_a_file_has_exactly_the_columns_of_its_entity(warehouse: Warehouse, entity: str) -> None:
    columns = tuple(row["column_name"] for row in warehouse.rows(f"describe {entity}"))
    assert columns == ENTITIES[entity].columns


def _digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


@pytest.mark.parametrize("format", ["parquet", "csv"])
def test_one_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path, format: str) -> None:
    for name, seed in (("once", 3), ("again", 3), ("other", 4)):
        Shop(customers=300, seed=seed).write(tmp_path / name, format)
    once, again, other = (_digests(tmp_path / name) for name in ("once", "again", "other"))
    assert once == again
    assert {name for name in once if once[name] == other[name]} <= {f"campaigns.{format}"}


def test_counts_are_what_the_files_hold(shop: Shop, warehouse: Warehouse) -> None:
    for entity in ENTITIES:
        assert warehouse.value(f"select count(*) from {entity}") == shop.count(entity)


def test_keys_are_unique_and_references_resolve(warehouse: Warehouse) -> None:
    for entity in ENTITIES.values():
        assert warehouse.value(f"select count(*) = count(distinct {entity.key}) from {entity.name}"), entity.name
    for child, column, parent in (
        ("customers", "shipping_address_id", "addresses"),
        ("orders", "customer_id", "customers"),
        ("orders", "campaign_id", "campaigns"),
        ("order_lines", "order_id", "orders"),
        ("order_lines", "product_id", "products"),
        ("product_prices", "product_id", "products"),
        ("events", "customer_id", "customers"),
        ("events", "product_id", "products"),
        ("events", "campaign_id", "campaigns"),
        ("campaign_responses", "campaign_id", "campaigns"),
        ("campaign_responses", "customer_id", "customers"),
        ("ad_spend", "campaign_id", "campaigns"),
    ):
        key = ENTITIES[parent].key
        orphans = warehouse.value(
            f"select count(*) from {child} where {column} is not null and {column} not in (select {key} from {parent})"
        )
        assert orphans == 0, f"{child}.{column}"


def test_frame_gives_the_columns_of_the_file(shop: Shop, warehouse: Warehouse) -> None:
    frame = shop.frame("orders")
    assert frame["order_id"].size == shop.count("orders")
    assert np.isin(frame["status"], ["completed", "processing", "cancelled", "partially_refunded", "refunded"]).all()


def test_a_shop_of_one_customer_and_one_product_can_be_written(tmp_path: Path) -> None:
    counts = Shop(customers=1, products=1, days=90, event_days=1).write(tmp_path)
    assert counts["customers"] == counts["products"] == 1
    assert set(counts) == set(ENTITIES)


def test_a_wrong_argument_is_refused_with_what_is_allowed() -> None:
    with pytest.raises(InvalidValue, match=r"^customers: found 0; a shop takes 1 to 10000000$"):
        Shop(customers=0)
    with pytest.raises(InvalidValue, match=r"^dirty: found order_in_mud; the faults are customer_without_key, "):
        Shop(dirty=["order_in_mud"])


# --- believable -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def town() -> Shop:
    """A larger shop, so that shares and averages are steady."""
    return Shop(customers=20_000, seed=11)


def test_nothing_happens_after_as_of_and_the_newest_event_is_then(shop: Shop) -> None:
    end = shop.days * DAY
    for entity in ENTITIES:
        if entity in {"campaigns", "ad_spend"}:  # a campaign may be planned to run on; spend is by day
            continue
        for name in ("created", "updated", "second", "since", "sent", "opened", "clicked", "converted"):
            if name in shop.arrays(entity):
                assert shop.arrays(entity)[name].max() <= end, (entity, name)
    assert shop.events.second[-1] == end
    assert (np.diff(shop.events.second) >= 0).all()
    assert (np.diff(shop.orders.second) >= 0).all()


def test_customers_buy_again_about_as_bgnbd_says(town: Shop) -> None:
    buyers = np.unique(town.purchases.customer)
    repeats = np.bincount(town.purchases.customer)[buyers] - 1
    assert 0.60 < (repeats > 0).mean() < 0.75
    # rates differ between customers: the counts spread far more than those of one Poisson rate would
    assert repeats.var() > 4 * repeats.mean()
    assert 3.0 < repeats.mean() < 5.0


def test_the_buying_model_is_found_again_in_the_purchases(town: Shop) -> None:
    bought = town.purchases
    buyers, x = np.unique(bought.customer, return_counts=True)
    first = np.full(town.customers, np.inf)
    last = np.full(town.customers, -np.inf)
    np.minimum.at(first, bought.customer, bought.day)
    np.maximum.at(last, bought.customer, bought.day)
    some = slice(None, None, 10)  # every tenth, because the fit is slow
    x, first, last = x[some], first[buyers][some] / 7, last[buyers][some] / 7
    found = fit_bgnbd(x - 1.0, last - first, town.days / 7 - first)
    assert found.r == pytest.approx(RATE_SHAPE, rel=0.15)
    assert 7 * found.alpha == pytest.approx(RATE_DAYS, rel=0.15)
    assert 0.05 < found.a / (found.a + found.b) < 0.25


def test_retention_decays_within_a_cohort(town: Shop) -> None:
    first = np.full(town.customers, np.nan)
    start = town.purchases.nth == 0
    first[town.purchases.customer[start]] = town.purchases.day[start]
    age = (town.purchases.day - first[town.purchases.customer]) // 30
    early = first[town.purchases.customer] < 365
    active = [np.unique(town.purchases.customer[early & (age == month)]).size for month in (1, 3, 6, 12)]
    assert active == sorted(active, reverse=True)
    assert active[-1] < 0.75 * active[0]


def test_december_and_saturdays_are_busy(town: Shop) -> None:
    days = np.datetime64(town.season.start.replace(tzinfo=None), "D") + town.orders.second // DAY
    per_month = dict(zip(*np.unique(days.astype("datetime64[M]"), return_counts=True), strict=True))
    assert per_month[np.datetime64("2025-12")] > 1.3 * per_month[np.datetime64("2026-02")]
    weekday = (days.astype(np.int64) + 3) % 7
    orders = np.bincount(weekday, minlength=7)
    assert orders[5] > orders[1]


def test_the_unhappy_leave_sooner(town: Shop) -> None:
    answered, bought = town.people.nps >= 0, ~np.isnan(town.people.first)
    stayed = town.purchases.left == town.days
    unhappy = stayed[answered & bought & (town.people.nps < 7)].mean()
    happy = stayed[answered & bought & (town.people.nps >= 9)].mean()
    assert unhappy < happy - 0.1
    assert 0.3 < answered.mean() < 0.8


def test_channels_bring_customers_of_different_worth(town: Shop) -> None:
    amount = town.arrays("orders")["amount"]
    known = town.orders.customer >= 0
    worth = np.bincount(town.orders.customer[known], weights=amount[known], minlength=town.customers)
    mean = [worth[town.people.channel == code].mean() for code in range(len(CHANNELS))]
    assert mean[CHANNELS.index("referral")] > 1.5 * mean[CHANNELS.index("paid_social")]
    assert mean[CHANNELS.index("paid_social")] > mean[CHANNELS.index("affiliate")]


def test_a_line_costs_what_the_price_list_said_that_day(warehouse: Warehouse) -> None:
    wrong = warehouse.value("""
        select count(*) from order_lines join orders using (order_id)
        asof join product_prices on order_lines.product_id = product_prices.product_id and ordered_at >= valid_from
        where quantity > 0 and (unit_price <> price or is_deleted)""")
    sold = warehouse.value("select count(*) from order_lines where quantity > 0")
    listed = warehouse.value("""
        select count(*) from order_lines join orders using (order_id)
        asof join product_prices on order_lines.product_id = product_prices.product_id and ordered_at >= valid_from
        where quantity > 0""")
    assert (wrong, listed) == (0, sold)
    assert warehouse.value("select count(*) > count(distinct product_id) from product_prices where not is_deleted")
    assert warehouse.value("select bool_and(cost < price) from products")


def test_what_is_given_back_was_bought_and_paid(warehouse: Warehouse) -> None:
    rows = warehouse.rows("""
        select order_id, any_value(status) as status,
            sum(quantity) filter (quantity > 0) as bought, -coalesce(sum(quantity) filter (quantity < 0), 0) as returned,
            sum(quantity * unit_price - coalesce(discount_amount, 0)) as net,
            sum(quantity * unit_price - coalesce(discount_amount, 0)) filter (quantity > 0) = any_value(amount) as adds_up
        from order_lines join orders using (order_id) group by order_id""")
    assert all(row["adds_up"] and 0 <= row["returned"] <= row["bought"] and row["net"] >= 0 for row in rows)
    by_status = {status: [row for row in rows if row["status"] == status] for status in STATUSES}
    assert all(by_status.values())
    for status in ("completed", "processing"):
        assert not any(row["returned"] for row in by_status[status])
    assert all(row["returned"] == row["bought"] for row in by_status["refunded"] + by_status["cancelled"])
    assert all(0 < row["returned"] < row["bought"] for row in by_status["partially_refunded"])


def test_what_is_given_back_stands_among_the_sales_of_its_day(shop: Shop) -> None:
    columns = shop.arrays("order_lines")
    back = columns["quantity"] < 0
    assert back.sum() == shop.lines.returned.size
    booked = shop.orders.second[columns["order"]]
    booked[back] = np.sort(shop.lines.returned)
    assert (np.diff(booked) >= 0).all()


def test_every_rule_segment_and_qualified_leads_exist(warehouse: Warehouse) -> None:
    found = warehouse.rows("""
        with clock as (select max(occurred_at) as as_of from events),
        spent as (
            select customer_id, sum(quantity * unit_price - coalesce(discount_amount, 0)) as revenue_90d
            from orders join order_lines using (order_id), clock
            where ordered_at > as_of - interval 90 days group by customer_id
        ),
        seen as (
            select customer_id, max(occurred_at) as last_at, count(*) filter (occurred_at > as_of - interval 30 days) as events_30d
            from events, clock group by customer_id
        )
        select
            count(*) filter (nps_score < 7) as churn_rescue_nps,
            count(*) filter (revenue_90d >= 150 and coalesce(last_at, '1970-01-01') <= as_of - interval 30 days)
                as high_value_lapse_risk,
            count(*) filter (coalesce(revenue_90d, 0) <= 0 and events_30d >= 2) as new_users_first_week_intent
        from customers left join spent using (customer_id) left join seen using (customer_id), clock""")[0]
    assert all(30 <= customers <= 400 for customers in found.values()), found
    leads = warehouse.value("""
        with points(event_name, points) as (values ('demo_requested', 30), ('whitepaper_downloaded', 20),
            ('newsletter_subscribed', 10), ('meetup_attended', 5), ('community_joined', 5)),
        heard as (
            select distinct coalesce(customer_id, anonymous_id) as person, event_name from events
            where occurred_at > (select max(occurred_at) from events) - interval 30 days
        )
        select count(*) from (select person from heard join points using (event_name) group by person having sum(points) >= 20)""")
    assert 150 <= leads <= 600


def test_mails_go_to_those_who_agreed_and_what_follows_follows(warehouse: Warehouse) -> None:
    assert warehouse.value("""
        select bool_and(coalesce(email_opt_in, false) or (unsubscribed and email_opt_in is false)) from customers
        join (select customer_id, max(unsubscribed_at) is not null as unsubscribed from campaign_responses group by 1)
        using (customer_id)""")
    assert (
        warehouse.value("""
        select count(*) from campaign_responses where not (
            sent_at <= coalesce(opened_at, sent_at) and (clicked_at is null or clicked_at > opened_at)
            and (converted_at is null or converted_at > clicked_at))""")
        == 0
    )
    assert warehouse.value("""
        select bool_and(exists (
            select 1 from orders o where o.customer_id = r.customer_id and o.ordered_at = r.converted_at
                and o.campaign_id = r.campaign_id and o.channel = 'email'))
        from campaign_responses r where converted_at is not null""")


def test_contact_data_lead_nowhere(warehouse: Warehouse) -> None:
    assert warehouse.value(r"select bool_and(regexp_full_match(email, '[a-z.0-9]+@example\.(com|org)')) from customers")
    assert warehouse.value(r"select bool_and(regexp_full_match(phone, '\+1[2-9][0-9]{2}55501[0-9]{2}')) from customers")
    assert warehouse.value("select count(*) from customers where postal_code like '0%'") > 0


def test_time_zones_are_iana(warehouse: Warehouse) -> None:
    for row in warehouse.rows("select distinct time_zone from customers where time_zone is not null"):
        ZoneInfo(row["time_zone"])


# --- bad rows -------------------------------------------------------------------------------------------------------------


def _lines(path: Path) -> list[bytes]:
    return path.read_bytes().splitlines()


def test_every_fault_is_planted_and_nothing_else_changes(tmp_path: Path) -> None:
    clean = Shop(customers=200).write(tmp_path / "clean", "csv")
    dirty = Shop(customers=200, dirty=True).write(tmp_path / "dirty", "csv")
    light = {name: fault for name, fault in FAULTS.items() if name not in HEAVY}
    for entity in ENTITIES:
        mine = [name for name, fault in light.items() if fault.entity == entity]
        before, after = _lines(tmp_path / "clean" / f"{entity}.csv"), _lines(tmp_path / "dirty" / f"{entity}.csv")
        assert after[: len(before)] == before
        assert len(after) - len(before) == dirty[entity] - clean[entity] == len(mine)


@pytest.mark.parametrize("name", [name for name in FAULTS if name not in HEAVY])
def test_a_planted_row_has_its_fault(tmp_path: Path, name: str) -> None:
    fault = FAULTS[name]
    Shop(customers=50, dirty=[name]).write(tmp_path, "csv", entities=[fault.entity])
    *others, last = _lines(tmp_path / f"{fault.entity}.csv")
    text = last.decode(fault.encoding)
    row = dict(zip(ENTITIES[fault.entity].columns, next(csv.reader([text])), strict=True))
    assert {column: row[column] for column in fault.changes} == {c: v or "" for c, v in fault.changes.items()}
    if not fault.changes:
        assert last in others
    elif fault.keeps_key:
        key = row[ENTITIES[fault.entity].key]
        assert key == "" or any(line.startswith(f"{key},".encode()) for line in others)
    else:
        assert row[ENTITIES[fault.entity].key] == f"BAD-{name}"


def test_a_parquet_file_holds_the_faults_it_can(tmp_path: Path) -> None:
    clean = Shop(customers=50).write(tmp_path)["customers"]
    counts = Shop(customers=50, dirty=["customer_in_latin_1", "customer_with_odd_nps"]).write(tmp_path)
    assert counts["customers"] == clean + 1
    with Warehouse(":memory:") as warehouse:
        found = warehouse.value(f"select nps_score from '{tmp_path}/customers.parquet' where customer_id like 'BAD-%'")
    assert found == "eleven"


def test_a_line_of_50_megabytes_is_one_line(tmp_path: Path) -> None:
    Shop(customers=20, dirty=["event_of_50_megabytes"]).write(tmp_path, "csv", entities=["events"])
    *others, last = _lines(tmp_path / "events.csv")
    assert len(last) > 50_000_000 > max(map(len, others))
