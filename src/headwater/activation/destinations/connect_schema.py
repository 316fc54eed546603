"""Rows as Kafka Connect's JsonConverter reads them with `schemas.enable=true`: each message carries the schema of its row.

Sinks that make tables (JDBC, Redshift, Snowflake …) need to know a column's type; plain JSON does not say it.
"""

import base64
import re
from collections.abc import Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from headwater.activation import exact

TYPES = ("int32", "int64", "double", "boolean", "string", "date", "timestamp")
_DECIMAL = re.compile(r"^decimal\((\d+),\s*(\d+)\)$")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ConnectSchema:
    """`columns`: name to type, one of TYPES or `decimal(18,2)`. `key`: the column that the message's key is, None = its text.

    Raises ValueError for a type that is none of these, or a key that is no column.
    """

    def __init__(self, columns: Mapping[str, str], key: str | None) -> None:
        for name, kind in columns.items():
            if kind not in TYPES and not _DECIMAL.match(kind):
                raise ValueError(f"{name}: found {kind!r}; a type is one of {', '.join(TYPES)} or decimal(18,2)")
        if key is not None and key not in columns:
            raise ValueError(f"key_column {key!r} is none of the columns: {', '.join(columns)}")
        self._columns = dict(columns)
        self._key = key
        self._schema = exact.dumps(
            _struct([_field(name, kind, optional=name != key) for name, kind in columns.items()])
        )
        self._key_schema = exact.dumps(_struct([_field(key, columns[key], optional=False)])) if key else ""

    def key(self, text: str) -> str:
        """The message's key, of the sync's key."""
        if self._key is None:
            return text
        found = _value(text, self._columns[self._key])
        return f'{{"schema":{self._key_schema},"payload":{exact.dumps({self._key: found})}}}'

    def value(self, row: Mapping[str, Any]) -> str:
        """The message's value. Raises ValueError naming a column whose value is not of its type, or that has no type."""
        unknown = sorted(set(row) - set(self._columns))
        if unknown:
            raise ValueError(f"{', '.join(unknown)} have no type; name them in `schema` or do not map them")
        payload = {}
        for name, kind in self._columns.items():
            try:
                payload[name] = None if row.get(name) is None else _value(row[name], kind)
            except (ValueError, TypeError, ArithmeticError) as error:
                raise ValueError(f"{name}: found {row[name]!r}, which is no {kind}") from error
        return f'{{"schema":{self._schema},"payload":{exact.dumps(payload)}}}'


def _struct(fields: list[dict[str, Any]]) -> dict[str, Any]:
    return {"type": "struct", "optional": False, "fields": fields}


def _field(name: str, kind: str, *, optional: bool) -> dict[str, Any]:
    told: dict[str, Any] = {"field": name, "optional": optional}
    if decimal := _DECIMAL.match(kind):
        parameters = {"scale": decimal[2], "connect.decimal.precision": decimal[1]}
        return {
            **told,
            "type": "bytes",
            "name": "org.apache.kafka.connect.data.Decimal",
            "version": 1,
            "parameters": parameters,
        }
    if kind == "date":
        return {**told, "type": "int32", "name": "org.apache.kafka.connect.data.Date", "version": 1}
    if kind == "timestamp":
        return {**told, "type": "int64", "name": "org.apache.kafka.connect.data.Timestamp", "version": 1}
    return {**told, "type": kind}


def _value(found: Any, kind: str) -> Any:
    if decimal := _DECIMAL.match(kind):
        scaled = Decimal(str(found)).scaleb(int(decimal[2]))
        unscaled = int(scaled)
        if unscaled != scaled:
            raise ValueError(f"more than {decimal[2]} digits after the point")
        return base64.b64encode(unscaled.to_bytes(unscaled.bit_length() // 8 + 1, "big", signed=True)).decode()
    if kind in ("int32", "int64"):
        number = int(str(found))
        if not -(2 ** (31 if kind == "int32" else 63)) <= number < 2 ** (31 if kind == "int32" else 63):
            raise ValueError("out of its range")
        return number
    if kind == "date":
        day = found if isinstance(found, date) else date.fromisoformat(str(found))
        return (date(day.year, day.month, day.day) - date(1970, 1, 1)).days
    if kind == "timestamp":
        moment = found if isinstance(found, datetime) else datetime.fromisoformat(str(found))
        moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return int((moment - _EPOCH).total_seconds() * 1_000)
    if kind == "double":
        return float(found)
    if kind == "boolean":
        if not isinstance(found, bool):
            raise TypeError(found)
        return found
    return found if isinstance(found, str) else exact.dumps(found)
