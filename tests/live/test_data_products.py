"""The data products of the online retailer: equal to plain Python and to their own SQL in full, after every batch."""

import shutil
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from retail_database import TABLES, Database
from retail_shop import Reference, Retail

from headwater.live import engine as engine_module
from headwater.live import upkeep
from headwater.live.forget import forget
from headwater.live.redrive import redrive
from headwater.records.logged import Entry


def customer(number: int, **more: Any) -> dict[str, Any]:
    row = {"customerid": number, "customername": f"N{number}", "email": "****", "segment": "New"}
    return {**row, "shipping_address_id": "A1", "billing_address_id": "A2", **more}


def address(name: str, **more: Any) -> dict[str, Any]:
    row = {
        "addressid": name,
        "street": f"{name} street",
        "city": f"{name} city",
        "state": "Ohio",
        "postalcode": "00100",
    }
    return {**row, "country": "United States", **more}


def product(number: int, price: str = "59.99", **more: Any) -> dict[str, Any]:
    row = {"productid": number, "brand": "B", "productname": f"P{number}", "category": "c", "description": "x" * 50}
    return {**row, "color": "red", "size": None, "price": price, "stock": 5, **more}


class Shop:
    """A database, the engine that follows it, and the reference."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.db = Database()
        self.retail = Retail(folder, home)
        self.reference = Reference()
        self.number = 0

    def order(self, who: int, *lines: tuple[int, int], ago: float = 0) -> list[Entry]:
        self.number += 1
        at = self.db.at - timedelta(seconds=ago)
        entries = [
            self.db.put(
                "orders",
                {"orderid": self.number, "customerid": who, "orderdate": f"{at.isoformat()}Z", "status": "Pending"},
            )
        ]
        for nth, (what, quantity) in enumerate(lines):
            item = self.number * 10 + nth
            entries.append(
                self.db.put(
                    "order_items",
                    {"orderitemid": item, "orderid": self.number, "productid": what, "quantity": quantity},
                )
            )
        return entries

    def begin(self) -> list[Entry]:
        db = self.db
        return [
            *(db.schema(table) for table in TABLES),
            *(db.put("addresses", address(name)) for name in ("A1", "A2", "A3")),
            *(db.put("customers", customer(number)) for number in (1, 2, 3)),
            *(db.put("products", product(number)) for number in (1, 2)),
        ]

    def land(self, *entries: Entry, limit: int | None = None) -> None:
        """Send, settle and hold everything to the reference."""
        self.reference.take(entries)
        self.retail.settle(*entries, limit=limit)
        self.agrees()

    def later(self, **by: float) -> None:
        self.db.pass_time(**by)
        self.retail.push(**by)

    def agrees(self) -> None:
        expected = self.reference.products(self.retail.as_of)
        for name, rows in self.retail.products().items():
            assert rows == expected[name], name
        assert self.retail.wrong() == []


@pytest.fixture
def shop(retail_home: Path, tmp_path: Path) -> Iterator[Shop]:
    made = Shop(tmp_path / "shop", retail_home)
    yield made
    made.retail.close()


def sales(shop: Shop) -> list[tuple[Any, ...]]:
    return shop.retail.rows(
        "select orderitemid, price, customername, shipping_address_city from main.product_sales order by 1"
    )


def test_a_sale_keeps_what_was_true_when_it_was_made(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 2)))
    shop.later(minutes=5)
    db = shop.db
    shop.land(
        db.change("products", 1, price="1.00", productname="renamed"),
        db.change("customers", 1, customername="New Name", shipping_address_id="A3"),
        db.change("addresses", "A1", city="Elsewhere"),
    )
    shop.later(minutes=5)
    shop.land(*shop.order(1, (1, 1)))
    assert sales(shop) == [(10, Decimal("59.99"), "N1", "A1 city"), (20, Decimal("1.00"), "New Name", "A3 city")]
    enriched = "select customername, shipping_address_city from main.enriched_customers where customerid = 1"
    assert shop.retail.rows(enriched) == [("New Name", "A3 city")]


def test_a_version_that_comes_late_corrects_the_sales_of_its_time(shop: Shop) -> None:
    shop.land(*shop.begin())
    shop.later(minutes=1)
    late = [shop.db.change("products", 1, price="20.00"), shop.db.change("addresses", "A1", city="Between")]
    shop.later(minutes=1)
    shop.land(*shop.order(1, (1, 1)))
    shop.later(minutes=1)
    shop.land(shop.db.change("products", 1, price="30.00"), shop.db.change("addresses", "A1", city="Now"))
    assert sales(shop) == [(10, Decimal("59.99"), "N1", "A1 city")]
    shop.land(*late)
    assert sales(shop) == [(10, Decimal("20.00"), "N1", "Between")]


def test_an_order_before_its_customer_converges(shop: Shop) -> None:
    db = shop.db
    start = shop.begin()
    newcomer = [db.put("customers", customer(9)), db.put("products", product(9, "5.00"))]
    order = shop.order(9, (9, 3))
    shop.land(*start, *order[1:])
    assert shop.retail.rows("select excluded_because from main.excluded_sales") == [("the order is not there",)]
    shop.land(order[0])
    assert shop.retail.rows("select excluded_because from main.excluded_sales") == [
        ("the product was not known at the time",)
    ]
    shop.land(*newcomer)
    assert shop.retail.rows("select total_amount from main.product_sales") == [(Decimal("15.00"),)]


def test_deleted_rows_are_gone_and_their_history_stays(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 1)))
    shop.later(minutes=1)
    db = shop.db
    shop.land(db.delete("products", 1), db.delete("customers", 1), db.delete("addresses", "A2"))
    assert shop.retail.rows("select productid from main.products_with_pk") == [(2,)]
    assert shop.retail.rows("select customerid from main.thirty_day_customer_snapshot order by 1") == [(2,), (3,)]
    assert sales(shop) == [(10, Decimal("59.99"), "N1", "A1 city")]
    assert shop.retail.rows("select billing_address_city from main.enriched_customers") == [(None,), (None,)]
    assert shop.retail.rows(
        "select price, is_deleted from main.int_product_periods where productid = 1 order by version_number"
    ) == [
        (Decimal("59.99"), False),
        (None, True),
    ]
    shop.later(minutes=1)
    shop.land(*shop.order(2, (1, 1)))
    assert shop.retail.rows("select excluded_because, row_count from main.excluded_sales_counts") == [
        ("the product was deleted at the time", 1)
    ]


def test_what_is_no_sale_is_counted(shop: Shop) -> None:
    db = shop.db
    shop.land(
        *shop.begin(),
        db.put("products", product(3, productname=" ")),
        db.put("products", product(4, "0.00")),
        db.put("products", product(5, "-1.00")),
        *shop.order(1, (1, 1), (3, 1), (4, 2), (5, 3)),
    )
    counted = "select excluded_because, row_count, units from main.excluded_sales_counts order by 1"
    assert shop.retail.rows(counted) == [
        ("the price is not positive", 2, 5),
        ("the product has no name", 1, 1),
    ]


def test_an_order_of_tomorrow_counts_from_tomorrow_on(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 1), ago=-86_400))
    count = "select number_of_orders from main.thirty_day_customer_snapshot where customerid = 1"
    assert (len(sales(shop)), shop.retail.rows(count)) == (1, [(0,)])
    shop.later(days=1)
    shop.land()
    assert shop.retail.rows(count) == [(1,)]


@pytest.mark.parametrize("at_once", [True, False])
def test_the_snapshot_shrinks_by_itself(at_once: bool, shop: Shop) -> None:
    shop.land(
        *shop.begin(),
        *shop.order(1, (1, 2)),
        *shop.order(1, (2, 1), ago=86_400),
        *shop.order(2, (1, 1), ago=29 * 86_400),
    )
    snapshot = "select customerid, total_amount, number_of_orders from main.thirty_day_customer_snapshot order by 1"
    assert shop.retail.rows(snapshot) == [(1, Decimal("179.97"), 2), (2, Decimal("59.99"), 1), (3, Decimal("0.00"), 0)]
    if at_once:
        shop.later(days=400)
        shop.land()
    else:
        for day in range(400):
            shop.later(days=1)
            shop.retail.settle()
            if day in (0, 1, 28, 29, 30, 399):
                shop.agrees()
    assert shop.retail.rows(snapshot) == [(1, Decimal("0.00"), 0), (2, Decimal("0.00"), 0), (3, Decimal("0.00"), 0)]


def test_the_edge_of_the_window_is_open(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 1)))
    shop.later(days=30, microseconds=-1)
    shop.land()
    count = "select number_of_orders from main.thirty_day_customer_snapshot where customerid = 1"
    assert shop.retail.rows(count) == [(1,)]
    shop.later(microseconds=1)
    shop.land()
    assert shop.retail.rows(count) == [(0,)]


def test_an_idle_engine_writes_nothing(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 1)))
    shop.later(minutes=1)
    assert not shop.retail.engine.step().committed


def test_a_used_column_that_is_gone_stops_its_models_with_their_last_rows(shop: Shop) -> None:
    shop.land(*shop.begin(), *shop.order(1, (1, 1)))
    shop.later(minutes=1)
    columns = {name: kind for name, kind in TABLES["products"].items() if name != "brand"}
    row = {name: value for name, value in product(1, "7.00").items() if name != "brand"}
    retail = shop.retail
    retail.settle(shop.db.schema("products", columns), shop.db.put("products", row), *shop.order(2, (2, 1)))
    states = dict(retail.rows("select model, state from headwater.live_models"))
    assert states["products_with_pk"] == states["int_product_periods"] == "stopped"
    assert states["enriched_customers"] == "live"
    assert retail.rows("select productid, brand, price from main.products_with_pk order by 1") == [
        (1, "B", Decimal("59.99")),
        (2, "B", Decimal("59.99")),
    ]
    assert "the source has it no more" in retail.engine.notes[0]
    assert retail.rows("select count(*) from main.product_sales") == [(2,)]


class Killed(BaseException):
    """Stands for SIGKILL within the process."""


KILLED_AT = ["live.landed", "live.identified", "live.model", "live.refreshed", "live.stored", "live.committed"]


class Program(RuleBasedStateMachine):
    """Any changes in any order of tables, repeats, late ones, snapshots, clock, restarts, kills. `home` is set by the test."""

    home: Path

    @initialize()
    def begin(self) -> None:
        self.scratch = Path(tempfile.mkdtemp(prefix="retail"))
        self.shop = Shop(self.scratch / "shop", self.home)
        self.db = self.shop.db
        self.held: list[Entry] = []
        self.snapshots = 0
        self.send(self.shop.begin(), None)

    def teardown(self) -> None:
        if hasattr(self, "shop"):
            self.send(self.held, None)
            self.shop.retail.close()
            shutil.rmtree(self.scratch)

    def send(self, entries: list[Entry], limit: int | None, *, hold: bool = False) -> None:
        self.shop.later(seconds=1)
        if hold:
            self.held += entries
        else:
            self.shop.land(*entries, limit=limit)

    limits = st.sampled_from([1, 2, 7, None, None])

    @rule(
        number=st.integers(1, 3),
        price=st.sampled_from(["1.00", "20.50", "0.00"]),
        name=st.sampled_from(["P", "Q", ""]),
        hold=st.booleans(),
        limit=limits,
    )
    def put_product(self, number: int, price: str, name: str, hold: bool, limit: int | None) -> None:
        self.send([self.db.put("products", product(number, price, productname=name))], limit, hold=hold)

    @precondition(lambda self: self.db.rows["products"] and not self.held)
    @rule(data=st.data(), limit=limits)
    def touch_product(self, data: st.DataObject, limit: int | None) -> None:
        key = data.draw(st.sampled_from(sorted(self.db.rows["products"])))
        self.send([self.db.change("products", key, unavailable=("description",), stock=7)], limit)

    @rule(
        number=st.integers(1, 4),
        ship=st.sampled_from(["A1", "A2", "A3", "A9"]),
        name=st.sampled_from(["N", "M"]),
        hold=st.booleans(),
        limit=limits,
    )
    def put_customer(self, number: int, ship: str, name: str, hold: bool, limit: int | None) -> None:
        self.send(
            [self.db.put("customers", customer(number, shipping_address_id=ship, customername=name))], limit, hold=hold
        )

    @rule(name=st.sampled_from(["A1", "A2", "A3"]), city=st.sampled_from(["X", "Y"]), hold=st.booleans(), limit=limits)
    def put_address(self, name: str, city: str, hold: bool, limit: int | None) -> None:
        self.send([self.db.put("addresses", address(name, city=city))], limit, hold=hold)

    @rule(
        who=st.integers(1, 4),
        lines=st.lists(st.tuples(st.integers(1, 4), st.integers(1, 3)), min_size=1, max_size=2),
        ago=st.sampled_from([0, 3, 10, 86_400, 29 * 86_400, 31 * 86_400, -60]),
        hold=st.booleans(),
        limit=limits,
    )
    def place_order(self, who: int, lines: list[tuple[int, int]], ago: float, hold: bool, limit: int | None) -> None:
        self.send(self.shop.order(who, *lines, ago=ago), limit, hold=hold)

    @rule(table=st.sampled_from(list(TABLES)), data=st.data(), hold=st.booleans(), limit=limits)
    def delete(self, table: str, data: st.DataObject, hold: bool, limit: int | None) -> None:
        if self.db.rows[table]:
            key = data.draw(st.sampled_from(sorted(self.db.rows[table])))
            self.send([self.db.delete(table, key)], limit, hold=hold)

    @rule(data=st.data(), limit=limits)
    def rekey(self, data: st.DataObject, limit: int | None) -> None:
        free = [number for number in range(1, 5) if number not in self.db.rows["customers"]]
        if free and self.db.rows["customers"]:
            key = data.draw(st.sampled_from(sorted(self.db.rows["customers"])))
            self.send(self.db.rekey("customers", key, free[0]), limit)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), limit=limits)
    def deliver_late(self, data: st.DataObject, limit: int | None) -> None:
        entries = data.draw(st.permutations(self.held))
        self.held = []
        self.send(list(entries), limit)

    @rule(data=st.data(), limit=limits)
    def repeat(self, data: st.DataObject, limit: int | None) -> None:
        sent = [entry for entry in self.shop.retail.entries if b'"unavailable"' not in entry.payload]
        self.send([data.draw(st.sampled_from(sent)) for _ in range(2)], limit)

    @precondition(lambda self: not self.held)
    @rule(data=st.data(), limit=limits)
    def snapshot(self, data: st.DataObject, limit: int | None) -> None:
        table = data.draw(st.sampled_from(["products", "customers", "addresses", "orders"]))
        if self.db.rows[table]:
            self.db.forgotten(table, data.draw(st.sampled_from(sorted(self.db.rows[table]))))
        self.snapshots += 1
        self.send(self.db.snapshot(f"s{self.snapshots}", table), limit)

    @precondition(lambda self: not self.held)
    @rule(table=st.sampled_from(["addresses", "order_items"]), limit=limits)
    def truncate(self, table: str, limit: int | None) -> None:
        self.send([self.db.truncate(table)], limit)

    @rule(seconds=st.sampled_from([1, 61, 86_400, 29 * 86_400, 31 * 86_400, 400 * 86_400]))
    def wait(self, seconds: int) -> None:
        self.shop.later(seconds=seconds)
        self.shop.land()

    @rule()
    def restart(self) -> None:
        self.shop.retail.restart()
        self.shop.agrees()

    @rule(name=st.sampled_from(KILLED_AT), who=st.integers(1, 3))
    def kill(self, name: str, who: int) -> None:
        self.shop.later(seconds=1)
        entries = self.shop.order(who, (1, 1))
        self.shop.reference.take(entries)
        self.shop.retail.send(*entries)

        def passing(passed: str) -> None:
            if passed == name:
                raise Killed

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(engine_module, "failpoint", passing)
            patch.setattr(upkeep, "failpoint", passing)
            with pytest.raises(Killed):
                self.shop.retail.engine.step()
        self.shop.retail.restart()
        self.shop.land()


def _run(home: Path, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type("Machine", (Program,), {"home": home}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )


def test_any_program_of_changes_leaves_the_products_right(retail_home: Path) -> None:
    _run(retail_home, 3, 12)


@pytest.mark.long
def test_any_longer_program_of_changes_leaves_the_products_right(retail_home: Path) -> None:
    _run(retail_home, 8, 20)


def test_a_forgotten_customer_is_gone_and_does_not_come_back(shop: Shop) -> None:
    db, retail = shop.db, shop.retail
    shop.land(*shop.begin(), *shop.order(1, (1, 2)), *shop.order(2, (1, 1)))
    shop.later(minutes=1)
    shop.land(db.change("customers", 1, customername="Known Nowhere"))
    retail.engine.park()
    receipt = forget(retail.folder, retail.warehouse, retail.log, "1", retail.clock, kind="user")
    assert receipt.complete
    removed = {place.place: place.removed_rows for place in receipt.places}
    assert (
        removed["landed.retail__customers"]
        == removed["landed.retail__orders"]
        == removed["landed.retail__order_items"]
        == 1
    )
    assert removed["landed.retail__customers__versions"] == 2
    retail.warehouse.close()
    retail.engine.resume()
    assert not [record for record in retail.log.read("changes", 0, 1_000) if b"Known Nowhere" in record.payload]
    shop.later(minutes=1)
    batches = retail.settle(
        db.change("customers", 1, customername="Back Again"), *shop.order(1, (1, 1)), *shop.order(2, (2, 1))
    )
    assert sum(batch.landed.suppressed for batch in batches) == 2
    assert retail.wrong() == []
    assert retail.rows("select customerid, total_amount from main.thirty_day_customer_snapshot order by 1") == [
        (2, Decimal("119.98")),
        (3, Decimal("0.00")),
    ]
    assert retail.rows("select distinct customerid from main.product_sales") == [(2,)]
    assert not [record for record in retail.log.read("changes", 0, 1_000) if b"Back Again" in record.payload]


def test_a_change_that_was_refused_goes_through_again_once_the_table_fits(shop: Shop) -> None:
    db, retail = shop.db, shop.retail
    retail.settle(*shop.begin(), db.put("products", product(7, "123456789.99")), db.put("products", product(8, "2.00")))
    assert retail.rows("select reason from headwater.rejected_events") == [("bad_value",)]
    assert redrive(retail.warehouse, retail.log, None, retail.clock).entries == 1
    retail.settle()
    assert retail.rows("select count(*) from headwater.rejected_events where redriven_at is null") == [(1,)]
    shop.later(seconds=1)
    retail.settle(db.schema("products", {**TABLES["products"], "price": "numeric(14,2)"}))
    assert redrive(retail.warehouse, retail.log, None, retail.clock).entries == 1
    retail.settle()
    assert retail.rows("select price from main.products_with_pk where productid = 7") == [(Decimal("123456789.99"),)]
    assert retail.rows("select count(*) from headwater.rejected_events where redriven_at is null") == [(0,)]
    assert retail.wrong() == []
