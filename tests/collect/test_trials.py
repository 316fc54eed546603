"""Expressions of a mapping are tried upon the files: what cannot be computed is said by its place in mapping.yml."""

from pathlib import Path

import pytest

from headwater.clock import SystemClock
from headwater.collect import trials
from headwater.collect.mapping import FileEntry, Mapping, Part
from headwater.warehouse import Warehouse
from headwater.warehouse.files import load, raw_types

TEXT = ". The columns of a CSV file are text: convert them first, like cast({0} as decimal(18, 4)) or strptime({0}, '%d.%m.%Y')"
TEXT_WHEN = TEXT.format('"when"')


@pytest.fixture
def shop(tmp_path: Path) -> Warehouse:
    (tmp_path / "sales.csv").write_text(
        "id,when,einzelpreis,State,Preis (EUR),who\n1,1767261600,119,x,5,a\n2,99999999999999999,119,y,6,b\n"
    )
    (tmp_path / "people.csv").write_text("id,mail\na,a@example.com\n")
    warehouse = Warehouse(":memory:")
    load(warehouse, {name: tmp_path / f"{name}.csv" for name in ("sales", "people")}, SystemClock())
    return warehouse


def tried(shop: Warehouse, entity: str, *parts: Part) -> list[str]:
    files = {name: FileEntry(f"{name}.csv") for name in ("sales", "people")}
    return trials.problems(Mapping(files=files, entities={entity: parts}), raw_types(shop), shop.refusal)


FINE = {"order_id": "id", "quantity": "1", "unit_price": "einzelpreis"}


@pytest.mark.parametrize(
    ("field", "written", "said"),
    [
        ("unit_price", "einzelpreis * 100 / 119", "No function matches the given name and argument types '*(VARCHAR, INTEGER_LITERAL)'"
            f". You might need to add explicit type casts{TEXT.format('einzelpreis')}"),
        ("product_id", "lowr(State)", "Scalar Function with name lowr does not exist! Did you mean \"lower\"?"),
        ("product_id", "Preis (EUR)", "Scalar Function with name preis does not exist! Did you mean \"decode\"?"
            ". The file has a column of that name: put it in quotes, '\"Preis (EUR)\"'"),
        ("product_id", "make_date(cast(\"when\" as bigint), 1, 1)", None),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_computed_is_named(shop: Warehouse, field: str, written: str, said: str | None) -> None:
    (sentence,) = tried(shop, "order_lines", Part("sales", FINE | {field: written}))
    start = f"mapping.yml: order_lines.{field}: found {written!r}, which cannot be computed; DuckDB says: "
    assert sentence.startswith(start)
    if said is not None and "decode" not in said:
        assert sentence == start + said
    elif said is not None:
        assert sentence.endswith(said.partition("?")[2])
    else:
        assert "out of range" in sentence, "what binds and stops at a value is found by computing it"


def test_joins_conditions_and_each_of_several_parts_are_tried(shop: Warehouse) -> None:
    orders = Part("sales", {"order_id": "id", "ordered_at": 'to_timestamp("when")'}, where="lowr(State) = 'x'")
    joined = Part(
        "sales", {"order_id": "people.mail", "ordered_at": '"when"'}, join={"people": "nope(sales.who) = people.id"}
    )
    by = Part("sales", {"order_id": "id", "ordered_at": '"when"'}, collapse="last", by="lower(id) + nope(id)")
    found = tried(shop, "orders", orders, joined, by)
    assert [sentence.split(": ")[1] for sentence in found] == [
        "orders[1].where", "orders[1].ordered_at", "orders[2].join", "orders[3].by",
    ]  # fmt: skip
    assert found[1].endswith(f"'to_timestamp(VARCHAR)'. You might need to add explicit type casts{TEXT_WHEN}")


def test_what_can_be_computed_is_left_alone(shop: Warehouse) -> None:
    cast = 'to_timestamp(cast("when" as double) % 1000000)'
    good = FINE | {"unit_price": "cast(einzelpreis as decimal(18, 4)) * 100 / 119", "product_id": '"Preis (EUR)"'}
    assert tried(shop, "order_lines", Part("sales", good, where="cast(id as int) > 1")) == []
    assert tried(shop, "orders", Part("sales", {"order_id": "id", "ordered_at": cast, "amount": "'many'"})) == []
