"""The real data sets beside the checkout, mapped without a hand: the figures are those of their sources."""

import csv
import gzip
import re
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
import yaml

from headwater.collect import counts
from headwater.collect import mapping as mappings
from headwater.collect.recognise import recognise
from headwater.warehouse.files import profile, write_seed

SETS = (
    "cdnow_sample", "customer_activation_seeds", "diginetica_sample", "hillstrom_email", "marketing_insights", "mql_score",
    "olist_marketing_funnel", "olist_sample", "online_retail_2009_2010", "online_retailer_postgres", "online_shoppers_intention",
    "open_bandit_small", "rees46_multicategory_sample", "retailrocket_sample",
)  # fmt: skip


def test_marketing_insights_needs_no_hand(shared_data: Path, stage) -> None:
    """A transaction id is shared by several customers, and the date is an integer."""
    shop = stage(shared_data / "marketing_insights")
    assert shop.mapping.entities["orders"][0].fields == {
        "order_id": "Transaction_ID || '-' || CustomerID",
        "customer_id": "CustomerID",
        "ordered_at": "strptime(cast(Transaction_Date as varchar), '%Y%m%d')",
    }
    assert shop.mapping.open == ()
    assert shop.value("select count(*) from stg_customers") == 1468
    assert shop.value("select count(distinct customer_id) from stg_orders") == 1468
    assert shop.value("select sum(quantity * unit_price) from stg_order_lines") == Decimal("4670794.62")
    assert shop.counts("order_lines") == {"read": 52924, "kept": 52924}
    assert shop.rows("select * from quarantined_rows") == []
    first, last = shop.rows("select min(ordered_at) as a, max(ordered_at) as b from stg_orders")[0].values()
    assert (f"{first:%Y-%m-%d %H:%M}", f"{last:%Y-%m-%d %H:%M}") == ("2019-01-01 00:00", "2019-12-31 00:00")
    orders = shop.value("select count(*) from (select distinct Transaction_ID, CustomerID from raw.online_sales)")
    assert shop.counts("orders") == {"read": 52924, "kept": orders, "collapsed": 52924 - orders}
    spent = shop.rows("select channel, count(*) as days, sum(amount) as amount from stg_ad_spend group by 1 order by 1")
    with (shared_data / "marketing_insights" / "Marketing_Spend.csv").open() as file:
        source = list(csv.DictReader(file))
    assert spent == [
        {"channel": "offline", "days": 365, "amount": sum(Decimal(row["Offline_Spend"]) for row in source)},
        {"channel": "online", "days": 365, "amount": sum(Decimal(row["Online_Spend"]) for row in source)},
    ]


def test_online_retail_needs_no_hand(shared_data: Path, stage) -> None:
    """Cancellations net the revenue, lines without a customer are a bucket of their own, exact repeats are revenue."""
    shop = stage(shared_data / "online_retail_2009_2010")
    lines = {
        r["outcome"]: r
        for r in shop.rows("select * from row_counts where entity = 'order_lines' and outcome <> 'repaired'")
    }
    assert lines["read"]["row_count"] == lines["kept"]["row_count"] == 525461
    assert lines["kept"]["amount"] == Decimal("9539484.6340")
    assert (lines["netted"]["row_count"], lines["unattributed"]["row_count"]) == (12326, 107927)
    assert lines["unattributed"]["amount"] == Decimal("1191276.0600")
    assert lines["duplicate"]["row_count"] == 6865
    attributed = shop.value(
        "select sum(quantity * unit_price) from stg_order_lines join stg_orders using (order_id) where customer_id is not null"
    )
    assert attributed + lines["unattributed"]["amount"] == Decimal("9539484.6340")
    assert shop.value("select count(*) from stg_customers") == 4383
    assert shop.counts("customers")["excluded"] == 107927
    assert shop.value("select count(*) from stg_orders") == 28816
    repaired = shop.rows(
        "select reason, row_count from row_counts where entity = 'products' and outcome = 'repaired' order by 2"
    )
    assert {"reason": "Description: blanks around the value trimmed", "row_count": 99583} in repaired


