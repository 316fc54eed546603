"""The statements of the data products for Flink, rendered from `sql/` with the project's settings."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2

from headwater.errors import ConfigError
from headwater.log.settings import KafkaLogSettings, LogSettings
from headwater.warehouse.flink.settings import FlinkSettings

PRODUCTS: Mapping[str, str] = {
    "enriched_customers": "customerid",
    "products_with_pk": "productid",
    "product_sales": "orderitemid",
    "thirty_day_customer_snapshot": "customerid",
}
"""The data products, and the key of each."""

_PARTS = ("settings", "changes", "sales", "products", "job")
_TABLES = [
    ("customers", "customerid", ["customerid", "customername", "email", "segment", "shipping_address_id", "billing_address_id"]),
    ("addresses", "addressid", ["addressid", "street", "city", "state", "postalcode", "country"]),
    ("products", "productid", ["productid", "brand", "productname", "category", "description", "color", "size", "price"]),
    ("orders", "orderid", ["orderid", "customerid", "orderdate", "status"]),
    ("order_items", "orderitemid", ["orderitemid", "orderid", "productid", "quantity"]),
]  # fmt: skip
_VERSIONS = [
    ("customers", "customerid", ["customername", "shipping_address_id", "billing_address_id"]),
    ("addresses", "addressid", ["city", "state"]),
    ("products", "productid", ["brand", "productname", "price"]),
]
_SECRET = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")


@dataclass(frozen=True)
class Script:
    """Statements in their order. Secrets stand in them as `${NAME}`, the variable of the environment that holds each."""

    statements: tuple[str, ...]

    @property
    def text(self) -> str:
        """All of it, as Flink's SQL client takes it from a file."""
        return "".join(f"{statement};\n\n" for statement in self.statements)

    def told(self, environment: Mapping[str, str]) -> list[str]:
        """The statements with their secrets. Raises ConfigError naming the variables that are not set."""
        names = {name for statement in self.statements for name in _SECRET.findall(statement)}
        missing = sorted(name for name in names if not environment.get(name))
        if missing:
            raise ConfigError(f"the environment has no {', '.join(missing)}: set them, then run again")
        return [_SECRET.sub(lambda found: _quoted(environment[found[1]]), statement) for statement in self.statements]


def render(
    name: str,
    log: LogSettings,
    flink: FlinkSettings,
    *,
    source: str,
    before_first: str,
    folder: Path,
    bounded: bool = False,
    recover_from: str | None = None,
) -> Script:
    """The script of one project.

    `source`: the database's name; `bounded`: the job ends at what the topic holds now; `recover_from`: a checkpoint or
    savepoint to go on from. Raises ConfigError when the log is not in Kafka.
    """
    if log.kafka is None or log.kind != "kafka":
        raise ConfigError(
            f"the log is of kind {log.kind}, and Flink reads it from Kafka. Set `log: {{kind: kafka, kafka: {{bootstrap_servers: …}}}}`; "
            "docs/kafka.md has the way there"
        )
    loader = jinja2.FunctionLoader(
        lambda part: (resources.files("headwater.warehouse.flink") / "sql" / f"{part}.sql").read_text("utf-8")
    )
    made = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined)  # noqa: S701
    connection = _connection(log.kafka)
    values: dict[str, Any] = {
        "name": name,
        "flink": flink,
        "checkpoint_dir": flink.checkpoint_dir or (folder / "run" / "flink-checkpoints").resolve().as_uri(),
        "recover_from": recover_from,
        "changes_topic": log.kafka.topic_prefix + "changes",
        "connection": connection,
        "bounded": bounded,
        "source": source,
        "before_first": before_first,
        "tables": _TABLES,
        "versions": _VERSIONS,
        "sink": lambda product: _sink(flink.products_prefix + product, connection),
    }
    text = "\n".join(made.get_template(part).render(values) for part in _PARTS)
    return Script(tuple(_statements(text)))


def _sink(topic: str, connection: str) -> str:
    return (
        f"\n    'connector' = 'upsert-kafka',\n    'topic' = '{topic}',\n{connection}\n"
        "    'properties.acks' = 'all',\n    'key.format' = 'json',\n    'value.format' = 'json',\n"
        "    'value.json.timestamp-format.standard' = 'ISO-8601',\n    'value.json.encode.decimal-as-plain-number' = 'true'\n"
    )


def _connection(own: KafkaLogSettings) -> str:
    """Options that reach the brokers, as lines of a WITH."""
    found = {"bootstrap.servers": own.bootstrap_servers, "security.protocol": own.security_protocol}
    if own.sasl_mechanism:
        scram = own.sasl_mechanism.startswith("SCRAM")
        module = "scram.ScramLoginModule" if scram else "plain.PlainLoginModule"
        found["sasl.mechanism"] = own.sasl_mechanism
        found["sasl.jaas.config"] = (
            f"org.apache.kafka.common.security.{module} required "
            f'username="${{{own.username_env}}}" password="${{{own.password_env}}}";'
        )
    if own.ca_file:
        found |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": own.ca_file}
    return "\n".join(f"    'properties.{key}' = '{_quoted(value)}'," for key, value in found.items())


def _quoted(value: str) -> str:
    return value.replace("'", "''")


def _statements(text: str) -> list[str]:
    """Single statements; what stands between `begin` and `end` belongs together."""
    found: list[str] = []
    inside = False
    held: list[str] = []
    for line in text.splitlines():
        if not held and (not line.strip() or line.lstrip().startswith("--")):
            continue
        if line.strip() == "begin":
            inside = True
        held.append(line.rstrip())
        if line.rstrip().endswith(";") and (not inside or line.strip() == "end;"):
            found.append("\n".join(line for line in held if line)[:-1])
            held, inside = [], False
    return found
