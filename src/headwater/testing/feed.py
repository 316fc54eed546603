"""An online retailer's database that lives: five tables, sample rows, then an order a second and all that happens beside it.

    prepare     database, tables, roles, publication: what an administrator makes; the slot is left to `headwater cdc setup --apply`
    load        50 customers, 80 addresses, 296 products, 50 orders with their items, made from a seed
    Feed.step   an order with 1 to 5 items; and by chance a change of price, address, customer, status or key, or a delete
    run         steps at a rate until told to stop

The same seed on the same rows gives the same transactions; only `now()` differs. Everybody is invented, and every e-mail
address ends in `.example`.
"""

import random
import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from headwater.testing.postgres import Server
from headwater.testing.shop_catalogue import BRANDS, CATEGORIES, STYLES, THINGS
from headwater.testing.shop_people import FIRST_NAMES, LAST_NAMES, STREETS

if TYPE_CHECKING:
    import psycopg

DATABASE, ANALYTICS = "onlinestoredb", "analytics"
CUSTOMERS, ADDRESSES, PRODUCTS, ORDERS = 50, 80, 296, 50
FIRST_ORDER, FIRST_ITEM = 3000, 9000
TABLES = ("customers", "addresses", "products", "orders", "order_items")
SCHEMA = """
create table products (
    productid int primary key, brand varchar(255) not null, productname varchar(255) not null, category varchar(100) not null,
    description text, color varchar(50), size varchar(50), price decimal(10,2) not null, stock int not null
);
create table customers (
    customerid int primary key, customername varchar(255) not null, email varchar(255) not null unique,
    segment varchar(50) not null, shipping_address_id varchar(255) not null, billing_address_id varchar(255) not null
);
create table addresses (
    addressid varchar(255) primary key, street varchar(255) not null, city varchar(255) not null unique,
    state varchar(50) not null, postalcode varchar(255) not null, country varchar(255) not null
);
create table orders (
    orderid int primary key, customerid int not null references customers (customerid),
    orderdate timestamp default current_timestamp, status varchar(50) not null
);
create table order_items (
    orderitemid int primary key, orderid int not null references orders (orderid),
    productid int not null references products (productid), quantity int not null
);
"""
SEGMENTS = ("Premium", "Regular", "New")
STATES = ("Vermont", "Hawaii", "Oregon", "Texas", "Maine", "Ohio", "Nevada", "Iowa", "Utah", "Georgia")
COLORS = ("Blue", "Gray", "Black", "Green", "Red", "White")
SIZES = ("S", "M", "L", "XL", "32x32", "One Size")
_TOWNS = ("haven", "mouth", "bury", "ford", "view", "ton", "field", "port", "wick", "dale")

OTHERS = {
    "complete": 0.30, "price": 0.15, "address": 0.10, "move": 0.10, "customer": 0.08, "new_customer": 0.05, "quantity": 0.05,
    "late_order": 0.03, "cancel": 0.03, "new_product": 0.02, "withdraw": 0.02, "rename_address": 0.02, "delete_customer": 0.02,
}  # fmt: skip
"""What may happen beside an order, and with which probability after each order."""


