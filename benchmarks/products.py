"""The data products of a database: their models against hand-written SQL over the same landed tables, and a backlog of changes."""

import json
import random
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from benchmarks.row import Measured, peak_mb, turns
from headwater import scaffold
from headwater.clock import FixedClock
from headwater.live import project as projects
from headwater.live.deltas import at_moment
from headwater.live.engine import Engine
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.warehouse import Warehouse

START = datetime(2026, 3, 1, tzinfo=UTC)
AT = datetime(2026, 3, 1)  # noqa: DTZ001  (naive UTC, as the warehouse stores it)
PER_SECOND = 200
COLUMNS = {
    "customers": {"customerid": "integer", "customername": "varchar(255)", "email": "varchar(255)", "segment": "varchar(50)",
                  "shipping_address_id": "varchar(255)", "billing_address_id": "varchar(255)"},
    "addresses": dict.fromkeys(("addressid", "street", "city", "state", "postalcode", "country"), "varchar(255)"),
    "products": {"productid": "integer", "brand": "varchar(255)", "productname": "varchar(255)", "category": "varchar(100)",
                 "description": "text", "color": "varchar(50)", "size": "varchar(50)", "price": "numeric(10,2)", "stock": "integer"},
    "orders": {"orderid": "integer", "customerid": "integer", "orderdate": "timestamp", "status": "varchar(50)"},
    "order_items": {"orderitemid": "integer", "orderid": "integer", "productid": "integer", "quantity": "integer"},
}  # fmt: skip


def project(folder: Path) -> None:
    """The ready project of the online retailer, seeded and built once."""
    scaffold.init_template(folder / "shop", "online-retailer")
    with Stack(folder / "shop", clock=FixedClock(START)) as stack:
        stack.seed()
        stack.build()
        projects.load(stack.warehouse, stack.dbt)


def small(work: Path) -> Measured:
    """100,000 orders with 300,000 items."""
    return _pipeline(work, 100_000)


def large(work: Path) -> Measured:
    """A million orders with three million items: 4.2 million records."""
    return _pipeline(work, 1_000_000)


def _opened(work: Path, name: str) -> tuple[Warehouse, Project]:
    folder = work / name
    shutil.copytree(work / "retail" / "shop", folder)
    with Stack(folder, clock=FixedClock(START)) as stack:
        live, path = projects.load(stack.warehouse, stack.dbt), stack.warehouse.path
    return Warehouse(path), live


# ---------------------------------------------------------------------- the whole pipeline


_SALES = """
    create or replace table raw_sales as
    select
        o.orderdate, o.orderid, p.productid, i.orderitemid, p.brand, p.productname, p.price, o.customerid, c.customername,
        s.city as shipping_address_city, s.state as shipping_address_state, b.state as billing_address_state, i.quantity,
        cast(i.quantity * p.price as decimal(18, 2)) as total_amount
    from landed.retail__orders as o
    join landed.retail__order_items as i on i.orderid = o.orderid
    asof join (select * replace (case when n = 1 then timestamp '1900-01-01' else _valid_from end as _valid_from) from (
        select *, row_number() over (partition by productid order by _valid_from) as n from landed.retail__products__versions
    )) as p on p.productid = i.productid and o.orderdate >= p._valid_from
    asof join (select * replace (case when n = 1 then timestamp '1900-01-01' else _valid_from end as _valid_from) from (
        select *, row_number() over (partition by customerid order by _valid_from) as n from landed.retail__customers__versions
    )) as c on c.customerid = o.customerid and o.orderdate >= c._valid_from
    asof left join raw_places as s on s.addressid = c.shipping_address_id and o.orderdate >= s._valid_from
    asof left join raw_places as b on b.addressid = c.billing_address_id and o.orderdate >= b._valid_from
    where not p._deleted and not c._deleted and trim(p.productname) <> '' and p.price > 0
"""


