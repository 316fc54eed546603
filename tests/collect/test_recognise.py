"""Recognition: general words, types and keys; no guess where they do not decide."""

import csv
from pathlib import Path

import pytest

from headwater.collect import mapping as mappings
from headwater.collect import vocabulary
from headwater.collect.counts import sentences
from headwater.collect.mapping import Mapping
from headwater.collect.recognise import recognise
from headwater.records.entities import ENTITIES
from headwater.testing.shop import Shop
from headwater.warehouse.files import profile


def write(path: Path, *lines: str) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def propose(folder: Path) -> Mapping:
    return recognise(profile(folder), "here")


def test_a_shop_in_our_own_words_maps_to_itself(tmp_path: Path) -> None:
    Shop(customers=200).write(tmp_path)
    mapping = propose(tmp_path)
    assert mapping.open == ()
    for entity in ENTITIES.values():
        (part,) = mapping.entities[entity.name]
        assert part.fields == {column: column for column in entity.columns}, entity.name
        assert (part.collapse, part.where, part.join) == (None, None, {})
    assert mapping.entities["order_lines"][0].negative_quantity == "refund"


def test_bad_rows_change_nothing_about_the_good_ones(tmp_path: Path, stage) -> None:
    """A dirty shop in CSV is staged to the rows of the clean shop in Parquet, and what is left out says why."""
    clean, dirty = tmp_path / "clean", tmp_path / "dirty"
    Shop(customers=120).write(clean)
    Shop(customers=120, dirty=True).write(dirty, "csv")
    shop = stage(clean, at=Shop.as_of)
    good = {name: set(shop.warehouse.execute(f"select * from stg_{name}").fetchall()) for name in ENTITIES}
    assert shop.rows("select * from quarantined_rows") == []
    shop = stage(dirty, at=Shop.as_of)
    for name, entity in ENTITIES.items():
        staged = set(
            shop.warehouse.execute(f"select * from stg_{name} where not starts_with({entity.key}, 'BAD-')").fetchall()
        )
        assert staged == good[name], name
    reasons = {(r["entity"], r["reason"]) for r in shop.rows("select entity, reason from quarantined_rows")}
    other = "stands in more than one row, and this row says something else than the first"
    assert reasons == {
        ("customers", "customer_id is required and missing"),
        ("customers", f"customer_id {other}"),
        ("customers", "email_opt_in is not yes or no, true or false, 1 or 0"),
        ("customers", "nps_score is not a whole number like 12"),
        ("orders", "order_id is required and missing"),
        ("orders", f"order_id {other}"),
        ("orders", "ordered_at is not a moment like 2026-01-31 18:30:00"),
        ("orders", "ordered_at is required and missing"),
        ("orders", "ordered_at lies in the future, after the day the file was loaded"),
        ("orders", "currency is not a code of ISO 4217"),
        ("order_lines", "quantity is not a whole number like 12"),
        ("order_lines", "unit_price is required and missing"),
        ("events", "event_name is required and missing"),
        ("events", "occurred_at lies in the future, after the day the file was loaded"),
        ("product_prices", "valid_from is not a moment like 2026-01-31 18:30:00"),
        ("ad_spend", "amount is not a number like 12.50"),
    }
    assert shop.counts("customers")["collapsed"] == shop.counts("events")["collapsed"] == 1
    (rejected,) = shop.rows("select file, reason from headwater.file_rejects")
    assert (rejected["file"], "is not UTF-8, while other lines of the file are" in rejected["reason"]) == (
        "customers.csv",
        True,
    )
    said = sentences(shop.rows("select * from row_counts"))
    assert "orders: 1 quarantined (" in "\n".join(said)
    assert said[0].startswith("order_lines: 1 orphaned (") and "ad_spend: 1 quarantined: amount is not" in said[1]


