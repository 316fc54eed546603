"""The data products on a real Flink and a real Kafka, beside the engine that follows the same topic: equal row for row.

What differs is shown too: `headwater explain --target flink` says the same in sentences.
"""

import json
import random
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from retail_database import TABLES, Database
from retail_shop import Retail

from headwater import scaffold
from headwater.activation import exact
from headwater.cli.entry import execute
from headwater.log.kafka import KafkaLog
from headwater.log.kafka_making import make_compacted
from headwater.log.kafka_topic import Looker, TopicReader
from headwater.log.settings import KafkaLogSettings, LogSettings
from headwater.testing import kafka
from headwater.warehouse.flink import differences, local
from headwater.warehouse.flink.gateway import Gateway
from headwater.warehouse.flink.script import PRODUCTS, render
from headwater.warehouse.flink.settings import FlinkSettings

pytest.importorskip("confluent_kafka", reason="the package confluent-kafka is not installed")
pytestmark = pytest.mark.flink
HOME = Path(__file__).resolve().parents[2]
COLUMNS = {
    "enriched_customers": "customerid, customername, email, segment, shipping_address_street, shipping_address_city,"
    " shipping_address_state, shipping_address_postalcode, shipping_address_country, billing_address_street, billing_address_city,"
    " billing_address_state, billing_address_postalcode, billing_address_country, updated_at",
    "products_with_pk": "productid, brand, productname, category, description, color, size, price, updated_at",
    "product_sales": "orderdate, orderid, productid, orderitemid, brand, productname, price, customerid, customername,"
    " shipping_address_city, shipping_address_state, billing_address_state, quantity, total_amount, updated_at",
    "thirty_day_customer_snapshot": "customerid, customername, total_amount, number_of_orders, updated_at",
}


class Shop:
    """A database, the topic of its changes, the engine that follows it, and jobs of Flink over the same topic."""

    def __init__(self, retail: Retail, own: KafkaLogSettings, gateway: str) -> None:
        self.db = Database()
        self.retail = retail
        self.own = own
        self.gateway = gateway
        self.jobs = 0

    def flink(self, *, before_first: str = "first_version") -> dict[str, list[tuple[Any, ...]]]:
        """What a new job leaves in its topics when it has read all that is there."""
        self.jobs += 1
        prefix = f"products{self.jobs}."
        make_compacted(self.own, {}, [prefix + name for name in PRODUCTS])
        script = render(
            "shop",
            LogSettings(kind="kafka", kafka=self.own),
            FlinkSettings(
                products_prefix=prefix, parallelism=1, checkpoint_seconds=1, state_backend="hashmap", mini_batch_ms=100
            ),
            source="retail",
            before_first=before_first,
            folder=self.retail.folder,
            bounded=True,
        )
        with Gateway(self.gateway) as session:
            session.run(script.told({}))
        return {name: self._rows(prefix + name, COLUMNS[name].split(", ")) for name in PRODUCTS}

    def flink_by_command(self, folder: Path) -> dict[str, list[tuple[Any, ...]]]:
        """The same by `headwater flink run`, in a project."""
        scaffold.init_template(folder, "online-retailer")
        settings = yaml.safe_load((folder / "headwater.yml").read_text(encoding="utf-8"))
        own = self.own.model_dump(exclude_defaults=True)
        settings["log"] = {"kind": "kafka", "kafka": {**own, "hold_for_groups": ["headwater-flink"]}}
        settings["flink"] = {"products_prefix": "by_command.", "parallelism": 1, "state_backend": "hashmap"}
        (folder / "headwater.yml").write_text(yaml.safe_dump(settings), encoding="utf-8")
        assert execute(["flink", "run", "--until-end", "--gateway", self.gateway, "-C", str(folder)]) == 0
        return {name: self._rows(f"by_command.{name}", COLUMNS[name].split(", ")) for name in PRODUCTS}

    def _rows(self, topic: str, columns: list[str]) -> list[tuple[Any, ...]]:
        """The newest message of each key, without those that say that a row is gone."""
        client = self.own.client({})
        looker, reader = Looker(client, 20), TopicReader(client, topic, 20)
        try:
            rows: dict[bytes, dict[str, Any] | None] = {}
            for number, (low, high) in looker.bounds(topic).items():
                for message in reader.span(number, low, high):
                    value = message.value()
                    rows[message.key() or b""] = None if value is None else exact.loads(value.decode())
        finally:
            looker.close()
            reader.close()
        return sorted(
            (tuple(_value(name, row[name]) for name in columns) for row in rows.values() if row is not None), key=repr
        )

    def engine(self) -> dict[str, list[tuple[Any, ...]]]:
        """What the engine holds."""
        return {
            name: sorted(self.retail.rows(f"select {columns} from main.{name}"), key=repr)
            for name, columns in COLUMNS.items()
        }


