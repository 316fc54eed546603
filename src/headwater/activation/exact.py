"""JSON in which a decimal keeps every digit: 12.30 is read as Decimal("12.30") and written as 12.30, never as a float."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

_DECODER = json.JSONDecoder(parse_float=Decimal)  # made once: making it costs more than reading a row


_text = json.JSONEncoder(ensure_ascii=False).encode


def loads(text: str) -> Any:
    """Python values; numbers with a point or an exponent become Decimal. Raises ValueError when the text is not JSON."""
    return _DECODER.decode(text)


def dumps(value: Any) -> str:
    """JSON text without blanks, keys in the order given, non-ASCII as it is.

    Raises TypeError for a value that JSON has no word for (a NaN, an object of a class of its own).
    """
    if isinstance(value, str):
        return _text(value)
    if value is None or isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise TypeError(f"{value} cannot be written as JSON")
        return str(value)
    if isinstance(value, float):
        return json.dumps(value, allow_nan=False)
    if isinstance(value, datetime | date):
        return json.dumps(value.isoformat())
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{_text(str(k))}:{dumps(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(dumps(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")
