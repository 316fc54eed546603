"""The hash that Python and SQL both compute: holdout, sampling and keys give the same answer on either side.

MD5 spreads well, is in Python and in every warehouse, and nothing here depends on it being hard to invert. Parts are
joined by the ASCII unit separator, so ("ab", "c") and ("a", "bc") differ.
"""

from hashlib import md5

SEPARATOR = "\x1f"


def digest(*parts: str) -> str:
    """32 hexadecimal characters that identify the parts in this order."""
    return md5(SEPARATOR.join(parts).encode(), usedforsecurity=False).hexdigest()


def unit(*parts: str) -> float:
    """A number in [0, 1), uniform over different parts: the upper 53 bits of the hash's second half, over 2**53."""
    raw = md5(SEPARATOR.join(parts).encode(), usedforsecurity=False).digest()
    return (int.from_bytes(raw[8:], "little") >> 11) / 9007199254740992.0


def digest_sql(*expressions: str) -> str:
    """SQL of `digest`; each expression is a varchar that is never null (a null would make the whole hash null)."""
    return f"md5({_joined(expressions)})"


def unit_sql(*expressions: str) -> str:
    """SQL of `unit`, the same double to the last bit.

    The second half of the hash is the upper half of `md5_number`; DuckDB's `md5_number_lower`, which is the same, takes three
    times as long.
    """
    return f"((md5_number({_joined(expressions)}) >> 75)::ubigint::double / 9007199254740992.0)"


def text_sql(value: str) -> str:
    """`value` as an SQL string literal."""
    return "'" + value.replace("'", "''") + "'"


def _joined(expressions: tuple[str, ...]) -> str:
    return " || chr(31) || ".join(f"({expression})" for expression in expressions)