def _value(column: str, value: Any) -> Any:
    if column in ("orderdate", "updated_at"):
        return datetime.fromisoformat(value)
    return Decimal(str(value)) if column in ("price", "total_amount") else value


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, str]]:
    """A broker and a gateway with a cluster of its own: their addresses."""
    flink = local.home() or HOME / ".venv-flink"
    jars = HOME / ".flink"
    if missing := kafka.found(HOME / ".kafka") or local.missing(flink, jars):
        pytest.skip(missing)
    folder = tmp_path_factory.mktemp("flink")
    with (
        kafka.broker(folder / "kafka", HOME / ".kafka") as broker,
        local.gateway(folder / "flink", flink, jars) as gateway,
    ):
        yield broker, gateway


@pytest.fixture
def shop(services: tuple[str, str], retail_home: Path, tmp_path: Path) -> Iterator[Shop]:
    own = KafkaLogSettings(bootstrap_servers=services[0], topic_prefix=f"{tmp_path.name}.", partitions=3)
    log = KafkaLog(own, {})
    retail = Retail(tmp_path / "shop", retail_home, log=log)
    yield Shop(retail, own, services[1])
    retail.close()
    log.close()


def _fill(db: Database, draw: random.Random) -> list[Any]:
    sent: list[Any] = [db.schema(table) for table in TABLES]
    for number in range(6):
        row = {"street": f"s{number}", "city": f"c{number}", "state": draw.choice(["Ohio", "Utah"]), "postalcode": "1"}
        sent.append(db.put("addresses", {"addressid": f"A{number}", **row, "country": "US"}))
    for number in range(8):
        sent.append(db.put("customers", _customer(number, draw)))
    for number in range(5):
        sent.append(db.put("products", _product(number, draw)))
    return sent


def _customer(number: int, draw: random.Random) -> dict[str, Any]:
    row = {"customerid": number, "customername": f"N{draw.randrange(100)} Zoë", "email": "****", "segment": "New"}
    return {**row, "shipping_address_id": f"A{draw.randrange(7)}", "billing_address_id": f"A{draw.randrange(7)}"}


def _product(number: int, draw: random.Random) -> dict[str, Any]:
    row = {
        "productid": number,
        "brand": "B",
        "productname": draw.choice(["P", "Q", "", " "]) if draw.random() < 0.2 else "P",
    }
    price = f"{draw.randrange(1, 9999)}.{draw.randrange(100):02}" if draw.random() < 0.9 else "0.00"
    return {**row, "category": "c", "description": None, "color": "red", "size": None, "price": price, "stock": 1}


