"""What a column is, and its values as the log holds them: decimals and moments as texts, everything else as it is."""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from headwater.collect.topics.shapes import Unfit

UNAVAILABLE = "__debezium_unavailable_value"
"""What Debezium writes for a value that did not change and was not sent, unless it is told another text."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_UNITS = {"ms": 1_000, "us": 1, "ns": 1}
_PLAIN = {
    "int8": "smallint", "int16": "smallint", "int32": "integer", "int64": "bigint", "float32": "real", "float": "real",
    "float64": "double precision", "double": "double precision", "boolean": "boolean", "string": "text", "bytes": "text",
}  # fmt: skip
_NAMED = {
    "org.apache.kafka.connect.data.Date": "date", "io.debezium.time.Date": "date",
    "org.apache.kafka.connect.data.Timestamp": "timestamp", "io.debezium.time.Timestamp": "timestamp",
    "io.debezium.time.MicroTimestamp": "timestamp", "io.debezium.time.NanoTimestamp": "timestamp",
    "io.debezium.time.ZonedTimestamp": "timestamptz", "io.debezium.data.Json": "jsonb", "io.debezium.data.Uuid": "uuid",
}  # fmt: skip
_MOMENTS = {
    "org.apache.kafka.connect.data.Timestamp": "ms", "io.debezium.time.Timestamp": "ms",
    "io.debezium.time.MicroTimestamp": "us", "io.debezium.time.NanoTimestamp": "ns",
}  # fmt: skip
_DECIMAL = "org.apache.kafka.connect.data.Decimal"
_SHAPE = re.compile(r"^(numeric|decimal)\s*(?:\(\s*\d+\s*,\s*(\d+)\s*\))?$")


def postgres_type(schema: Mapping[str, Any]) -> str:
    """The type, as Postgres writes it, of a field with this schema of Kafka Connect; text for what has no better one."""
    name = str(schema.get("name") or "")
    if name == _DECIMAL:
        told = schema.get("parameters") or {}
        precision, scale = told.get("connect.decimal.precision"), told.get("scale", "0")
        return f"numeric({precision},{scale})" if precision else "numeric"
    return _NAMED.get(name) or _PLAIN.get(str(schema.get("type")), "text")


def value(found: Any, kind: str, schema: Mapping[str, Any], unit: str, zone: ZoneInfo) -> Any:
    """A value that is not null. `kind`: the column's type, as Postgres writes it. Raises Unfit."""
    base = kind.lower().strip()
    try:
        if decimal := _SHAPE.match(base):
            return _decimal(found, schema, decimal[2])
        if base == "date":
            return _day(found)
        if base.startswith("timestamp") or base == "datetime":
            zoned = base.startswith("timestamptz") or base.endswith("with time zone")
            return _moment(found, _MOMENTS.get(str(schema.get("name") or ""), unit), UTC if zoned else zone)
    except (ValueError, TypeError, ArithmeticError) as error:
        raise Unfit(f"{type(found).__name__} that is no {kind}") from error
    return found


def _decimal(found: Any, schema: Mapping[str, Any], declared_scale: str | None) -> str:
    if isinstance(found, bool):
        raise TypeError(found)
    if isinstance(found, int | float):
        return str(Decimal(repr(found)))
    if isinstance(found, dict):  # VariableScaleDecimal
        return _unscaled(found["value"], int(found["scale"]))
    if schema.get("name") == _DECIMAL:
        return _unscaled(found, int((schema.get("parameters") or {}).get("scale", 0)))
    try:
        return str(Decimal(found))
    except ArithmeticError:
        if declared_scale is None:
            raise
        return _unscaled(found, int(declared_scale))


def _unscaled(text: str, scale: int) -> str:
    number = int.from_bytes(base64.b64decode(text, validate=True), "big", signed=True)
    return str(Decimal(number).scaleb(-scale))


def _day(found: Any) -> str:
    if isinstance(found, int):
        return (date(1970, 1, 1) + timedelta(days=found)).isoformat()
    return date.fromisoformat(found.removesuffix("Z")).isoformat()


def _moment(found: Any, unit: str, zone: tzinfo) -> str:
    """A number counts from 1970 on the clock of `zone`; a text may carry an offset of its own."""
    if isinstance(found, int) and not isinstance(found, bool):
        micros = found // 1_000 if unit == "ns" else found * _UNITS[unit]
        local = (_EPOCH + timedelta(microseconds=micros)).replace(tzinfo=zone)
    else:
        local = datetime.fromisoformat(str(found))
        local = local if local.tzinfo is not None else local.replace(tzinfo=zone)
    return local.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