def prepare(server: Server, *, source: str | None = None, publication: str = "headwater") -> dict[str, str]:
    """Make the database, its tables, its rows' readers and writers, where they are not there yet; the addresses, by the name of
    the environment variable that the template `online-retailer` reads. `source`: make its slot too, which the reader's role may
    make itself."""
    import psycopg  # noqa: PLC0415 (an extra)

    with psycopg.connect(server.url, autocommit=True) as root:
        for name in (DATABASE, ANALYTICS):
            if not _any(root, "select 1 from pg_database where datname = %s", name):
                root.execute(f"create database {name}".encode())
        for name, rights in (("headwater", "login replication"), ("headwater_sink", "login")):
            if not _any(root, "select 1 from pg_roles where rolname = %s", name):
                root.execute(f"create role {name} {rights}".encode())
    with psycopg.connect(server.address(ANALYTICS), autocommit=True) as analytics:
        analytics.execute("grant all on schema public to headwater_sink")
    with psycopg.connect(server.address(DATABASE), autocommit=True) as shop:
        if not _any(shop, "select 1 from pg_tables where schemaname = 'public' and tablename = %s", "orders"):
            shop.execute(SCHEMA.encode())
        shop.execute("create table if not exists headwater_heartbeat (id integer primary key, beat_at timestamptz)")
        shop.execute("insert into headwater_heartbeat values (1, now()) on conflict do nothing")
        shop.execute(f"grant select on {', '.join(TABLES)} to headwater".encode())
        shop.execute("grant select, update on headwater_heartbeat to headwater")
        shop.execute("grant all on schema public to headwater_sink")
        if not _any(shop, "select 1 from pg_publication where pubname = %s", publication):
            shop.execute(
                f"create publication {publication} for table {', '.join(TABLES)}, headwater_heartbeat".encode()
            )
        slot = f"headwater_{source}"
        if source and not _any(shop, "select 1 from pg_replication_slots where slot_name = %s", slot):
            shop.execute("select pg_create_logical_replication_slot(%s, 'pgoutput')", [slot])
    return {
        "RETAIL_DATABASE": server.address(DATABASE, "headwater"),
        "RETAIL_SINK": server.address(DATABASE, "headwater_sink"),
        "ANALYTICS_DATABASE": server.address(ANALYTICS, "headwater_sink"),
    }


def load(connection: "psycopg.Connection[Any]", seed: int = 1) -> int:
    """Put the sample rows into empty tables; how many. Does nothing where there are rows."""
    if _any(connection, "select 1 from customers limit 1"):
        return 0
    draw = random.Random(f"{seed}:load")  # noqa: S311 (dice)
    addresses = [(f"A{number}", *_address(draw, number)) for number in range(1, ADDRESSES + 1)]
    customers = [
        (number, *_customer(draw, number), f"A{draw.randint(1, ADDRESSES)}", f"A{draw.randint(1, ADDRESSES)}")
        for number in range(1, CUSTOMERS + 1)
    ]
    products = [(number, *_product(draw, number)) for number in range(1, PRODUCTS + 1)]
    began = datetime.now(UTC).replace(tzinfo=None, microsecond=0) - timedelta(days=ORDERS)
    orders = [
        (
            number,
            draw.randint(1, CUSTOMERS),
            began + timedelta(days=number, minutes=draw.randint(-600, 0)),
            draw.choice(_STATUS),
        )
        for number in range(1, ORDERS + 1)
    ]
    items = []
    for order in orders:
        for _ in range(draw.randint(1, 5)):
            items.append((158 + len(items), order[0], draw.randint(1, PRODUCTS), draw.randint(1, 10)))
    rows = {
        "customers": customers,
        "addresses": addresses,
        "products": products,
        "orders": orders,
        "order_items": items,
    }
    with connection.transaction():
        for table, lines in rows.items():
            with connection.cursor().copy(f"copy {table} from stdin".encode()) as copy:
                for line in lines:
                    copy.write_row(line)
    connection.execute("analyze")  # so that whoever asks how many rows there are about is told
    return sum(len(lines) for lines in rows.values())


