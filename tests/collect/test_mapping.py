"""`mapping.yml`: what is written is read back, and all that is wrong with a file is said at once."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.collect import mapping as mappings
from headwater.collect.mapping import FURTHER, FileEntry, Mapping, OpenLine, Part, SeedSource
from headwater.errors import ConfigError
from headwater.records.files import FileSource

FULL = Mapping(
    folder="../exports",
    files={
        "sales": FileEntry("Sales 2025.csv", ";", "latin-1"),
        "sales_2": FileEntry("Sales 2026.csv"),
        "people": FileEntry("people.parquet"),
        "scores": FileEntry("scores.csv"),
    },
    mask={"people.e-mail": "hash", "sales.note": "drop"},
    mql_score=SeedSource("scores", "event name", "points"),
    entities={
        "customers": (Part("people", {"customer_id": "id", "email": '"e-mail"'}, where="kind <> 'test'", collapse="last", by="seen"),),
        "orders": (
            Part("sales", {"order_id": "sale || '-' || person", "ordered_at": "strptime(day, '%d.%m.%Y')"}),
            Part("sales_2", {"order_id": "sale || '-' || person", "ordered_at": "strptime(day, '%d.%m.%Y')"}),
        ),
        "order_lines": (
            Part(
                "sales", {"order_id": "sale", "quantity": "1", "unit_price": "people.price"},
                join={"people": "sales.person = people.id"}, negative_quantity="refund",
            ),
        ),
    },
)  # fmt: skip


def test_written_and_read_back(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yml"
    mappings.write(FULL, path)
    assert mappings.read(path) == FULL
    assert path.read_text() == (
        """\
# Which columns of your files are what. Made by `headwater init`, yours to edit; `headwater run` reads it again.
# Each field is an SQL expression (DuckDB) over the columns of its file.
folder: ../exports
files:
  sales: {path: Sales 2025.csv, delimiter: ;, encoding: latin-1}
  sales_2: Sales 2026.csv
  people: people.parquet
  scores: scores.csv
mask:
  people.e-mail: hash
  sales.note: drop
mql_score: {from: scores, event_name: event name, mql_score: points}
entities:
  customers:
    from: people
    where: kind <> 'test'
    collapse: last
    by: seen
    fields:
      customer_id: id
      email: '"e-mail"'
  orders:
    from: [sales, sales_2]
    fields:
      order_id: sale || '-' || person
      ordered_at: strptime(day, '%d.%m.%Y')
  order_lines:
    from: sales
    join:
      people: sales.person = people.id
    negative_quantity: refund
    fields:
      order_id: sale
      quantity: 1
      unit_price: people.price
"""
    )


def test_open_lines_stand_as_comments_that_can_be_taken_in(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yml"
    line = OpenLine(
        "orders",
        "no column says when; fill in",
        ("  orders:", "    from: sales", "    fields:", "      order_id: sale", "      ordered_at: <column>"),
    )
    mappings.write(
        Mapping(files={"sales": FileEntry("s.csv")}, notes=(("orders", "one row each"),), open=(line,)), path
    )
    text = path.read_text()
    assert text.endswith(
        "entities:\n\n# one row each\n# OPEN orders: no column says when; fill in\n"
        "  #orders:\n    #from: sales\n    #fields:\n      #order_id: sale\n      #ordered_at: <column>\n"
    )
    assert mappings.read(path).entities == {}
    path.write_text(text.replace("<column>", "day").replace("  #", "  "))
    assert mappings.read(path).entities["orders"][0].fields == {"order_id": "sale", "ordered_at": "day"}


def test_open_lines_stand_where_they_belong(tmp_path: Path) -> None:
    """Keys of a part under that part, a further part of an entity behind its others."""
    path = tmp_path / "mapping.yml"
    parts = tuple(Part(table, {"order_id": "id", "ordered_at": day}) for table, day in (("a", "x"), ("b", "y")))
    lines = (
        OpenLine("orders.where", "some were cancelled", ("where: status <> 'cancelled'",), "b"),
        OpenLine("orders", "c looks like orders", ("    - from: c", "      fields:", "        order_id: id", "        ordered_at: z"), FURTHER),
    )  # fmt: skip
    files = {name: FileEntry(f"{name}.csv") for name in "abc"}
    mappings.write(Mapping(files=files, entities={"orders": parts}, open=lines), path)
    text = path.read_text()
    assert "        ordered_at: y\n      # OPEN orders.where: some were cancelled\n      #where: status" in text
    assert mappings.read(path).entities["orders"] == parts
    path.write_text(text.replace("  #", "  ").replace("   OPEN", "  # OPEN"))
    first, second, third = mappings.read(path).entities["orders"]
    assert (first, second.where) == (parts[0], "status <> 'cancelled'")
    assert (third.table, third.fields["ordered_at"]) == ("c", "z")


@given(
    st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30).map(
        lambda name: '"' + name.replace('"', '""') + '"'
    )
)
def test_any_column_name_survives_yaml(tmp_path_factory: pytest.TempPathFactory, column: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yml"
    mapping = Mapping(files={"t": FileEntry("t.csv")}, entities={"customers": (Part("t", {"customer_id": column}),)})
    mappings.write(mapping, path)
    assert mappings.read(path) == mapping


def test_all_problems_at_once(tmp_path: Path) -> None:
    path = tmp_path / "mapping.yml"
    path.write_text(
        """\