def test_olist_reaches_the_person_by_a_join(shared_data: Path, stage) -> None:
    shop = stage(shared_data / "olist_sample")
    orders = shop.mapping.entities["orders"][0]
    assert orders.fields["customer_id"] == "olist_customers_dataset.customer_unique_id"
    assert shop.value("select count(*) from stg_customers") == 19831
    assert shop.value("select count(distinct customer_id) from stg_orders") == 19831
    assert shop.value("select count(*) from stg_orders where customer_id is null") == 0
    (line,) = shop.mapping.open
    assert "241 orders of 20,000 in" in line.sentence and ": 124 canceled, 117 unavailable; they count" in line.sentence
    ended = shop.rows("select reason, row_count, amount > 0 as money from row_counts where outcome = 'ended'")
    assert {row["reason"].split(",")[0] for row in ended} <= {"the status is canceled", "the status is unavailable"}
    assert ended and all(row["money"] for row in ended)
    with gzip.open(shared_data / "olist_sample" / "olist_order_items_dataset.csv.gz", "rt", encoding="utf-8") as file:
        source = sum(Decimal(row["price"]) for row in csv.DictReader(file))
    assert shop.value("select sum(quantity * unit_price) from stg_order_lines") == source
    assert shop.value("select min(length(postal_code)) from stg_customers") == 4, (
        "the zip is kept as it stands, without its zero"
    )
    assert shop.counts("customers") == {"read": 20000, "kept": 19831, "collapsed": 169}
    assert shop.rows("select * from quarantined_rows") == []


def test_the_toy_shop_needs_no_hand(shared_data: Path, stage) -> None:
    """But for an order that was refunded, which is said at `init` and at each build."""
    shop = stage(shared_data / "customer_activation_seeds")
    (line,) = shop.mapping.open
    assert (line.subject, line.lines) == (
        "orders.where", ("where: coalesce(lower(trim(status)), '') not in ('refunded')",)
    )  # fmt: skip
    assert line.sentence == (
        "1 order of 5 in orders.csv came to nothing by status: 1 refunded (80.00); it counts as revenue all the same. "
        "To leave it out, take the # away from the line `where` under orders"
    )
    assert counts.sentences(shop.rows("select * from row_counts where outcome = 'ended'")) == [
        "orders: 1 ended (80.00): the status is refunded, and the revenue counts all the same; `where` under orders in mapping.yml "
        "leaves such orders out"
    ]
    assert {name: shop.value(f"select count(*) from stg_{name}") for name in shop.mapping.entities} == {
        "customers": 5, "orders": 5, "events": 5, "ad_spend": 5,
    }  # fmt: skip
    assert shop.rows("select customer_id, nps_score, email_opt_in from stg_customers order by 1") == [
        {"customer_id": "1", "nps_score": 9, "email_opt_in": True},
        {"customer_id": "2", "nps_score": 6, "email_opt_in": True},
        {"customer_id": "3", "nps_score": None, "email_opt_in": False},
        {"customer_id": "4", "nps_score": 3, "email_opt_in": True},
        {"customer_id": "5", "nps_score": 10, "email_opt_in": True},
    ]
    assert shop.value("select min(ad_spend_id) from stg_ad_spend") == "2025-07-01/search/us_summer"


def test_lead_scores_become_the_seed(shared_data: Path, tmp_path: Path) -> None:
    proposal = recognise(profile(shared_data / "mql_score"), str(shared_data / "mql_score"))
    found = proposal.seed(tmp_path)
    assert proposal.entities == {} and found is not None
    written = write_seed(*found, tmp_path / "seeds" / "mql_score.csv")
    assert (written.rows, written.repaired) == (5, 1)
    assert (tmp_path / "seeds" / "mql_score.csv").read_text().splitlines() == [
        "event_name,mql_score", "demo_requested,30", "whitepaper_downloaded,20", "newsletter_subscribed,10",
        "meetup_attended,5", "community_joined,5",
    ]  # fmt: skip