def _raw(w: Warehouse) -> None:
    """What somebody would write by hand who knows the versions."""
    w.execute(
        """create or replace table raw_customers as
        select c.*, s.street, s.city, s.state, s.postalcode, s.country, b.street as b_street, b.city as b_city, b.state as b_state
        from landed.retail__customers as c
        left join landed.retail__addresses as s on c.shipping_address_id = s.addressid
        left join landed.retail__addresses as b on c.billing_address_id = b.addressid"""
    )
    w.execute("create or replace table raw_products as select * from landed.retail__products")
    w.execute(
        """create or replace temp table raw_places as
        select addressid, city, state, case when n = 1 then timestamp '1900-01-01' else _valid_from end as _valid_from from (
            select *, row_number() over (partition by addressid order by _valid_from) as n from landed.retail__addresses__versions
        )"""
    )
    w.execute(_SALES)
    w.execute(
        f"""create or replace table raw_snapshot as
        select c.customerid, c.customername, cast(coalesce(t.total, 0) as decimal(18, 2)) as total_amount, coalesce(t.n, 0) as n
        from raw_customers as c
        left join (
            select customerid, sum(total_amount) as total, count(distinct orderid) as n from raw_sales
            where orderdate > timestamp '{AT}' - interval '30 days' and orderdate <= timestamp '{AT}' group by customerid
        ) as t on c.customerid = t.customerid"""
    )


def _pipeline(work: Path, orders: int) -> Measured:
    w, live = _opened(work, f"pipeline_{orders}")
    records = _fill(w, orders)

    def models() -> None:
        for model in live.models:
            w.execute(f"create or replace table {model.relation} as {at_moment(model.analysis.whole, AT)}")

    took, bound, peak = turns(models, lambda: _raw(w))
    sales = "orderitemid, productname, price, customername, shipping_address_city, billing_address_state, total_amount"
    wrong = 0
    for one, other in (
        (f"select {sales} from main.product_sales", f"select {sales} from raw_sales"),
        (
            "select customerid, total_amount, number_of_orders from main.thirty_day_customer_snapshot",
            "select customerid, total_amount, n from raw_snapshot",
        ),
    ):
        wrong += int(w.value(f"select count(*) from (({one} except all {other}) union all ({other} except all {one}))"))
    w.close()
    return Measured(f"{records:,} records, {wrong} wrong rows", took, peak, bound, not wrong and took <= 1.3 * bound)


def _fill(w: Warehouse, orders: int) -> int:
    """Rows and versions as landing leaves them: a tenth as many customers, a thousand products, two prices each."""
    customers, products = orders // 10, 1_000
    begin = "timestamp '2025-03-01'"
    rows = {
        "addresses": f"select 'A' || i as addressid, i || ' Street' as street, 'City ' || i % 900 as city, 'S' || i % 50 as state,"
        f" '00100' as postalcode, 'X' as country from range({customers // 2}) as t(i)",
        "customers": f"select i::integer as customerid, 'Customer ' || i as customername, '****' as email, 'New' as segment,"
        f" 'A' || (i * 7 % {customers // 2}) as shipping_address_id, 'A' || (i * 11 % {customers // 2}) as billing_address_id"
        f" from range({customers}) as t(i)",
        "products": "select i::integer as productid, 'B' || i % 20 as brand, case when i % 100 = 0 then '' else 'Product ' || i end as"
        " productname, 'c' as category, 'x' as description, 'red' as color, 'L' as size,"
        f" cast(5 + i % 90 + 0.99 as decimal(10, 2)) as price, 5 as stock from range({products}) as t(i)",
        "orders": f"select i::integer as orderid, (hash(i) % {customers})::integer as customerid,"
        f" {begin} + i * interval '{365 * 86_400 * 1_000 // orders} milliseconds' as orderdate, 'Pending' as status from range({orders}) as t(i)",
        "order_items": f"select i::integer as orderitemid, (i // 3)::integer as orderid, (hash(i) % {products})::integer as productid,"
        f" (1 + hash(i + 1) % 9)::integer as quantity from range({3 * orders}) as t(i)",
    }
    for table, sql in rows.items():
        w.execute(f"insert into landed.retail__{table} select *, {begin}, 1, 's' from ({sql})")
        w.execute(f"insert into landed.retail__{table}__versions select *, {begin}, 1, 'r', false from ({sql})")
    for table, change, share in (
        ("products", "price = price + 1", 2),
        ("customers", "customername = customername || '!'", 5),
        ("addresses", "city = city || '!'", 5),
    ):
        key = next(iter(COLUMNS[table]))
        when = "timestamp '2025-09-01'"
        w.execute(f"update landed.retail__{table} set {change}, _at = {when}, _lsn = 2 where hash({key}) % {share} = 0")
        listed = ", ".join(COLUMNS[table])
        w.execute(
            f"insert into landed.retail__{table}__versions ({listed}, _valid_from, _seq, _op, _deleted)"
            f" select {listed}, {when}, 2, 'u', false from landed.retail__{table} where _lsn = 2"
        )
    w.execute("checkpoint")
    return sum(int(w.value(f"select count(*) from landed.retail__{table}")) for table in rows)


