"""The ready project of the online retailer with an engine over it, and what its data products must hold, by plain Python."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from retail_database import BEGIN, KEYS, Row

from headwater import scaffold
from headwater.clock import FixedClock
from headwater.live import project as projects
from headwater.live.engine import BatchResult, Engine
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.log.base import Log
from headwater.log.memory import MemoryLog
from headwater.records.logged import Entry
from headwater.stack import Stack
from headwater.warehouse import Warehouse

KEYED = LiveSettings(full_share=1.0, full_above=10**9, full_every=0.0, retry_seconds=30.0, verify_seconds=0)
PRODUCTS = ("enriched_customers", "products_with_pk", "product_sales", "excluded_sales", "thirty_day_customer_snapshot")


def build(folder: Path, **settings: str) -> None:
    """The project as `headwater init` and the first `headwater up` leave it. `settings`: of `data_products`."""
    scaffold.init_template(folder, "online-retailer")
    path = folder / "headwater.yml"
    for name, value in settings.items():
        path.write_text(path.read_text().replace(f"{name}: first_version", f"{name}: '{value}'"))
    with Stack(folder, clock=FixedClock(BEGIN.replace(tzinfo=UTC))) as stack:
        stack.seed()
        stack.build()
        projects.load(stack.warehouse, stack.dbt)


@dataclass
class Retail:
    """One engine over its own copy of the project. `reference` follows what was sent."""

    folder: Path
    home: Path
    settings: LiveSettings = KEYED
    log: Log = field(default_factory=MemoryLog)
    clock: FixedClock = field(default_factory=lambda: FixedClock(BEGIN.replace(tzinfo=UTC)))
    entries: list[Entry] = field(default_factory=list)

    def __post_init__(self) -> None:
        (self.folder / "warehouse").mkdir(parents=True, exist_ok=True)
        if not (self.folder / "warehouse" / "shop.duckdb").exists():
            shutil.copyfile(self.home / "warehouse" / "shop.duckdb", self.folder / "warehouse" / "shop.duckdb")
        self.warehouse = Warehouse(self.folder / "warehouse" / "shop.duckdb")
        self.project = _read(self.warehouse, self.home)
        self.restart()

    def restart(self) -> None:
        """A new engine on the same file and log, as after a stop."""
        self.warehouse.close()
        self.engine = Engine(self.warehouse, self.log, self.project, self.clock, self.settings)

    @property
    def as_of(self) -> datetime:
        return self.warehouse.value("select as_of from headwater.clock")

    def push(self, **by: float) -> None:
        self.clock.push(timedelta(**by))

    def send(self, *entries: Entry) -> None:
        self.log.append(entries)
        self.entries += entries

    def step(self, *entries: Entry, limit: int | None = None) -> BatchResult:
        self.send(*entries)
        return self.engine.step(limit)

    def settle(self, *entries: Entry, limit: int | None = None) -> list[BatchResult]:
        """Send, then batches until nothing waits."""
        self.send(*entries)
        done = []
        while (result := self.engine.step(limit)).committed:
            assert result.landed.conserved
            done.append(result)
            assert len(done) < 5_000, "the engine never comes to rest"
        return done

    def wrong(self) -> list[str]:
        """Rows in which a live table differs from its SQL in full."""
        verified = self.engine.verify()
        return [f"{d.model} {d.found}: {d.row}" for v in verified for d in v.differences] + [
            f"{v.model}: {v.skipped}" for v in verified if v.skipped
        ]

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        return self.warehouse.execute(sql).fetchall()

    def products(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the data products hold, of the columns that the oracle has."""
        return {
            name: sorted(self.rows(f"select {columns} from main.{name}"), key=repr) for name, columns in COLUMNS.items()
        }

    def close(self) -> None:
        self.warehouse.close()


_projects: dict[Path, Project] = {}


def _read(warehouse: Warehouse, home: Path) -> Project:
    if home not in _projects:
        _projects[home] = projects.read(warehouse, home)
        assert not _projects[home].refused
        assert all(model.analysis.mode == "keyed" for model in _projects[home].models)
    return _projects[home]


COLUMNS = {
    "enriched_customers": "customerid, customername, email, segment, shipping_address_city, shipping_address_state, billing_address_city",
    "products_with_pk": "productid, brand, productname, price",
    "product_sales": "orderdate, orderid, productid, orderitemid, brand, productname, price, customerid, customername,"
    " shipping_address_city, shipping_address_state, billing_address_state, quantity, total_amount",
    "excluded_sales": "orderitemid, orderid, excluded_because",
    "thirty_day_customer_snapshot": "customerid, customername, total_amount, number_of_orders",
}


