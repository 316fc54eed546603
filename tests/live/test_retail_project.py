"""The ready project of the online retailer: every column is described as it is, and the rule of what came before is kept."""

import json
from decimal import Decimal
from pathlib import Path

import pytest
import retail_shop
from retail_database import Database
from retail_shop import Retail
from test_data_products import customer, product

from headwater.live import contents
from headwater.live.project import TARGET
from headwater.warehouse import Warehouse


def test_every_column_is_described_with_its_type(retail_home: Path, tmp_path: Path) -> None:
    manifest = json.loads((retail_home / TARGET / "manifest.json").read_text())
    models = [node for node in manifest["nodes"].values() if node["resource_type"] == "model"]
    assert len(models) == 19
    with Warehouse(retail_home / "warehouse" / "shop.duckdb", read_only=True) as w:
        for model in models:
            held = contents.types(w, f"main.{model['name']}")
            told = {name: column["data_type"].upper() for name, column in model["columns"].items()}
            assert {name: kind.upper() for name, kind in held.items()} == told, model["name"]
            assert model["description"].startswith("One row per"), model["name"]
            assert all(column["description"] for column in model["columns"].values()), model["name"]


@pytest.mark.long
@pytest.mark.parametrize(
    ("rule", "sold", "excluded"),
    [
        ("null", [(10, None, None), (20, "P1", Decimal("59.99"))], []),
        ("drop", [(20, "P1", Decimal("59.99"))], [(10, "the product was not known at the time")]),
    ],
)
def test_an_order_before_the_first_version(rule: str, sold: list, excluded: list, tmp_path: Path) -> None:
    retail_shop.build(tmp_path / "home", before_first=rule)
    retail = Retail(tmp_path / "shop", tmp_path / "home")
    db = Database()
    order = {"customerid": 1, "status": "Pending"}
    early = db.put("orders", {**order, "orderid": 1, "orderdate": "2026-03-01T11:59:59Z"})
    late = db.put("orders", {**order, "orderid": 2, "orderdate": "2026-03-01T12:00:00Z"})
    items = [
        db.put("order_items", {"orderitemid": 10 * number, "orderid": number, "productid": 1, "quantity": 1})
        for number in (1, 2)
    ]
    retail.settle(early, late, *items, db.put("customers", customer(1)), db.put("products", product(1)))
    assert retail.rows("select orderitemid, productname, price from main.product_sales order by 1") == sold
    assert retail.rows("select orderitemid, excluded_because from main.excluded_sales order by 1") == excluded
    assert retail.wrong() == []
    retail.close()