def _busy(db: Database, draw: random.Random, steps: int) -> list[Any]:
    """Orders, and changes, deletions and returns of everything that they stand on."""
    sent: list[Any] = []
    for step in range(steps):
        db.pass_time(seconds=draw.randrange(1, 4_000), microseconds=draw.randrange(1_000_000))
        what = draw.random()
        if what < 0.6:
            order = 1_000 + step
            moment = f"{db.at.isoformat()}Z"
            sent.append(
                db.put(
                    "orders",
                    {"orderid": order, "customerid": draw.randrange(8), "orderdate": moment, "status": "Pending"},
                )
            )
            for nth in range(draw.randrange(1, 4)):
                item = {"orderitemid": order * 10 + nth, "orderid": order, "productid": draw.randrange(5)}
                sent.append(db.put("order_items", {**item, "quantity": draw.randrange(1, 9)}))
        elif what < 0.7:
            sent.append(db.put("customers", _customer(draw.randrange(8), draw)))
        elif what < 0.8:
            sent.append(db.put("products", _product(draw.randrange(5), draw)))
        elif what < 0.88:
            key = f"A{draw.randrange(6)}"
            row = {"street": "s", "city": f"c{draw.randrange(99)}", "state": "Iowa", "postalcode": "2", "country": "US"}
            sent.append(db.put("addresses", {"addressid": key, **row}))
        else:
            table = draw.choice(list(TABLES))
            if db.rows[table]:
                sent.append(db.delete(table, draw.choice(sorted(db.rows[table], key=str))))
    return sent


def test_flink_and_the_engine_agree_row_for_row_and_differ_where_it_is_said(shop: Shop, tmp_path: Path) -> None:
    draw = random.Random(20260301)
    db, retail = shop.db, shop.retail
    sent = [*_fill(db, draw), *_busy(db, draw, 160)]
    retail.push(seconds=(db.at - retail.clock.now().replace(tzinfo=None)).total_seconds())
    retail.settle(*sent, *sent[40:60])  # a sender repeats itself
    engine = shop.engine()
    assert len(engine["product_sales"]) > 100
    flink = shop.flink()
    for name in PRODUCTS:
        assert flink[name] == engine[name], name
    assert {str(row[0]) for row in retail.rows("select status from landed.retail__orders")} == {"Pending"}

    # thirty-one days on, one customer orders again: the engine's totals of the others have shrunk, Flink's have not
    db.pass_time(days=31)
    retail.push(days=31)
    busy = next(key for key in db.rows["customers"] if any(o["customerid"] == key for o in db.rows["orders"].values()))
    good = db.put("products", {**_product(9, draw), "productname": "P", "price": "5.00"})
    order = {"orderid": 9_000, "customerid": busy, "orderdate": f"{db.at.isoformat()}Z", "status": "Pending"}
    item = {"orderitemid": 90_000, "orderid": 9_000, "productid": 9, "quantity": 2}
    retail.settle(good, db.put("orders", order), db.put("order_items", item))
    engine, later = shop.engine(), shop.flink_by_command(tmp_path / "project")
    for name in PRODUCTS:
        if name != "thirty_day_customer_snapshot":
            assert later[name] == engine[name], name
    totals = {row[0]: row[2] for row in engine["thirty_day_customer_snapshot"]}
    kept = {row[0]: row[2] for row in later["thirty_day_customer_snapshot"]}
    before = {row[0]: row[2] for row in flink["thirty_day_customer_snapshot"]}
    assert totals == {key: Decimal("10.00") if key == busy else Decimal("0.00") for key in totals}
    assert kept == {**before, busy: Decimal("10.00")}
    assert max(before.values()) > 0
    assert "windows do not shrink" in [one.title for one in differences.of("thirty_day_customer_snapshot")]


def test_nothing_secret_stands_in_the_script(tmp_path: Path) -> None:
    own = KafkaLogSettings(
        bootstrap_servers="b1:9092",
        security_protocol="SASL_SSL",
        sasl_mechanism="PLAIN",
        username_env="KEY",
        password_env="SECRET",
    )
    script = render(
        "shop",
        LogSettings(kind="kafka", kafka=own),
        FlinkSettings(),
        source="retail",
        before_first="drop",
        folder=tmp_path,
    )
    assert '${KEY}" password="${SECRET}"' in script.text
    told = script.told({"KEY": "abc", "SECRET": "it's"})
    assert any("password=\"it''s\"" in statement for statement in told)
    assert json.dumps(told).count("${") == 0