folders: x
files:
  Sales: s.csv
  people: [1]
mask:
  sale.email: hash
  people.mail: hide
mql_score: {from: scores}
entities:
  custmers: {from: people}
  customers:
    from: peple
    collapse: newest
    fields: {customer_id: id, emial: mail}
  orders:
    - from: people
      negative_quantity: refund
      join: {people: people.a > 3}
      fields: {order_id: "select 1", ordered_at: sum(day), status: "a b c", amount: 'x; drop table y'}
  order_lines: {from: people, fields: {order_id: id}}
"""
    )
    with pytest.raises(ConfigError) as wrong:
        mappings.read(path)
    assert str(wrong.value).splitlines() == [
        f"{path} has 20 problem(s):",
        "  folders: no such key; did you mean 'folder'?",
        "  files.Sales: a raw table is named in lower case letters, digits and _",
        "  files.people: found [1], expected a file name or {path, delimiter, encoding}",
        "  entities.custmers: there is no such entity; did you mean 'customers'?",
        "  entities.customers.from: there is no file named 'peple' under files; did you mean 'people'?",
        "  entities.customers.fields.emial: customers has no such column; did you mean 'email'?",
        "  entities.customers.collapse: found 'newest', expected first or last",
        "  entities.orders[1].fields.order_id: found 'select 1'; a query cannot stand here, expected an expression over one row's columns",
        "  entities.orders[1].fields.ordered_at: found 'sum(day)'; an aggregate cannot stand here, expected an expression over one row's columns",
        "  entities.orders[1].fields.status: found 'a b c', which is not SQL: Invalid expression / Unexpected token. Line 1, Col: 5. "
        "If that is the name of a column, put it in quotes: '\"a b c\"'",
        "  entities.orders[1].fields.amount: found 'x; drop table y', expected one expression over the file's columns",
        "  entities.orders[1].join.people: found 'people.a > 3', expected equalities like `orders.person = people.id`, joined by `and`, each with a column of people",
        "  entities.orders[1].negative_quantity: only order_lines have a quantity",
        "  entities.order_lines.fields.quantity: missing and required; add the line `quantity: <SQL over the file's columns>`",
        "  entities.order_lines.fields.unit_price: missing and required; add the line `unit_price: <SQL over the file's columns>`",
        "  mask.sale.email: there is no file named 'sale' under files; did you mean 'Sales'?",
        "  mask.people.mail: found 'hide', expected one of hash, constant, drop",
        "  mql_score.event_name: found None, expected a name",
        "  mql_score.mql_score: found None, expected a name",
        "  mql_score.from: there is no file named 'scores' under files; there are: Sales, people",
    ]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("entities: {orders: [", "is not valid YAML: "),
        (
            "files: {a: a.csv}\nfiles: {b: b.csv}\n",
            "the key 'files' stands there already, in line 1; put both together under one",
        ),
        ("[]\n- 1", "is not valid YAML: "),
        ("- 1\n", "found list, expected the keys folder, files, mask, entities, mql_score"),
    ],
)
def test_what_is_no_mapping_is_said(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "mapping.yml"
    path.write_text(text)
    with pytest.raises(ConfigError) as wrong:
        mappings.read(path)
    assert sentence in str(wrong.value)


def test_a_missing_mapping_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as missing:
        mappings.read(tmp_path / "mapping.yml")
    assert str(missing.value) == (
        f"{tmp_path / 'mapping.yml'} does not exist; it says which columns of your files are what. "
        "Make it with `headwater init NAME --from FOLDER`"
    )


def test_sources_name_the_columns_and_masks_of_each_file(tmp_path: Path) -> None:
    assert FULL.sources(tmp_path / "shop") == {
        "sales": FileSource(
            tmp_path / "exports" / "Sales 2025.csv",
            "Sales 2025.csv",
            {"note": "drop"},
            ("sale", "person", "day"),
            ";",
            "latin-1",
            ("sale", "person", "day"),
        ),
        "sales_2": FileSource(
            tmp_path / "exports" / "Sales 2026.csv",
            "Sales 2026.csv",
            {},
            ("sale", "person", "day"),
            needed=("sale", "person", "day"),
        ),
        "people": FileSource(
            tmp_path / "exports" / "people.parquet",
            "people.parquet",
            {"e-mail": "hash"},
            ("id", "e-mail", "kind", "seen", "price"),
            needed=("id", "kind", "price"),
        ),
    }
    assert FULL.masked_fields() == {"email"}
    assert FULL.seed(tmp_path / "shop") == (
        tmp_path / "exports" / "scores.csv", {"event_name": "event name", "mql_score": "points"}
    )  # fmt: skip
