"""The synthetic shop: the same seed gives the same shop, its references resolve, and it behaves like a shop."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from headwater.records.entities import ENTITIES
from headwater.testing.shop import Shop
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
    # the order may differ from the entity's only where a file reads better; the set may not
    assert set(columns) == set(ENTITIES[entity].columns)
    assert len(columns) == len(ENTITIES[entity].columns)


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
