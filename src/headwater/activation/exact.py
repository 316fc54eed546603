"""JSON in which a decimal keeps every digit: 12.30 is read as Decimal("12.30") and written as 12.30, never as a float."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

_DECODER = json.JSONDecoder(parse_float=Decimal)  # made once: making it costs more than reading a row


class _NotPlain(Exception):
    """A value that the encoder written in C has no word for."""


def _refuse(value: Any) -> Any:
    raise _NotPlain


_text = json.JSONEncoder(ensure_ascii=False).encode
_plain = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_refuse).encode


def loads(text: str) -> Any:
    """Python values; numbers with a point or an exponent become Decimal. Raises ValueError when the text is not JSON."""
    return _DECODER.decode(text)


def dumps(value: Any) -> str:
    """JSON text without blanks, keys in the order given, non-ASCII as it is.

    Raises TypeError for a value that JSON has no word for (a NaN, an object of a class of its own).
    """
    try:
        return _plain(value)  # a tenth of the time, for what holds no decimal and no date
    except (_NotPlain, TypeError, ValueError):
        return _careful(value)


def _careful(value: Any) -> str:
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
        return "{" + ",".join(f"{_text(str(k))}:{_careful(v)}" for k, v in value.items()) + "}"
    if isinstance(value, Sequence):
        return "[" + ",".join(_careful(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} {value!r} cannot be written as JSON")