@pytest.mark.parametrize("name", SETS)
def test_open_lines_taken_in_as_told_are_valid(shared_data: Path, tmp_path: Path, name: str) -> None:
    """Every # that has no blank behind it taken away, and a column written where <column> stands: nothing else is to be done."""
    profiles = profile(shared_data / name)
    path = tmp_path / "mapping.yml"
    mappings.write(recognise(profiles, "here"), path)
    proposed = mappings.read(path)
    text = re.sub(r"(?m)^( *)#(?! )", r"\1", path.read_text())
    assert set(yaml.safe_load(text)) <= {"folder", "files", "mql_score", "entities"}
    path.write_text(text.replace("<column>", '"c"').replace("<file>", next(iter(proposed.files), "")))
    taken = mappings.read(path)
    opened = {line.entity for line in recognise(profiles, "here").open if line.lines}
    assert set(taken.entities) == {*proposed.entities, *opened}
    assert (taken == proposed) == (not opened)


def close_open_line(mapping: mappings.Mapping, entity: str, **fields: str) -> mappings.Mapping:
    """What a user does with an open block: takes the # away and fills in the columns."""
    line = next(line for line in mapping.open if line.subject == entity)
    block = yaml.safe_load("\n".join(line.lines))[entity]
    block["fields"] |= fields
    part = mappings.Part(block["from"], {k: str(v) for k, v in block["fields"].items()}, collapse=block.get("collapse"))
    return replace(mapping, entities={**mapping.entities, entity: (part,)}, open=())


def test_cdnow_says_which_line_to_add(shared_data: Path, stage) -> None:
    folder = shared_data / "cdnow_sample"
    proposal = recognise(profile(folder), str(folder))
    assert proposal.entities == {}
    (line,) = proposal.open
    assert line.sentence == (
        "cdnowElog.csv looks like orders, but no column was recognised as customer_id (others: masterid (integer), "
        "sampleid (integer), cds (integer)); fill in and take the # away"
    )
    shop = stage(folder, close_open_line(proposal, "orders", customer_id="masterid"))
    assert shop.value("select count(*) from stg_orders") == 6919
    assert shop.value("select count(distinct customer_id) from stg_orders") == 2357


def test_anonymous_sessions_map_or_say_what_is_open(shared_data: Path, stage) -> None:
    views = stage(shared_data / "rees46_multicategory_sample")
    assert views.value("select count(*) from stg_events") == 17435 - views.counts("events").get("quarantined", 0)
    assert views.value("select count(distinct customer_id) from stg_events") == 4505
    clicks = stage(shared_data / "retailrocket_sample")
    assert clicks.value("select count(distinct anonymous_id) from stg_events") == 1092
    folder = shared_data / "diginetica_sample"
    proposal = recognise(profile(folder), str(folder))
    assert [line.subject for line in proposal.open] == ["events", "order_lines"]
    shop = stage(folder, close_open_line(proposal, "events", event_name="'product_viewed'"))
    assert shop.value("select count(*) from stg_events") == 12391
    assert shop.value("select count(distinct customer_id) from stg_orders") == 4425


@pytest.mark.parametrize("name", ["hillstrom_email", "olist_marketing_funnel", "online_shoppers_intention"])
def test_what_is_no_shop_ends_with_open_lines(shared_data: Path, name: str) -> None:
    proposal = recognise(profile(shared_data / name), name)
    assert proposal.entities == {}
    assert {"customers", "orders", "order_lines", "events"} <= {line.subject for line in proposal.open}


def test_a_relational_shop_maps_to_its_last_address(shared_data: Path, stage) -> None:
    shop = stage(shared_data / "online_retailer_postgres")
    assert shop.mapping.open == ()
    assert shop.rows("select first_name, last_name, email from stg_customers where customer_id = '1'") == [
        {"first_name": "John", "last_name": "Doe", "email": "johndoe@example.com"}
    ]
    assert shop.value("select postal_code from stg_addresses where address_id = 'A3'") is not None
    assert shop.value("select min(length(postal_code)) from stg_addresses") == 5, "leading zeros are kept"
    assert shop.value("select count(*) from stg_order_lines where unit_price > 0") == 149
