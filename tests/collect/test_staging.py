"""Generated staging: every bad row says what is wrong with it, every other one is staged, and the counts add up."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from staged_shop import LOADED_AT, Staged, compile_model

from headwater.clock import FixedClock
from headwater.collect import counts, staging
from headwater.collect.mapping import FileEntry, Mapping, Part
from headwater.collect.recognise import recognise
from headwater.errors import ConfigError
from headwater.records.entities import ENTITIES, SQL_TYPES
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt
from headwater.warehouse.files import load, profile, raw_types

Stage = Callable[..., Staged]
moment = datetime.fromisoformat


def mapping_of(folder: Path, **entities: Part | tuple[Part, ...]) -> Mapping:
    parts = {name: given if isinstance(given, tuple) else (given,) for name, given in entities.items()}
    tables = {part.table for group in parts.values() for part in group} | {
        t for g in parts.values() for p in g for t in p.join
    }
    return Mapping(str(folder), {table: FileEntry(f"{table}.csv") for table in sorted(tables)}, parts)


def same(*columns: str) -> dict[str, str]:
    return {column: column for column in columns}


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n")


ORDERS = Part("orders", same("order_id", "customer_id", "ordered_at", "currency", "amount"))
LINES = Part("lines", same("order_id", "product_id", "quantity", "unit_price"))


def test_every_fault_of_a_row_is_said_with_line_column_and_value(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,currency,amount",
        "1,a,2026-01-05 10:00:00,EUR,10.00",
        ",a,2026-01-05,EUR,10.00",
        "3,a,5th of May,EUR,ten",
        "4,a,2026-03-03 13:00:00,EUR,10.00",
        "5,a,2026-03-02 11:00:00,EUR,10.00",
        "6,a,2026-01-05,DUCATS,10.00",
        "7,a,,eur,10.00",
        " 8 ,a,2026-01-05T08:00:00+02:00,eur,10.00",
        "9,a,2026-01-05,GBP,10.00",
    )
    shop = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS))
    assert shop.reasons("orders") == [
        (3, "order_id", None, "order_id is required and missing"),
        (4, "amount", "ten", "amount is not a number like 12.50"),
        (4, "ordered_at", "5th of May", "ordered_at is not a moment like 2026-01-31 18:30:00"),
        (5, "ordered_at", "2026-03-03 13:00:00", "ordered_at lies in the future, after the day the file was loaded"),
        (7, "currency", "DUCATS", "currency is not a code of ISO 4217"),
        (8, "ordered_at", None, "ordered_at is required and missing"),
        (10, "currency", "GBP", "currency is not the shop's, and amounts are not converted"),
    ]
    assert shop.rows("select order_id, ordered_at, currency from stg_orders order by 1") == [
        {"order_id": "1", "ordered_at": moment("2026-01-05 10:00"), "currency": "EUR"},
        {"order_id": "5", "ordered_at": moment("2026-03-02 11:00"), "currency": "EUR"},
        {"order_id": "8", "ordered_at": moment("2026-01-05 06:00"), "currency": "EUR"},
    ]
    assert shop.counts("orders") == {"read": 9, "kept": 3, "quarantined": 6, "repaired": 2}
    assert shop.rows("select entity, file, advice from quarantined_rows where line = 7") == [
        {
            "entity": "orders", "file": "orders.csv",
            "advice": "write a code like EUR in the file, or translate it in mapping.yml (orders.currency)",
        }
    ]  # fmt: skip


def test_quantities(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "lines.csv",
        "order_id,product_id,quantity,unit_price",
        "1,p,2,9.99",
        "1,p,0,9.99",
        "1,p,-1,9.99",
        "1,p,1.5,9.99",
    )
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", "1,,2026-01-05,EUR,")
    strict = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS, order_lines=LINES))
    assert strict.reasons("order_lines") == [
        (3, "quantity", "0", "quantity is zero"),
        (4, "quantity", "-1", "quantity is negative, and the mapping does not say that this means a refund"),
        (5, "quantity", "1.5", "quantity is not a whole number like 12"),
    ]
    refund = stage(
        tmp_path, mapping_of(tmp_path, orders=ORDERS, order_lines=replace(LINES, negative_quantity="refund"))
    )
    assert refund.counts("order_lines") == {"read": 4, "kept": 2, "quarantined": 2, "netted": 1, "unattributed": 2}
    assert refund.value("select amount from row_counts where outcome = 'netted'") == Decimal("-9.9900")
    assert refund.value("select amount from row_counts where outcome = 'kept' and entity = 'order_lines'") == Decimal(
        "9.9900"
    )


def test_a_repeated_key_is_collapsed_when_it_says_the_same_and_quarantined_when_not(
    tmp_path: Path, stage: Stage
) -> None:
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,currency,amount",
        "1,a,never,EUR,1",
        "1,a,2026-01-05,EUR,1",
        "1,b,2026-01-05,EUR,1",
        " 1,a,2026-01-05,eur,1.0",
        "2,a,2026-01-05,EUR,1",
    )
    shop = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS))
    assert shop.rows("select order_id, customer_id from stg_orders order by 1") == [
        {"order_id": "1", "customer_id": "a"}, {"order_id": "2", "customer_id": "a"},
    ]  # fmt: skip
    assert shop.counts("orders") == {"read": 5, "kept": 2, "quarantined": 2, "collapsed": 1, "repaired": 2}
    assert shop.reasons("orders") == [
        (2, "ordered_at", "never", "ordered_at is not a moment like 2026-01-31 18:30:00"),
        (4, "order_id", "1", "order_id stands in more than one row, and this row says something else than the first"),
    ]
    assert "The first stands in orders.csv line 3" in shop.value("select advice from quarantined_rows where line = 4")


def test_equal_lines_without_an_id_are_kept_and_reported(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "lines.csv",
        "order_id,product_id,quantity,unit_price,note",
        "1,p,1,5,x",
        "1,p,1,5,x",
        "1,p,1,5,y",
        "1,p,1,5,x",
    )
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", "1,a,2026-01-05,EUR,")
    shop = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS, order_lines=LINES))
    assert shop.counts("order_lines") == {"read": 4, "kept": 4, "duplicate": 2}
    assert shop.value("select amount from row_counts where outcome = 'duplicate'") == Decimal("10.0000")
    assert shop.value("select count(distinct order_line_id) from stg_order_lines") == 4


def test_lines_whose_order_is_not_there_are_named_with_their_money(tmp_path: Path, stage: Stage) -> None:
    """What is kept of the lines is the revenue; whatever else was read has another place, and a test holds the sums to it."""
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,currency,amount,kind",
        "1,a,2026-01-05,EUR,,web",
        "2,a,31.02.2026,EUR,,web",
        "3,a,2026-01-05,EUR,,test",
        "4,a,2026-01-05,EUR,,web,too,many",
    )
    lines = ("1,p,2,10", "1,p,0,10", "2,p,1,7.50", "2,q,1,0.50", "3,p,1,3", "4,p,1,4", "9,p,1,5")
    write(tmp_path / "lines.csv", "order_id,product_id,quantity,unit_price", *lines)
    shop = stage(tmp_path, mapping_of(tmp_path, orders=replace(ORDERS, where="kind <> 'test'"), order_lines=LINES))
    found = shop.rows(
        "select outcome, reason, row_count, amount from row_counts where entity = 'order_lines' order by all"
    )
    assert [tuple(row.values()) for row in found] == [
        ("excluded", "of an order that is left out by `where` in the mapping", 1, Decimal(3)),
        ("kept", "", 1, Decimal(20)),
        ("orphaned", "of an order that is quarantined, so not in the revenue; mend the order", 2, Decimal(8)),
        ("orphaned", "of an order that stands in no row that can be read, so not in the revenue", 2, Decimal(9)),
        ("quarantined", "quantity is zero", 1, Decimal(0)),
        ("read", "", 7, Decimal(40)),
    ]  # fmt: skip
    assert (
        "order_lines: 2 orphaned (8.00): of an order that is quarantined, so not in the revenue; mend the order"
        in counts.sentences(shop.rows("select * from row_counts"))
    )
    shop.warehouse.execute("update row_counts set amount = amount - 1 where outcome = 'orphaned' and row_count = 2")
    lost = shop.rows(compile_model(shop.files[staging.COUNTS_TEST])[1])
    assert [row["entity"] for row in lost] == ["order_lines"], "money that is in no place is found"
    alone = stage(tmp_path, mapping_of(tmp_path, order_lines=LINES))
    assert alone.counts("order_lines") == {"read": 7, "kept": 0, "orphaned": 6, "quarantined": 1}


def test_lines_that_are_no_rows_are_read_and_unreadable(tmp_path: Path, stage: Stage) -> None:
    row = "1,a,2026-01-05,EUR,5"
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", row, f"{row},9,9", f"2{row}")
    shop = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS))
    assert shop.counts("orders") == {"read": 3, "kept": 2, "unreadable": 1}
    assert shop.value("select count(*) from headwater.file_rejects") == 1
    assert "1 of 3 rows cannot be read; each stands in headwater.file_rejects" in shop.loads[0].warnings[0]


@pytest.mark.parametrize("entity", ["orders", "order_lines"])
def test_money_of_rows_that_are_collapsed_is_conserved(tmp_path: Path, stage: Stage, entity: str) -> None:
    write(tmp_path / "sales.csv", "id,day,pay", "1,2026-01-05,5", "1,2026-01-05,6", "2,2026-01-05,7", "2,2026-01-05,x")
    orders = Part("sales", {"order_id": "id", "ordered_at": "day", "amount": "pay"}, collapse="first")
    lines = Part(
        "sales", {"order_line_id": "id", "order_id": "id", "quantity": "1", "unit_price": "pay"}, collapse="last"
    )
    shop = stage(tmp_path, mapping_of(tmp_path, orders=orders, order_lines=lines))
    amounts = shop.rows(
        f"select outcome, amount from row_counts where entity = '{entity}' and outcome <> 'unattributed'"
    )
    first = entity == "orders"
    assert {row["outcome"]: row["amount"] for row in amounts} == {
        "read": 18, "kept": 12 if first else 13, "collapsed": 6 if first else 5, "quarantined": None,
    }  # fmt: skip


def test_orders_and_customers_out_of_lines(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "sales.csv",
        "order,day,who,town,sku,units,price",
        "1,2026-01-02,a,Rome,p,1,5",
        "1,2026-01-02,a,,q,1,5",
        "2,2026-01-09,a,Oslo,p,1,5",
        "3,2026-01-05,a,Bern,p,1,5",
        "3,2026-01-05,b,Bern,p,1,5",
        "4,bad day,b,Bern,p,1,5",
        "5,2026-01-03,,Paris,p,1,5",
    )
    shop = stage(
        tmp_path,
        mapping_of(
            tmp_path,
            customers=Part(
                "sales", {"customer_id": "who", "city": "town"}, where="who is not null", collapse="last", by="day"
            ),
            orders=Part("sales", {"order_id": '"order"', "customer_id": "who", "ordered_at": "day"}, collapse="first"),
        ),
    )
    assert shop.rows("select customer_id, city from stg_customers order by 1") == [
        {"customer_id": "a", "city": "Oslo"}, {"customer_id": "b", "city": "Bern"},
    ]  # fmt: skip
    assert shop.counts("customers") == {"read": 7, "kept": 2, "collapsed": 4, "excluded": 1}
    assert shop.rows("select order_id, customer_id from stg_orders order by 1") == [
        {"order_id": "1", "customer_id": "a"}, {"order_id": "2", "customer_id": "a"}, {"order_id": "3", "customer_id": "a"},
        {"order_id": "5", "customer_id": None},
    ]  # fmt: skip
    assert shop.counts("orders") == {"read": 7, "kept": 4, "collapsed": 1, "quarantined": 2, "unattributed": 1}
    assert shop.reasons("orders") == [
        (6, "customer_id", "b", "the order has several customers, and this row names another one than the order keeps"),
        (7, "day", "bad day", "ordered_at is not a moment like 2026-01-31 18:30:00"),
    ]


def test_conversions_that_a_user_writes_quarantine_what_they_cannot_read(tmp_path: Path, stage: Stage) -> None:
    write(tmp_path / "orders.csv", "order_id,day,total", '1,31.01.2026,"1.234,50"', '2,2026-01-31,"5,00"', '3,,"x"')
    fields = {
        "order_id": "order_id",
        "ordered_at": "strptime(day, '%d.%m.%Y')",
        "amount": "cast(replace(replace(total, '.', ''), ',', '.') as decimal(18, 4))",
    }
    shop = stage(tmp_path, mapping_of(tmp_path, orders=Part("orders", fields)))
    assert shop.reasons("orders") == [
        (
            3, "day", "2026-01-31",
            "ordered_at is not a moment like 2026-01-31 18:30:00, as mapping.yml reads it: strptime(day, '%d.%m.%Y')",
        ),
        (4, "day", None, "ordered_at is required and missing"),
        (4, "total", "x", f"amount is not a number like 12.50, as mapping.yml reads it: {fields['amount']}"),
    ]  # fmt: skip
    assert shop.rows("select * exclude (status, channel) from stg_orders")[0]["amount"] == Decimal("1234.5000")


@pytest.mark.parametrize(
    "total", ["total", "cast(total as varchar)", "total || ''", "cast(total as double)", "coalesce(total, '0')"]
)
def test_an_expression_of_any_type_fills_any_field(tmp_path: Path, stage: Stage, total: str) -> None:
    write(tmp_path / "o.csv", "id,day,total", "1,2026-01-01,2", "2,2026-01-01,x")
    orders = Part("o", {"order_id": "id", "ordered_at": "day", "amount": total})
    lines = Part("o", {"order_id": "id", "quantity": total, "unit_price": total})
    people = Part("o", {"customer_id": total, "nps_score": total, "created_at": "cast(day as date)"})
    shop = stage(tmp_path, mapping_of(tmp_path, customers=people, orders=orders, order_lines=lines))
    assert shop.rows("select order_id, amount from stg_orders") == [{"order_id": "1", "amount": Decimal("2.0000")}]
    assert shop.rows("select quantity, unit_price from stg_order_lines") == [
        {"quantity": 2, "unit_price": Decimal("2.0000")}
    ]
    assert shop.value("select nps_score from stg_customers") == 2
    assert [row[:3] for row in shop.reasons("orders")] == [(3, "total", "x")]


def test_customers_are_checked(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "people.csv",
        "id,zip,nps,news,sms,since",
        "1,01234,9,yes,0,2026-01-01",
        "2,99,11,maybe,f,2026-01-01",
        "3,,9.0,,N,01/02/2026",
        "4,00501,10,TRUE,1.0,",
    )
    part = Part(
        "people",
        {
            "customer_id": "id",
            "postal_code": "zip",
            "nps_score": "nps",
            "email_opt_in": "news",
            "sms_opt_in": "sms",
            "created_at": "since",
        },
    )
    shop = stage(tmp_path, mapping_of(tmp_path, customers=part))
    assert shop.reasons("customers") == [
        (3, "news", "maybe", "email_opt_in is not yes or no, true or false, 1 or 0"),
        (3, "nps", "11", "nps_score is not between 0 and 10"),
        (4, "since", "01/02/2026", "created_at is not a moment like 2026-01-31 18:30:00"),
    ]
    assert shop.rows(
        "select customer_id, postal_code, nps_score, email_opt_in, sms_opt_in from stg_customers order by 1"
    ) == [
        {"customer_id": "1", "postal_code": "01234", "nps_score": 9, "email_opt_in": True, "sms_opt_in": False},
        {"customer_id": "4", "postal_code": "00501", "nps_score": 10, "email_opt_in": True, "sms_opt_in": True},
    ]


def test_a_join_never_multiplies_rows(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "orders.csv", "order_id,account,ordered_at", "1,A1,2026-01-01", "2, A2,2026-01-01", "3,A9,2026-01-01"
    )
    write(tmp_path / "accounts.csv", "account,person", "A1,p", "A1,q", "A2,p")
    part = Part(
        "orders", {"order_id": "order_id", "customer_id": "accounts.person", "ordered_at": "ordered_at"},
        join={"accounts": "orders.account = accounts.account"},
    )  # fmt: skip
    shop = stage(tmp_path, mapping_of(tmp_path, orders=part))
    assert shop.rows("select order_id, customer_id from stg_orders order by 1") == [
        {"order_id": "1", "customer_id": "p"}, {"order_id": "2", "customer_id": "p"}, {"order_id": "3", "customer_id": None},
    ]  # fmt: skip


def test_several_files_fill_one_entity(tmp_path: Path, stage: Stage) -> None:
    write(tmp_path / "web.csv", "visitor,what,at", "v1,view,2026-01-01 10:00:00", "v1,buy,2026-01-01 10:05:00")
    write(tmp_path / "app.csv", "device,ts", "d1,1767261600", "d2,soon")
    shop = stage(
        tmp_path,
        mapping_of(
            tmp_path,
            events=(
                Part("web", {"anonymous_id": "visitor", "event_name": "what", "occurred_at": "at"}),
                Part(
                    "app",
                    {
                        "anonymous_id": "device",
                        "event_name": "'app_opened'",
                        "occurred_at": "make_timestamp(cast(ts as bigint) * 1000000)",
                    },
                ),
            ),
        ),
    )
    assert shop.rows("select event_id, event_name, occurred_at from stg_events order by 1") == [
        {"event_id": "app-2", "event_name": "app_opened", "occurred_at": moment("2026-01-01 10:00")},
        {"event_id": "web-2", "event_name": "view", "occurred_at": moment("2026-01-01 10:00")},
        {"event_id": "web-3", "event_name": "buy", "occurred_at": moment("2026-01-01 10:05")},
    ]
    assert shop.rows("select file, line, column_name, value from quarantined_rows") == [
        {"file": "app.csv", "line": 3, "column_name": "ts", "value": "soon"}
    ]


def test_made_keys(tmp_path: Path, stage: Stage) -> None:
    write(tmp_path / "spend.csv", "day,channel,spent", "2026-01-01,search,5", "2026-01-02,,5")
    write(tmp_path / "prices.csv", "sku,valid_from,price", "p,2026-01-01,5", "p,2026-01-01,5")
    shop = stage(
        tmp_path,
        mapping_of(
            tmp_path,
            ad_spend=Part("spend", {"spent_on": "day", "channel": "channel", "amount": "spent"}),
            product_prices=Part("prices", {"product_id": "sku", "valid_from": "valid_from", "price": "price"}),
        ),
    )
    assert shop.value("select string_agg(ad_spend_id) from stg_ad_spend") == "2026-01-01/search/"
    assert shop.value("select string_agg(product_price_id) from stg_product_prices") == "p@2026-01-01 00:00:00"
    assert shop.counts("product_prices") == {"read": 2, "kept": 1, "collapsed": 1}
    assert shop.reasons("ad_spend") == [(3, "channel", None, "channel is required and missing")]


def test_as_of_is_the_newest_moment_and_never_after_the_load(tmp_path: Path, stage: Stage) -> None:
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,ordered_at,currency,amount",
        "1,a,2026-02-01,EUR,1",
        "2,a,2027-01-01,EUR,1",
    )
    write(tmp_path / "events.csv", "who,what,at", "v1,view,2026-02-03 10:00:00")
    events = Part("events", {"customer_id": "who", "event_name": "what", "occurred_at": "at"})
    shop = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS, events=events))
    query = staging.as_of_sql(shop.mapping, raw_types(shop.warehouse))
    assert shop.value(query) == moment("2026-02-03 10:00"), "an order of next year is quarantined and moves no clock"
    write(tmp_path / "events.csv", "who,what,at", "v1,view,2026-03-02 10:00:00")
    late = stage(tmp_path, mapping_of(tmp_path, orders=ORDERS, events=events))
    assert late.value(query) == LOADED_AT.replace(tzinfo=None)
    bare = stage(tmp_path, mapping_of(tmp_path, customers=Part("events", {"customer_id": "who"})))
    assert bare.value(staging.as_of_sql(bare.mapping)) == LOADED_AT.replace(tzinfo=None)


def test_staging_has_the_columns_of_the_contract(tmp_path: Path, stage: Stage) -> None:
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", "1,a,2026-02-01,EUR,1")
    write(tmp_path / "lines.csv", "order_id,product_id,quantity,unit_price", "1,p,1,2.5")
    shop = stage(
        tmp_path,
        mapping_of(
            tmp_path, orders=ORDERS, order_lines=LINES, products=Part("lines", same("product_id"), collapse="first")
        ),
    )
    for entity in ENTITIES.values():
        columns = {
            r["column_name"]: r["data_type"].lower()
            for r in shop.rows(
                f"select column_name, data_type from duckdb_columns() where table_name = 'stg_{entity.name}' order by column_index"
            )
        }
        assert columns == {field.name: SQL_TYPES[field.type] for field in entity.fields}, entity.name


@pytest.mark.parametrize("known", [True, False])
def test_types_change_the_speed_and_not_the_rows(tmp_path: Path, known: bool, stage: Stage) -> None:
    """A Parquet file staged with and without knowing the types of its columns."""
    with Warehouse(":memory:") as warehouse:
        warehouse.execute(
            f"copy (select i as id, i % 3 as who, timestamp '2026-01-01' + interval (i) hour as at, (i / 7)::double as total, "
            f"i % 2 as news, 4.0::double as nps, 'x ' as town, date '2026-01-01' as since from range(1, 40) t(i)) to '{tmp_path / 'o.parquet'}' (format parquet)"
        )
    orders = Part("o", {"order_id": "id", "customer_id": "who", "ordered_at": "at", "amount": "total"})
    people = Part(
        "o", {"customer_id": "id", "email_opt_in": "news", "nps_score": "nps", "city": "town", "created_at": "since"}
    )
    mapping = Mapping(str(tmp_path), {"o": FileEntry("o.parquet")}, {"customers": (people,), "orders": (orders,)})
    shop = stage(tmp_path, mapping, known_types=known)
    assert shop.counts("orders") == {"read": 39, "kept": 39}
    assert shop.counts("customers") == {"read": 39, "kept": 39, "repaired": 39}
    assert shop.rows("select ordered_at, amount from stg_orders where order_id = '8'") == [
        {"ordered_at": moment("2026-01-01 08:00"), "amount": Decimal("1.1429")}
    ]
    assert shop.rows("select email_opt_in, nps_score, city, created_at from stg_customers where customer_id = '7'") == [
        {"email_opt_in": True, "nps_score": 4, "city": "x", "created_at": moment("2026-01-01 00:00")}
    ]


cell = st.sampled_from(
    [
        "",
        " ",
        "1",
        "2",
        " 2",
        "3.5",
        "-1",
        "0",
        "x",
        "2026-01-05",
        "2026-01-05 10:00:00",
        "2031-01-01",
        "EUR",
        "eur",
        "ZZZ",
    ]
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(orders=st.lists(st.tuples(*[cell] * 5), max_size=12), lines=st.lists(st.tuples(*[cell] * 4), max_size=12))
def test_counts_are_conserved_whatever_comes(tmp_path: Path, stage: Stage, orders: list, lines: list) -> None:
    """`stage` holds every shop to the test that every row that was read, and its money, has one place."""
    write(
        tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", *(",".join(row) for row in orders)
    )
    write(tmp_path / "lines.csv", "order_id,product_id,quantity,unit_price", *(",".join(row) for row in lines))
    shop = stage(
        tmp_path,
        mapping_of(
            tmp_path, orders=ORDERS, order_lines=replace(LINES, where="unit_price <> '3.5'"),
            customers=Part("orders", {"customer_id": "customer_id", "country": "currency"}, collapse="last"),
        ),
    )  # fmt: skip
    assert shop.counts("orders")["read"] == len(orders) and shop.counts("order_lines")["read"] == len(lines)
    good = shop.rows("select order_id, ordered_at, amount from stg_orders order by 1")
    assert len({row["order_id"] for row in good}) == len(good)
    kept = {row[0].strip(): row for row in reversed(orders)}
    for row in good:
        assert row["order_id"] in kept and row["ordered_at"] < moment("2030-01-01 00:00")
    amounts = shop.value("select sum(quantity * unit_price) from stg_order_lines")
    assert amounts == shop.value(
        "select sum(amount) from row_counts where entity = 'order_lines' and outcome in ('kept', 'orphaned')"
    )
    assert shop.value(
        "select coalesce(sum(quantity * unit_price), 0) from stg_order_lines semi join stg_orders using (order_id)"
    ) == shop.value(
        "select coalesce(sum(amount), 0) from row_counts where entity = 'order_lines' and outcome = 'kept'"
    ), "what is kept is the revenue"


# --- files ------------------------------------------------------------------------------------------------------------


def test_rendering_twice_gives_the_same_and_writing_twice_changes_nothing(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, orders=ORDERS)
    assert staging.render(mapping) == staging.render(mapping)
    assert len(staging.write(staging.render(mapping), tmp_path)) == len(staging.render(mapping))
    assert staging.write(staging.render(mapping), tmp_path) == []
    changed = staging.write(
        staging.render(mapping_of(tmp_path, events=Part("e", same("event_name", "occurred_at")))), tmp_path
    )
    assert "models/staging/stg_orders__findings.sql" in changed
    assert not (tmp_path / "models/staging/stg_orders__findings.sql").exists(), "what no longer belongs is removed"
    assert "where false" in (tmp_path / "models/staging/stg_orders.sql").read_text()


def test_a_generated_file_edited_by_hand_is_not_overwritten(tmp_path: Path) -> None:
    mapping = mapping_of(tmp_path, orders=ORDERS)
    staging.write(staging.render(mapping), tmp_path)
    path = tmp_path / "models/staging/stg_orders__findings.sql"
    path.write_text(path.read_text() + "-- mine\n")
    (tmp_path / "models/staging/mine.sql").write_text("select 1")
    for files in (staging.render(mapping), staging.render(mapping_of(tmp_path))):
        with pytest.raises(ConfigError) as refused:
            staging.write(files, tmp_path)
        assert str(refused.value) == (
            "edited by hand, but made from mapping.yml: models/staging/stg_orders__findings.sql. Say the same in mapping.yml or in a "
            "model of your own, then delete these files and run again; they are made anew"
        )
    assert path.read_text().endswith("-- mine\n")
    path.unlink()
    staging.write(staging.render(mapping), tmp_path)
    assert (tmp_path / "models/staging/mine.sql").exists()


@pytest.mark.long
def test_dbt_builds_and_tests_what_is_generated(tmp_path: Path) -> None:
    data, project = tmp_path / "data", tmp_path / "shop"
    data.mkdir()
    project.mkdir()
    write(
        data / "orders.csv",
        "order_id,customer_id,order_date,status,total",
        "1,a,2026-01-02,paid,5.00",
        "2,,2026-01-03,paid,x",
        "2,b,2026-01-03,paid,7",
        *(f"{i},c,2026-01-04,paid,7" for i in range(3, 60)),
    )
    write(data / "order_items.csv", "order_id,sku,qty,price", "1,p,1,5", "1,q,0,5", "2,p,1,5")
    write(data / "spend.csv", "date,channel,spend", "2026-01-01,search,5")
    mapping = recognise(profile(data), "../data")
    assert set(mapping.entities) == {"orders", "order_lines", "ad_spend"}
    clock = FixedClock(LOADED_AT)
    with Warehouse(project / "shop.duckdb") as warehouse:
        load(warehouse, mapping.sources(project), clock)
        staging.write(staging.render(mapping, raw_types(warehouse)), project)
    write(
        project / "dbt_project.yml",
        "name: shop",
        "version: '1.0'",
        "profile: shop",
        "flags: {send_anonymous_usage_stats: false}",
    )
    write(
        project / "profiles.yml",
        "shop:",
        "  target: duckdb",
        "  outputs:",
        "    duckdb:",
        "      type: duckdb",
        f"      path: {project / 'shop.duckdb'}",
        "      schema: main",
    )
    write(
        project / "models" / "sources.yml",
        "version: 2",
        "sources:",
        "  - name: headwater",
        "    schema: headwater",
        "    tables:",
        "      - name: file_loads",
        "  - name: collected",
        "    schema: collected",
        "    tables:",
        "      - name: events",
        "      - name: identifies",
    )
    (project / "macros").mkdir()
    write(project / "macros" / "setting.sql", "{% macro setting(name) %}{{ return('EUR') }}{% endmacro %}")
    dbt = Dbt(project, project / "shop.duckdb")
    built = dbt.invoke(["build"])
    assert built.ok, [node for node in built.nodes if node.failed]
    assert built.count("test") > 20
    assert {
        "stg_orders__checked",
        "stg_orders__findings",
        "stg_orders",
        "stg_customers",
        "quarantined_rows",
        "row_counts",
    } <= {n.name for n in built.nodes}
    assert dbt.invoke(["source", "freshness"]).ok
    with Warehouse(project / "shop.duckdb") as warehouse:
        assert warehouse.rows("select entity, file, line, value from quarantined_rows order by all") == [
            {"entity": "order_lines", "file": "order_items.csv", "line": 3, "value": "0"},
            {"entity": "orders", "file": "orders.csv", "line": 3, "value": "x"},
        ]
        assert warehouse.rows("select order_id, customer_id, amount from stg_orders where customer_id <> 'c'") == [
            {"order_id": "1", "customer_id": "a", "amount": Decimal("5.0000")},
            {"order_id": "2", "customer_id": "b", "amount": Decimal("7.0000")},
        ]
        warehouse.execute(
            "update main.row_counts set row_count = row_count - 1 where outcome = 'kept' and entity = 'orders'"
        )
    lost = dbt.invoke(["test", "--select", "staging_counts_conserved"])
    assert not lost.ok, "the test that no row is lost must find a lost row"
