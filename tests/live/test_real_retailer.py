"""The published sample of the online retailer, row for row: what the data products make of it, and that nothing of it is lost."""

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest
from retail_database import KEYS, TABLES, Database, Row
from retail_shop import Reference, Retail

SETS = Path(__file__).resolve().parents[3] / "shared" / "data" / "online_retailer_postgres"
FILES = {
    "customers": "customers", "addresses": "address", "products": "products", "orders": "orders", "order_items": "order_items"
}  # fmt: skip


def rows(table: str) -> Iterator[Row]:
    """The sample as it reaches Postgres; the e-mail addresses masked."""
    with (SETS / f"{FILES[table]}_sample_data.csv").open(newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            row: Row = {name.lower(): value for name, value in line.items()}
            for name, kind in TABLES[table].items():
                if kind == "integer":
                    row[name] = int(row[name])
                if kind == "timestamp":
                    row[name] = row[name].replace(" ", "T") + "Z"
            if "email" in row:
                row["email"] = "****"
            yield row


def test_the_sample_comes_out_as_it_went_in(retail_home: Path, tmp_path: Path) -> None:
    if not SETS.is_dir():
        pytest.skip(f"the sample of the online retailer is not at {SETS}; it comes with the shared data")
    db, reference = Database(), Reference()
    entries = [db.schema(table) for table in TABLES]
    for table in TABLES:
        for row in rows(table):
            db.rows[table][row[KEYS[table]]] = row
    entries += db.snapshot("first")
    reference.take(entries)
    retail = Retail(tmp_path / "shop", retail_home)
    batches = retail.settle(*entries)
    assert sum(batch.landed.changes for batch in batches) == len(entries) == 50 + 80 + 296 + 50 + 149 + len(TABLES) + 2
    expected = reference.products(retail.as_of)
    assert retail.products() == expected
    assert retail.wrong() == []
    counts = {name: len(found) for name, found in expected.items()}
    assert counts == {
        "enriched_customers": 50, "products_with_pk": 296, "product_sales": 149, "excluded_sales": 0, "thirty_day_customer_snapshot": 50
    }  # fmt: skip
    cents = retail.rows("select count(*) from main.product_sales where price <> cast(price as integer)")[0][0]
    assert cents == 78  # what an integer price would have lost
    total = sum((sale[-1] for sale in expected["product_sales"]), Decimal(0))
    assert retail.rows("select sum(total_amount) from main.product_sales") == [(total,)]
    retail.close()