class Reference:
    """What landing and the data products must make of entries, one at a time, in the order in which they arrive."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[Any, tuple[int, Row | None]]] = {name: {} for name in KEYS}  # key -> (lsn, row)
        self.versions: dict[str, dict[Any, dict[datetime, tuple[int, Row | None]]]] = {name: {} for name in KEYS}
        self.seen: dict[tuple[str, Any], str] = {}
        self.floor: dict[str, int] = {}

    def take(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            payload = json.loads(entry.payload)
            if payload["kind"] == "snapshot":
                if payload["state"] == "finished":
                    self._unseen(payload)
            elif payload["kind"] == "change" and payload["op"] == "t":
                self._emptied(payload)
            elif payload["kind"] == "change":
                self._changed(payload)

    def _changed(self, payload: Row) -> None:
        table, (key,), lsn, row = payload["table"], payload["key"].values(), payload["lsn"], payload["row"]
        versions = self.versions[table].setdefault(key, {})
        known, held = self.rows[table].get(key, (None, None))
        known = max((one for one in (known, self.floor.get(table)) if one is not None), default=None)
        if payload.get("unavailable"):
            before = max((v for v in versions.values() if v[0] < lsn and v[1] is not None), key=lambda v: v[0])
            row = {**before[1], **row}
        if (payload.get("snapshot") and held is not None) or payload["op"] == "r":
            self.seen[table, key] = payload["snapshot"]
        if known == lsn:
            return
        same = payload["op"] == "r" and held == row
        if not same:
            at = _moment(payload["at"])
            if at not in versions or versions[at][0] < lsn:
                versions[at] = (lsn, row)
        if known is None or lsn > known:
            self.rows[table][key] = (lsn, row)

    def _emptied(self, payload: Row) -> None:
        table, lsn = payload["table"], payload["lsn"]
        if self.floor.get(table, -1) >= lsn:
            return
        for key, (held, row) in self.rows[table].items():
            if row is not None and held <= lsn:
                self._gone(table, key, lsn, payload["at"])
        self.floor[table] = lsn

    def _unseen(self, payload: Row) -> None:
        for table in payload["tables"]:
            for key, (held, row) in self.rows[table].items():
                if row is not None and held <= payload["lsn"] and self.seen.get((table, key)) != payload["id"]:
                    self._gone(table, key, payload["lsn"], payload["at"])

    def _gone(self, table: str, key: Any, lsn: int, at: str) -> None:
        self.rows[table][key] = (lsn, None)
        versions = self.versions[table].setdefault(key, {})
        if _moment(at) not in versions or versions[_moment(at)][0] < lsn:
            versions[_moment(at)] = (lsn, None)

    # ------------------------------------------------------------------ the data products

    def now(self, table: str) -> dict[Any, Row]:
        return {key: row for key, (_, row) in self.rows[table].items() if row is not None}

    def then(self, table: str, key: Any, at: datetime) -> tuple[bool, Row | None]:
        """Whether the row was ever known, and what it was at a moment; the first version holds before itself."""
        versions = sorted(self.versions[table].get(key, {}).items())
        if not versions:
            return False, None
        return True, next((row for since, (_, row) in reversed(versions) if since <= at), versions[0][1][1])

    def products(self, as_of: datetime) -> dict[str, list[tuple[Any, ...]]]:
        customers, addresses = self.now("customers"), self.now("addresses")

        def place(ident: str) -> Row:
            return addresses.get(ident, {})

        enriched = [
            (
                c["customerid"], c["customername"], c["email"], c["segment"], place(c["shipping_address_id"]).get("city"),
                place(c["shipping_address_id"]).get("state"), place(c["billing_address_id"]).get("city"),
            )
            for c in customers.values()
        ]  # fmt: skip
        sales, excluded = [], []
        for item in self.now("order_items").values():
            sale, because = self._sale(item)
            if because is None:
                sales.append(sale)
            else:
                excluded.append((item["orderitemid"], item["orderid"], because))
        recent = [sale for sale in sales if as_of - timedelta(days=30) < sale[0] <= as_of]
        snapshot = []
        for c in customers.values():
            own = [sale for sale in recent if sale[7] == c["customerid"]]
            total = sum((sale[-1] for sale in own), Decimal("0.00"))
            snapshot.append((c["customerid"], c["customername"], total, len({sale[1] for sale in own})))
        plain = [
            (p["productid"], p["brand"], p["productname"], Decimal(p["price"])) for p in self.now("products").values()
        ]
        found = {
            "enriched_customers": enriched, "products_with_pk": plain, "product_sales": sales, "excluded_sales": excluded,
            "thirty_day_customer_snapshot": snapshot,
        }  # fmt: skip
        return {name: sorted(rows, key=repr) for name, rows in found.items()}

    def _sale(self, item: Row) -> tuple[tuple[Any, ...], str | None]:
        order = self.now("orders").get(item["orderid"])
        if order is None:
            return (), "the order is not there"
        at = _moment(order["orderdate"])
        known, product = self.then("products", item["productid"], at)
        met, customer = self.then("customers", order["customerid"], at)
        if known and product is None:
            return (), "the product was deleted at the time"
        if met and customer is None:
            return (), "the customer was deleted at the time"
        if product is None:
            return (), "the product was not known at the time"
        if customer is None:
            return (), "the customer was not known at the time"
        if not (product["productname"] or "").strip():
            return (), "the product has no name"
        price = Decimal(product["price"])
        if price <= 0:
            return (), "the price is not positive"
        shipping = self.then("addresses", customer["shipping_address_id"], at)[1] or {}
        billing = self.then("addresses", customer["billing_address_id"], at)[1] or {}
        return (
            at, order["orderid"], item["productid"], item["orderitemid"], product["brand"], product["productname"], price,
            order["customerid"], customer["customername"], shipping.get("city"), shipping.get("state"), billing.get("state"),
            item["quantity"], item["quantity"] * price,
        ), None  # fmt: skip


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text.rstrip("Z")).replace(tzinfo=None)