@dataclass
class Feed:
    """What happens in the shop. `only_orders`: nothing but inserts. `done`: how often each thing happened."""

    connection: "psycopg.Connection[Any]"
    seed: int = 1
    only_orders: bool = False
    done: dict[str, int] = field(default_factory=dict)
    _next_order: int = field(default=FIRST_ORDER, init=False)
    _item: int = field(default=FIRST_ITEM, init=False)
    _fresh: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._draw = random.Random(f"{self.seed}:{self._number()}")  # noqa: S311 (dice)

    def go_on(self, connection: "psycopg.Connection[Any]") -> None:
        """Go on over another connection when the one before was lost; what was under way may have happened or not."""
        self.connection = connection
        self._number()

    def _number(self) -> int:
        """Number on from the rows that are there, and never from less than before; the next order."""
        top = self._one("select coalesce(max(orderid), 0) from orders")
        self._next_order = max(self._next_order, top + 1)
        self._item = max(self._item, self._one("select coalesce(max(orderitemid), 0) from order_items") + 1)
        self._fresh = max(self._fresh, self._one("select count(*) from addresses") + self._next_order)
        return self._next_order

    def step(self) -> list[str]:
        """An order, and what else happens to happen, each in a transaction of its own; what it was."""
        happens = [] if self.only_orders else [what for what, chance in OTHERS.items() if self._draw.random() < chance]
        for what in ("order", *happens):
            with self.connection.transaction():
                getattr(self, f"_{what}")()
            self.done[what] = self.done.get(what, 0) + 1
        return ["order", *happens]

    # ------------------------------------------------------------------ what happens

    def _order(self, late: timedelta = timedelta(0)) -> bool:
        customer = self._any_id("customers", "customerid")
        status = self._draw.choice(_STATUS)
        self._run(
            "insert into orders values (%s, %s, localtimestamp - %s, %s)", self._next_order, customer, late, status
        )
        for _ in range(self._draw.randint(1, 5)):
            product = self._any_id("products", "productid")
            self._run(
                "insert into order_items values (%s, %s, %s, %s)",
                self._item,
                self._next_order,
                product,
                self._draw.randint(1, 10),
            )
            self._item += 1
        self._next_order += 1
        return True

    def _late_order(self) -> bool:
        return self._order(timedelta(minutes=self._draw.randint(1, 60 * 24 * 20)))

    def _complete(self) -> bool:
        return self._run(
            "update orders set status = 'Completed' where orderid = (select orderid from orders where status = 'Pending' order by orderid desc limit 1)"
        )

    def _price(self) -> bool:
        factor = Decimal(self._draw.choice(("0.80", "0.90", "0.95", "1.05", "1.10", "1.25")))
        product = self._any_id("products", "productid")
        return self._run(
            "update products set price = greatest(round(price * %s, 2), 0.99) where productid = %s", factor, product
        )

    def _address(self) -> bool:
        address = self._any_id("addresses", "addressid")
        if self._draw.random() < 0.3:
            self._fresh += 1
            return self._run(
                "update addresses set city = %s where addressid = %s", _city(self._draw, self._fresh), address
            )
        street = f"{self._draw.randint(1, 9999)} {self._draw.choice(STREETS)}"
        return self._run("update addresses set street = %s where addressid = %s", street, address)

    def _move(self) -> bool:
        role = self._draw.choice(("shipping", "billing"))
        address, customer = self._any_id("addresses", "addressid"), self._any_id("customers", "customerid")
        return self._run(f"update customers set {role}_address_id = %s where customerid = %s", address, customer)

    def _customer(self) -> bool:
        customer = self._any_id("customers", "customerid")
        if self._draw.random() < 0.5:
            return self._run(
                "update customers set segment = %s where customerid = %s", self._draw.choice(SEGMENTS), customer
            )
        name, email, _ = _customer(self._draw, customer)
        return self._run(
            "update customers set customername = %s, email = %s where customerid = %s",
            name,
            f"{self._next_order}.{email}",
            customer,
        )

    def _new_customer(self) -> bool:
        number = self._one("select coalesce(max(customerid), 0) + 1 from customers")
        addresses = [self._any_id("addresses", "addressid") for _ in range(2)]
        name, email, segment = _customer(self._draw, number)
        return self._run(
            "insert into customers values (%s, %s, %s, %s, %s, %s)",
            number,
            name,
            f"{self._next_order}.{email}",
            segment,
            *addresses,
        )

    def _delete_customer(self) -> bool:
        customer = self._any_id("customers", "customerid")
        if self._one("select count(*) from customers") <= CUSTOMERS // 2:
            return False
        self._run(
            "delete from order_items where orderid in (select orderid from orders where customerid = %s)", customer
        )
        self._run("delete from orders where customerid = %s", customer)
        return self._run("delete from customers where customerid = %s", customer)

    def _quantity(self) -> bool:
        item = self._any_id("order_items", "orderitemid")
        if self._draw.random() < 0.3:
            return self._run("delete from order_items where orderitemid = %s", item)
        return self._run("update order_items set quantity = %s where orderitemid = %s", self._draw.randint(1, 10), item)

    def _cancel(self) -> bool:
        order = self._any_id("orders", "orderid")
        self._run("delete from order_items where orderid = %s", order)
        return self._run("delete from orders where orderid = %s", order)

    def _new_product(self) -> bool:
        number = self._one("select coalesce(max(productid), 0) + 1 from products")
        return self._run(
            "insert into products values (%s, %s, %s, %s, %s, %s, %s, %s, %s)", number, *_product(self._draw, number)
        )

    def _withdraw(self) -> bool:
        return self._run(
            "delete from products where productid = (select productid from products as p where not exists "
            "(select 1 from order_items as i where i.productid = p.productid) order by productid limit 1)"
        )

    def _rename_address(self) -> bool:
        old = self._any_id("addresses", "addressid")
        self._fresh += 1
        new = f"A{self._fresh}"
        for role in ("shipping", "billing"):
            self._run(f"update customers set {role}_address_id = %s where {role}_address_id = %s", new, old)
        return self._run("update addresses set addressid = %s where addressid = %s", new, old)

    # ------------------------------------------------------------------ the database

    def _run(self, sql: str, *values: Any) -> bool:
        return self.connection.execute(sql.encode(), values).rowcount > 0

    def _one(self, sql: str) -> int:
        row = self.connection.execute(sql.encode()).fetchone()
        return row[0] if row else 0

    def _any_id(self, table: str, column: str) -> Any:
        """Some id of a table, by this feed's own dice."""
        count = self._one(f"select count(*) from {table}")
        return self._one(f"select {column} from {table} order by {column} limit 1 offset {self._draw.randrange(count)}")