def renamed(source: Path, target: Path) -> None:
    """The same shop with every column called c1 to cn, as text files with neutral names."""
    target.mkdir()
    for number, path in enumerate(sorted(source.glob("*.csv"))):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file))
        rows[0] = [f"c{i}" for i in range(1, len(rows[0]) + 1)]
        with (target / f"table{number}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows(rows)


def test_with_every_column_renamed_nothing_is_guessed(tmp_path: Path, stage) -> None:
    Shop(customers=100).write(tmp_path / "files", "csv")
    renamed(tmp_path / "files", tmp_path / "renamed")
    mapping = propose(tmp_path / "renamed")
    assert mapping.entities == {}
    subjects = [line.subject for line in mapping.open]
    assert {"customers", "orders", "order_lines", "events"} <= set(subjects)
    assert {f"table{n}.csv" for n in range(10)} <= set(subjects)
    text = mappings.text(mapping)
    assert (
        "# OPEN orders: no file was recognised as orders. If one is, name its columns here and take the # away\n"
        "  #orders:\n    #from: table0\n    #fields:\n      #order_id: <column>\n      #customer_id: <column>\n"
        "      #ordered_at: <column>\n"
    ) in text
    shop = stage(tmp_path / "renamed")
    assert {name: shop.value(f"select count(*) from stg_{name}") for name in ENTITIES} == dict.fromkeys(ENTITIES, 0)


def test_a_set_with_renamed_columns_ends_with_open_lines(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "marketing_insights"
    (tmp_path / "files").mkdir()
    for path in source.glob("*.csv"):
        (tmp_path / "files" / path.name).write_bytes(path.read_bytes())
    renamed(tmp_path / "files", tmp_path / "renamed")
    mapping = propose(tmp_path / "renamed")
    assert mapping.entities == {} and [line.subject for line in mapping.open] == [
        *(f"table{n}.csv" for n in range(4)), "customers", "orders", "order_lines", "events",
    ]  # fmt: skip


def test_a_date_that_can_be_read_in_two_ways_is_asked_for(tmp_path: Path) -> None:
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,date,total",
        *(f"{i},c{i % 3},{i % 9 + 1}/{i % 7 + 1}/2025,5" for i in range(40)),
    )
    mapping = propose(tmp_path)
    assert mapping.entities == {}
    (line,) = mapping.open
    assert "      ordered_at: strptime(date, '%m/%d/%Y')" in line.lines
    assert line.sentence == (
        "orders.csv looks like orders, but date (ordered_at) can be read in two ways, and the first stands here; check it and take the # away"
    )
    assert (
        "orders",
        "date of orders.csv can be read in two ways: strptime(date, '%m/%d/%Y') or strptime(date, '%d/%m/%Y')",
    ) in mapping.notes
    write(
        tmp_path / "orders.csv",
        "order_id,customer_id,date,total",
        *(f"{i},c{i % 3},{i % 28 + 1}/{i % 7 + 1}/2025,5" for i in range(40)),
    )
    assert propose(tmp_path).entities["orders"][0].fields["ordered_at"] == "strptime(date, '%d/%m/%Y')"


def test_the_shop_is_in_the_currency_of_most_orders(tmp_path: Path) -> None:
    lines = [f"{i},c{i % 3},2025-01-05,{'gbp' if i % 9 == 0 else 'EUR'},5" for i in range(40)]
    write(tmp_path / "orders.csv", "order_id,customer_id,ordered_at,currency,amount", *lines)
    mapping = propose(tmp_path)
    assert mapping.currency == "EUR"
    assert ("orders", "most orders are in EUR; those in gbp are not converted but quarantined") in mapping.notes


def sales(path: Path, *, shared: int, negative: int, rows: int = 4000) -> None:
    """Lines of `rows // 2` orders, `shared` of them with two customers, `negative` of the quantities below zero."""
    lines = []
    for i in range(rows):
        order, customer = i // 2, f"c{i // 20}"
        if order < shared and i % 2:
            customer = "other"
        lines.append(f"{order},{customer},2025-01-{order % 28 + 1:02d},p{i % 50},{-1 if i < negative else 1},9.99")
    write(path, "invoice no,client,invoice date,sku,qty,price", *lines)


@pytest.mark.parametrize(
    ("shared", "key"),
    [(0, '"invoice no"'), (1, '"invoice no"'), (40, "\"invoice no\" || '-' || client")],
)
def test_the_customer_joins_the_key_where_ids_are_shared(tmp_path: Path, shared: int, key: str) -> None:
    sales(tmp_path / "s.csv", shared=shared, negative=0)
    mapping = propose(tmp_path)
    assert (
        mapping.entities["orders"][0].fields["order_id"] == mapping.entities["order_lines"][0].fields["order_id"] == key
    )


@pytest.mark.parametrize(
    ("negative", "meaning", "asked"), [(0, "quarantine", 0), (2, "quarantine", 1), (80, "refund", 0)]
)
def test_negative_quantities_are_refunds_when_they_are_a_habit(
    tmp_path: Path, negative: int, meaning: str, asked: int
) -> None:
    sales(tmp_path / "s.csv", shared=0, negative=negative)
    mapping = propose(tmp_path)
    assert mapping.entities["order_lines"][0].negative_quantity == meaning
    assert [line.subject for line in mapping.open] == ["order_lines.negative_quantity"] * asked


def test_files_with_the_same_columns_fill_one_entity(tmp_path: Path, stage) -> None:
    for month in (1, 2, 3):
        write(
            tmp_path / f"orders_2025-{month:02d}.csv",
            "order_id,customer_id,ordered_at,amount",
            f"{month},a,2025-{month:02d}-01,5",
        )
    shop = stage(tmp_path)
    assert [part.table for part in shop.mapping.entities["orders"]] == [
        "orders_2025_01",
        "orders_2025_02",
        "orders_2025_03",
    ]
    assert "    from: [orders_2025_01, orders_2025_02, orders_2025_03]\n" in mappings.text(shop.mapping)
    assert shop.value("select string_agg(order_id order by order_id) from stg_orders") == "1,2,3"


def test_lines_with_a_total_and_without_a_price(tmp_path: Path, stage) -> None:
    write(
        tmp_path / "basket.csv",
        "receipt number,user id,purchase date,article id,quantity,line total",
        *(f"{i // 2},u{i // 4},2025-03-{i % 28 + 1:02d},p{i},2,9.00" for i in range(40)),
    )
    shop = stage(tmp_path)
    (part,) = shop.mapping.entities["order_lines"]
    assert part.fields["unit_price"] == 'cast("line total" as decimal(18, 4)) / nullif(cast(quantity as bigint), 0)'
    assert float(shop.value("select sum(quantity * unit_price) from stg_order_lines")) == 360.0
    assert shop.value("select count(*) from stg_orders") == 20


def test_spreadsheet_habits(tmp_path: Path, stage) -> None:
    """Semicolons, decimal commas, German dates, ids that became 17850.0, NA for nobody."""
    lines = [
        f"{i};{'NA' if i % 5 == 0 else f'{100 + i % 7}.0'};{i % 28 + 1:02d}.02.2025;p{i % 3};{i % 4 + 1};{i},50"
        for i in range(1, 60)
    ]
    write(tmp_path / "Export.csv", "Bestellung Invoice;Customer No;Invoice Date;Stock Code;Qty;Unit Price", *lines)
    mapping = propose(tmp_path)
    assert mapping.entities == {}, "no column is named as an order's id"
    write(tmp_path / "Export.csv", "Invoice;Customer No;Invoice Date;Stock Code;Qty;Unit Price", *lines)
    shop = stage(tmp_path)
    assert shop.mapping.entities["order_lines"][0].fields == {
        "order_id": "Invoice", "product_id": '"Stock Code"', "quantity": "Qty",
        "unit_price": "replace(replace(\"Unit Price\", '.', ''), ',', '.')",
    }  # fmt: skip
    assert shop.mapping.entities["orders"][0].fields == {
        "order_id": "Invoice", "customer_id": "split_part(nullif(\"Customer No\", 'NA'), '.', 1)",
        "ordered_at": "strptime(\"Invoice Date\", '%d.%m.%Y')",
    }  # fmt: skip
    assert shop.value("select count(*) from stg_orders where customer_id is null") == 11
    assert (
        shop.value("select string_agg(distinct customer_id order by customer_id) from stg_orders")
        == "100,101,102,103,104,105,106"
    )
    assert float(shop.value("select sum(unit_price) from stg_order_lines")) == sum(i + 0.5 for i in range(1, 60))


def test_values_decide_as_well_as_names(tmp_path: Path) -> None:
    """A column called email without addresses, a quantity in words: the name alone is not enough."""
    write(
        tmp_path / "customers.csv",
        "customer_id,email,nps,birthday",
        *(f"{i},yes,{i * 10},1980-01-01" for i in range(30)),
    )
    (part,) = propose(tmp_path).entities["customers"]
    assert part.fields == {"customer_id": "customer_id"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("CustomerID", "customer id"), ("Customer ID", "customer id"), ("customer-id", "customer id"), ("CUSTOMER_ID", "customer id"),
        ("visitorid", "visitor id"), ("orderNumber", "order number"), ("InvoiceDate", "invoice date"), ("c1", "c 1"), ("Größe", "gr e"),
    ],
)  # fmt: skip
def test_names_are_cut_into_words(name: str, expected: str) -> None:
    assert " ".join(vocabulary.words(name)) == expected


def test_vocabulary_covers_every_field_and_names_no_data_set() -> None:
    for entity in ENTITIES.values():
        assert set(vocabulary.FIELDS[entity.name]) == set(entity.columns)
        for field, names in vocabulary.FIELDS[entity.name].items():
            own = vocabulary.rank(field, names, vocabulary.CONTEXT[entity.name])
            assert own is not None, f"{entity.name}.{field} does not know its own name"
    source = "".join(path.read_text() for path in Path(vocabulary.__file__).parent.glob("*.py")).lower()
    for name in (
        "olist",
        "cdnow",
        "rees46",
        "retailrocket",
        "diginetica",
        "hillstrom",
        "marketing_insights",
        "online_retail",
        "masterid",
    ):
        assert name not in source