# ---------------------------------------------------------------------- a backlog


def backlog_small(work: Path) -> Measured:
    """100,000 changes that wait in the log."""
    return _backlog(work, 100_000)


def backlog(work: Path) -> Measured:
    """A million changes that wait in the log."""
    return _backlog(work, 1_000_000)


def _backlog(work: Path, changes: int) -> Measured:
    w, live = _opened(work, f"backlog_{changes}")
    log = SqliteLog(work / f"backlog_{changes}.sqlite")
    part: list[Entry] = []
    for entry in _changes(changes):
        part.append(entry)
        if len(part) == 20_000:
            log.append(part)
            part = []
    log.append(part)
    engine = Engine(w, log, live, FixedClock(START + timedelta(hours=1)), LiveSettings())
    engine.open()
    started, busy = time.perf_counter(), time.process_time()
    landed = 0
    while (result := engine.step()).committed:
        landed += result.landed.changes
    took, peak, cpu = time.perf_counter() - started, peak_mb(), time.process_time() - busy
    wrong = sum(found.wrong for found in engine.verify())
    engine.close()
    log.close()
    bound = changes / 25_000
    size = f"{landed:,} changes, {landed / took:,.0f}/s, {landed / cpu:,.0f} per CPU second, {wrong} wrong rows"
    return Measured(size, took, peak, bound, took <= bound and not wrong)


def _entry(table: str, op: str, row: dict[str, object], lsn: int, at: datetime) -> Entry:
    key = {name: row[name] for name in list(COLUMNS[table])[:1]}
    said = {"kind": "change", "table": table, "op": op, "key": key, "row": row, "lsn": lsn, "at": f"{at.isoformat()}Z"}
    text = json.dumps(key)
    return Entry("changes", "retail", f"{table}:{text}", f"{table}:{lsn}:{text}", 0, json.dumps(said).encode())


