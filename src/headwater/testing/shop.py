"""A synthetic shop from a seed: customers, products, orders, events and marketing that look like a real one's.

    Shop(customers=1_000, seed=7).write(Path("files"))            # ten Parquet files, one per canonical entity
    Shop(customers=1_000, dirty=True).write(folder, "csv")        # the same with bad rows planted, see shop_faults
    Shop(customers=1_000).frame("orders")["order_id"]             # the columns of a file as numpy arrays
    Shop(customers=1_000).arrays("orders")["second"]              # what it is made from: codes, seconds, cents

The same arguments give the same bytes, on every run (with the same numpy and DuckDB). Nothing in it reads a clock: the
shop's last moment is `as_of`, and its newest event happens exactly then. A million customers make some ten million order lines.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np

from headwater.errors import InvalidValue
from headwater.records.entities import ENTITIES
from headwater.testing import shop_files
from headwater.testing.shop_behaviour import Array, Purchases, Season, draws, purchases
from headwater.testing.shop_campaigns import AdSpend, Campaigns, Messages, ad_spend, campaigns, messages
from headwater.testing.shop_catalogue import Catalogue, catalogue, withdrawn
from headwater.testing.shop_events import Events, events
from headwater.testing.shop_faults import append, planted, wanted
from headwater.testing.shop_orders import Lines, Orders, as_booked, orders_and_lines, timeline
from headwater.testing.shop_people import People, people
from headwater.warehouse.connection import Warehouse

Format = Literal["parquet", "csv", "csv.gz"]
_COPY: dict[str, str] = {
    "parquet": "format parquet, compression snappy",
    "csv": "format csv, header",
    "csv.gz": "format csv, header, compression gzip",
}


@dataclass(frozen=True)
class Shop:
    """A shop of `customers` people that opened `days` days before `as_of` and has tracked its site for `event_days`.

    `as_of` is whole seconds UTC. Everything is made when it is first asked for and kept as long as the object.
    """

    customers: int = 1_000
    seed: int = 7
    as_of: datetime = datetime(2026, 6, 30, tzinfo=UTC)
    days: int = 730
    event_days: int = 120
    products: int = 240
    currency: str = "USD"
    dirty: bool | Sequence[str] = False
    """Plant bad rows: True = every kind, or names from `shop_faults.FAULTS`; `frame` and `arrays` stay clean."""

    def __post_init__(self) -> None:
        bounds = {"customers": (1, 10_000_000), "days": (90, 3_650), "products": (1, 30_000)}
        for name, (low, high) in {**bounds, "event_days": (1, self.days)}.items():
            if not low <= getattr(self, name) <= high:
                raise InvalidValue(f"{name}: found {getattr(self, name)}; a shop takes {low} to {high}")
        wanted(self.dirty)

    def write(
        self,
        folder: Path,
        format: Format = "parquet",
        *,
        entities: Sequence[str] = tuple(ENTITIES),
        on_progress: Callable[[str, int], None] | None = None,
    ) -> dict[str, int]:
        """Write `folder/<entity>.<format>` for each entity, over what is there; entity to number of rows, planted ones included.

        `on_progress(entity, rows)` is called after each file. Faults that only a CSV file can hold are planted only into one.
        """
        if format not in _COPY:
            raise InvalidValue(f"format: found {format!r}; a shop writes {', '.join(_COPY)}")
        folder.mkdir(parents=True, exist_ok=True)
        faults = wanted(self.dirty)
        counts: dict[str, int] = {}
        with Warehouse(":memory:") as warehouse:
            for entity in entities:
                path = folder / f"{entity}.{format}"
                with self._relation(warehouse, entity) as select:
                    dirty = planted(select, entity, faults, self.count(entity)) if faults else select
                    target = path.as_posix().replace("'", "''")
                    counts[entity] = warehouse.value(f"copy ({dirty}) to '{target}' ({_COPY[format]})")
                if format == "csv":
                    counts[entity] += append(path, entity, faults)
                if on_progress:
                    on_progress(entity, counts[entity])
        return counts

    def frame(self, entity: str) -> dict[str, Array]:
        """The columns of the entity's file as numpy arrays (masked where null); for small shops."""
        with Warehouse(":memory:") as warehouse, self._relation(warehouse, entity) as select:
            return warehouse.execute(select).fetchnumpy()

    def count(self, entity: str) -> int:
        """Rows of the entity."""
        return next(iter(self.arrays(entity).values())).size

    def arrays(self, entity: str) -> Mapping[str, Array]:
        """What the entity's file is made from, all of one length; the dataclasses of the shop_* modules say what each holds."""
        return self._arrays[entity]()

    @contextmanager
    def _relation(self, warehouse: Warehouse, entity: str) -> Iterator[str]:
        columns = dict(self.arrays(entity))
        columns.setdefault("i", np.arange(self.count(entity), dtype=np.int32))
        with ExitStack() as stack:
            stack.enter_context(warehouse.relation(entity, columns))
            yield self._selects[entity]

    # --- the parts, each made once ------------------------------------------------------------------------------------

    @cached_property
    def season(self) -> Season:
        return Season(self.as_of, self.days)

    @cached_property
    def people(self) -> People:
        return people(self.seed, self.customers, self.season)

    @cached_property
    def catalogue(self) -> Catalogue:
        return catalogue(self.seed, self.products, self.days)

    @cached_property
    def purchases(self) -> Purchases:
        who = self.people
        return purchases(draws(self.seed, "purchases"), who.first, who.rate, who.dropout, self.days)

    @cached_property
    def campaigns(self) -> Campaigns:
        return campaigns(self.season)

    @cached_property
    def _timeline(self) -> tuple[Array, Array, Array]:
        bought = self.purchases
        return timeline(self.seed, bought.customer, bought.day, bought.nth, self.season)

    @cached_property
    def messages(self) -> Messages:
        customer, second, _ = self._timeline
        return messages(self.seed, self.campaigns, self.people, customer, second, self.season)

    @cached_property
    def _sales(self) -> tuple[Orders, Lines]:
        return orders_and_lines(
            self.seed, self._timeline, self.people, self.catalogue, self.campaigns, self.messages, self.season
        )

    @property
    def orders(self) -> Orders:
        return self._sales[0]

    @property
    def lines(self) -> Lines:
        return self._sales[1]

    @cached_property
    def events(self) -> Events:
        return events(
            self.seed,
            self.season,
            self.event_days,
            self.people,
            self.purchases,
            self.catalogue,
            self.campaigns,
            self.messages,
            self.orders,
            self.lines,
        )

    @cached_property
    def ad_spend(self) -> AdSpend:
        return ad_spend(self.seed, self.campaigns, self.customers, self.season)

    @cached_property
    def _selects(self) -> dict[str, str]:
        start, end = int(self.season.start.timestamp()), int(self.as_of.timestamp())
        return shop_files.selects(start, end, self.currency, self.campaigns)

    @cached_property
    def _arrays(self) -> dict[str, Callable[[], dict[str, Array]]]:
        return {
            "customers": self._customers,
            "addresses": self._addresses,
            "products": self._products,
            "product_prices": self._product_prices,
            "orders": self._orders,
            "order_lines": lambda: as_booked(self.orders, self.lines),
            "events": lambda: _columns(self.events),
            "campaigns": lambda: _columns(self.campaigns, leave=("name", "running")),
            "campaign_responses": lambda: _columns(self.messages, leave=("order",)),
            "ad_spend": lambda: _columns(self.ad_spend),
        }

    def _customers(self) -> dict[str, Array]:
        who = self.people
        columns = _columns(who, leave=("first", "rate", "dropout", "spend", "channel"))
        columns["email_ok"] = who.email_ok.copy()
        columns["email_ok"][self.messages.customer[self.messages.unsubscribed >= 0]] = 0
        columns["second_id"] = (len(who) - 1 + np.cumsum(who.second_address)).astype(np.int32)
        return columns

    def _addresses(self) -> dict[str, Array]:
        """A home for each customer, then the second addresses, which are elsewhere in the list of cities."""
        who = self.people
        second = np.flatnonzero(who.second_address)
        return {
            "house": np.concatenate([who.house, who.house[second] % 90 + 1]),
            "street": np.concatenate([who.street, who.street[second]]),
            "city": np.concatenate([who.city, np.maximum(who.city[second] - 1, 0)]),
        }

    def _products(self) -> dict[str, Array]:
        names = ("category", "thing", "style", "brand", "cost", "price_now", "updated")
        return {name: getattr(self.catalogue, name) for name in names}

    def _product_prices(self) -> dict[str, Array]:
        goods = self.catalogue
        gone, since = withdrawn(self.seed, goods, self.lines.product, self.orders.second[self.lines.order], self.days)
        product = np.concatenate([goods.version_product, gone])
        moment = np.concatenate([goods.version_from, since])
        order = np.lexsort((moment, product))
        columns = {
            "product": product,
            "since": moment,
            "price": np.concatenate([goods.version_price, goods.price_now[gone]]),
            "is_deleted": np.repeat(np.array([0, 1], dtype=np.int8), [goods.version_product.size, gone.size]),
        }
        return {name: column[order] for name, column in columns.items()}

    def _orders(self) -> dict[str, Array]:
        sold = slice(0, self.lines.sold)
        paid = self.lines.quantity[sold] * self.lines.price[sold] - np.maximum(self.lines.discount[sold], 0)
        amount = np.add.reduceat(paid.astype(np.int64), self.lines.first_line)
        return {**_columns(self.orders, leave=("nth",)), "amount": amount}


def _columns(record: Any, leave: tuple[str, ...] = ()) -> dict[str, Array]:
    return {name: value for name, value in vars(record).items() if name not in leave}