_STATUS = ("Completed", "Pending")


def run(feed: Feed, rate: float, stopping: threading.Event, *, orders: int | None = None) -> int:
    """`rate` orders a second (0 = as fast as they go) until told to stop or so many are done; how many were."""
    done, began = 0, time.monotonic()
    while not stopping.is_set() and (orders is None or done < orders):
        feed.step()
        done += 1
        if rate > 0:
            stopping.wait(max(0.0, began + done / rate - time.monotonic()))
    return done


def _any(connection: "psycopg.Connection[Any]", sql: str, *values: Any) -> bool:
    return connection.execute(sql.encode(), values or None).fetchone() is not None


def _city(draw: random.Random, number: int) -> str:
    return f"{draw.choice(LAST_NAMES)}{draw.choice(_TOWNS)} {number}"


def _address(draw: random.Random, number: int) -> tuple[str, ...]:
    street = f"{draw.randint(1, 9999)} {draw.choice(STREETS)}"
    return street, _city(draw, number), draw.choice(STATES), f"{draw.randint(10000, 99999)}", "United States"


def _customer(draw: random.Random, number: int) -> tuple[str, str, str]:
    first, last = draw.choice(FIRST_NAMES), draw.choice(LAST_NAMES)
    return f"{first} {last}", f"{first}.{last}.{number}@customers.example".lower(), draw.choice(SEGMENTS)


def _product(draw: random.Random, number: int) -> tuple[Any, ...]:
    group = draw.randrange(len(CATEGORIES))
    thing, style = draw.choice(THINGS[group]), draw.choice(STYLES)
    cents = draw.randint(500, 20_000)
    return (
        draw.choice(BRANDS), f"{style} {thing} {number}", CATEGORIES[group], f"{style} {thing.lower()}, made to last",
        draw.choice(COLORS), draw.choice(SIZES), Decimal(cents) / 100, draw.randint(0, 500),
    )  # fmt: skip
