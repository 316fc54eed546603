"""The online retailer's database: the same seed does the same, everything refers to what is there, and it can be read by us."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from headwater.testing.feed import ADDRESSES, CUSTOMERS, ORDERS, OTHERS, PRODUCTS, SCHEMA, TABLES, Feed, load
from headwater.testing.postgres import Server


@pytest.fixture
def shops(logical_postgres: Server) -> Iterator[list[psycopg.Connection[Any]]]:
    """Two databases with the sample rows of the same seed."""
    with psycopg.connect(logical_postgres.url, autocommit=True) as root:
        made = []
        for name in ("feed_one", "feed_two"):
            root.execute(f"create database {name}".encode())
            shop = psycopg.connect(logical_postgres.address(name), autocommit=True)
            shop.execute(SCHEMA.encode())
            assert load(shop, seed=3) > CUSTOMERS + ADDRESSES + PRODUCTS + ORDERS
            assert load(shop, seed=3) == 0
            made.append(shop)
        yield made
        for shop in made:
            shop.close()
        for name in ("feed_one", "feed_two"):
            root.execute(f"drop database {name} with (force)".encode())


def rows(shop: psycopg.Connection[Any], table: str) -> list[tuple[Any, ...]]:
    columns = "orderid, customerid, status" if table == "orders" else "*"
    return shop.execute(f"select {columns} from {table} order by 1".encode()).fetchall()


def test_the_same_seed_does_the_same_and_every_kind_of_change_happens(shops: list[psycopg.Connection[Any]]) -> None:
    feeds = [Feed(shop, seed=5) for shop in shops]
    for _ in range(250):
        assert feeds[0].step() == feeds[1].step()
    assert set(feeds[0].done) == {"order", *OTHERS}
    for table in TABLES:
        assert rows(shops[0], table) == rows(shops[1], table), table
    orphans = "select count(*) from customers as c where not exists (select 1 from addresses as a where a.addressid = c.{}_address_id)"
    for role in ("shipping", "billing"):
        assert shops[0].execute(orphans.format(role).encode()).fetchone() == (0,)
    assert shops[0].execute("select count(*) from customers where email not like '%@customers.example'").fetchone() == (
        0,
    )


def test_only_orders_means_inserts_alone_and_ids_go_on_where_they_were(shops: list[psycopg.Connection[Any]]) -> None:
    shop = shops[0]
    before = {table: set(rows(shop, table)) for table in TABLES}
    first = Feed(shop, seed=1, only_orders=True)
    for _ in range(5):
        first.step()
    Feed(shop, seed=1, only_orders=True).step()
    for table in TABLES:
        assert before[table] <= set(rows(shop, table)), table
    assert [row[0] for row in rows(shop, "orders")][-6:] == [3000, 3001, 3002, 3003, 3004, 3005]