def _changes(count: int) -> Iterator[Entry]:
    """A snapshot of customers, addresses and products, then orders with three items each, and now and then a price or an address."""
    draw, lsn = random.Random(1), 100
    customers, products = max(100, count // 40), 500

    def change(table: str, op: str, row: dict[str, object], at: datetime) -> Entry:
        nonlocal lsn
        lsn += 1
        return _entry(table, op, row, lsn, at)

    for table, columns in COLUMNS.items():
        told = [
            {"name": n, "type": kind, "nullable": False, "key": i == 0} for i, (n, kind) in enumerate(columns.items())
        ]
        said = {"kind": "schema", "table": table, "columns": told, "lsn": 1, "at": f"{AT.isoformat()}Z"}
        yield Entry("changes", "retail", f"{table}:", f"schema:{table}", 0, json.dumps(said).encode())

    def address(number: int) -> dict[str, object]:
        return {"addressid": f"A{number}", "street": f"{draw.randrange(999)} Street", "city": f"City {draw.randrange(900)}",
                "state": f"S{number % 50}", "postalcode": "00100", "country": "X"}  # fmt: skip

    def product(number: int) -> dict[str, object]:
        return {"productid": number, "brand": f"B{number % 20}", "productname": f"Product {number}", "category": "c",
                "description": "made to last", "color": "red", "size": "L", "price": f"{draw.randint(500, 9_900) / 100:.2f}", "stock": 5}  # fmt: skip

    for number in range(customers):
        yield change("addresses", "r", address(number), AT)
        row: dict[str, object] = {
            "customerid": number,
            "customername": f"Customer {number}",
            "email": "****",
            "segment": "New",
        }
        row |= {"shipping_address_id": f"A{number}", "billing_address_id": f"A{number * 7 % customers}"}
        yield change("customers", "r", row, AT)
    for number in range(products):
        yield change("products", "r", product(number), AT)
    made, order = 5 + 2 * customers + products, 0
    while made < count:
        order += 1
        at = AT + timedelta(milliseconds=3_600_000 * made / count)
        row = {
            "orderid": order,
            "customerid": draw.randrange(customers),
            "orderdate": f"{at.isoformat()}Z",
            "status": "Pending",
        }
        rows: list[tuple[str, str, dict[str, object]]] = [("orders", "c", row)]
        for n in range(3):
            item = {
                "orderitemid": order * 3 + n,
                "orderid": order,
                "productid": draw.randrange(products),
                "quantity": 2,
            }
            rows.append(("order_items", "c", {**item}))
        if order % 50 == 0:
            rows += [
                ("products", "u", product(draw.randrange(products))),
                ("addresses", "u", address(draw.randrange(customers))),
            ]
        for table, op, image in rows:
            yield change(table, op, image, at)
        made += len(rows)


# ---------------------------------------------------------------------- one commit at a time


def orders_small(work: Path) -> Measured:
    """200 orders a second for ten seconds, upon 100,000."""
    return _orders(work, 100_000, 10)


def orders(work: Path) -> Measured:
    """200 orders a second for a minute, upon a million."""
    return _orders(work, 1_000_000, 60)


def _orders(work: Path, history: int, seconds: int) -> Measured:
    """Each second 200 orders with three items, and a price and an address: from durable in the log to committed products."""
    w, live = _opened(work, f"orders_{history}")
    _fill(w, history)
    log = SqliteLog(work / f"orders_{history}.sqlite")
    log.append([entry for entry in _changes(0) if entry.message_id.startswith("schema:")])
    clock = FixedClock(START)
    engine = Engine(w, log, live, clock, LiveSettings())
    while engine.step().committed:
        pass
    draw, lsn, sent, spent = random.Random(2), 1_000_000, 0, []
    begun = time.perf_counter()
    while (elapsed := time.perf_counter() - begun) < seconds:
        clock.at = START + timedelta(seconds=elapsed)
        at, entries, due = AT + timedelta(seconds=elapsed), [], []
        for number in range(sent, int(elapsed * PER_SECOND)):
            order = history + number
            row: dict[str, object] = {
                "orderid": order,
                "customerid": draw.randrange(history // 10),
                "status": "Pending",
            }
            rows: list[tuple[str, str, dict[str, object]]] = [
                ("orders", "c", {**row, "orderdate": f"{at.isoformat()}Z"})
            ]
            for n in range(3):
                item = {
                    "orderitemid": order * 3 + n,
                    "orderid": order,
                    "productid": draw.randrange(1_000),
                    "quantity": 1,
                }
                rows.append(("order_items", "c", {**item}))
            if number % PER_SECOND == 0:
                priced = {
                    "productid": draw.randrange(1_000),
                    "brand": "B",
                    "productname": "Renamed",
                    "category": "c",
                    "stock": 5,
                }
                rows.append(
                    ("products", "u", {**priced, "description": "x", "color": "red", "size": "L", "price": "7.77"})
                )
            for table, op, image in rows:
                lsn += 1
                entries.append(_entry(table, op, image, lsn, at))
            due.append(begun + number / PER_SECOND)
            sent = number + 1
        log.append(entries)
        while engine.step().lag:
            pass
        ended = time.perf_counter()
        spent += [ended - one for one in due]
    spent.sort()
    p50, p99 = (spent[int(len(spent) * share)] * 1_000 for share in (0.5, 0.99))
    peak = peak_mb()
    wrong = sum(found.wrong for found in engine.verify(keys=1_000))
    engine.close()
    log.close()
    size = f"{len(spent):,} orders, p50 {p50:.0f} ms, p99 {p99:.0f} ms, {wrong} wrong rows"
    return Measured(size, p99 / 1_000, peak, 1.0, p50 < 300 and p99 < 1_000 and not wrong)
