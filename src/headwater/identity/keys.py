"""Identifiers: how they are written, which mean nobody, and how they are hashed.

Four kinds take part in links: `user` (the shop's own customer id, Segment's userId), `anonymous` (Segment's anonymousId),
`email` and `device`. User, anonymous and device ids are compared as they came, because events carry them so; e-mail
addresses without surrounding blanks and in lower case. `phone` is normalised and hashed, and links nobody: a number is
shared by a household more often than it names a person.

A masked column holds hashes instead of values. The hash is HMAC-SHA256 of the normalised value, the same here, in the
collector and in `warehouse.loading`, so hashes of one value join wherever they were made.
"""

import hashlib
import hmac
import re
from collections.abc import Sequence
from typing import Literal

Kind = Literal["user", "anonymous", "email", "device"]
KINDS: tuple[Kind, ...] = ("user", "anonymous", "email", "device")

NOBODY = (
    "-1", "null", "none", "nil", "undefined", "nan", "n/a", "anonymous", "guest", "unknown", "[object object]",
)  # fmt: skip
"""Values that stand for nobody, in lower case, beside the empty one and those made of noughts and dashes only."""

_BLANKS = " \t\n\r"
_HASH = re.compile(r"^(v[0-9]+:)?[0-9a-f]{64}$")


def blocked(value: str | None, more: Sequence[str] = ()) -> bool:
    """Whether an id of any kind means nobody: null, empty, noughts and dashes only (`0000-00`), or one of NOBODY or `more`.

    Blanks around it and its case do not matter.
    """
    if value is None:
        return True
    word = value.strip(_BLANKS).lower()
    return not word.strip("0-") or word in NOBODY or word in {other.lower() for other in more}


def blocked_sql(column: str, more: Sequence[str] = ()) -> str:
    """SQL of `blocked`, true or false and never null, for a varchar expression; a plain column is cheapest.

    Most ids are told apart by their first letter, almost all others by their first two: taking one apart costs ten times as much.
    Outside ASCII a letter may have a small one within, so those are compared whole. DuckDB makes a join of `in` with a long
    list, over all rows and before any `case`.
    """
    word = f"lower({_trimmed(column)})"
    listed = (*NOBODY, *(other.lower() for other in more))
    words = ", ".join(_text(value) for value in listed)
    first = {ord(letter) for value in (*listed, *"0-", *_BLANKS) for letter in value[:1] + value[:1].upper()}
    short = {value[:2] for value in (*listed, "0", "-", "00", "0-", "-0", "--")}
    begins = sorted(short | {one + blank for one in short if len(one) == 1 for blank in _BLANKS})
    letter = f"ascii({column})"
    return (
        f"case when {column} is null or {column} = '' then true"
        f" when {letter} < 128 and not list_contains([{', '.join(map(str, sorted(first)))}], {letter}) then false"
        f" when {letter} between 33 and 127 and not list_contains([{', '.join(map(_text, begins))}], lower({column}[:2])) then false"
        f" else trim({word}, '0-') = '' or list_contains([{words}], {word}) end"
    )


def email(value: str | None) -> str | None:
    """The address as it is compared; None for what cannot be an address. A hash made by a mask passes as it is."""
    if value is None:
        return None
    address = value.strip(_BLANKS).lower()
    if _HASH.match(address):
        return address
    return address if re.match(r"^[^@]+@[^@]+$", address) else None


def email_sql(column: str) -> str:
    """SQL of `email`, for a varchar expression."""
    address = f"lower({_trimmed(column)})"
    return f"case when regexp_full_match({address}, '[^@]+@[^@]+|(v[0-9]+:)?[0-9a-f]{{64}}', 's') then {address} end"


def phone(value: str | None) -> str | None:
    """Digits, with `+` in front of an international number; None when fewer than seven digits are left. A hash passes."""
    if value is None:
        return None
    number = value.strip(_BLANKS)
    if _HASH.match(number.lower()):
        return number.lower()
    digits = re.sub(r"[^0-9]", "", number)
    if number.startswith("+"):
        digits = "+" + digits
    elif digits.startswith("00"):
        digits = "+" + digits[2:]
    return digits if len(digits.removeprefix("+")) >= 7 else None


def normalised(kind: str, value: str | None, more: Sequence[str] = ()) -> str | None:
    """The id as links and identities hold it; None when it is blocked or cannot be of its kind.

    `kind` is one of KINDS or `phone`; another one is a ValueError.
    """
    if kind not in (*KINDS, "phone"):
        raise ValueError(f"found the kind {kind!r}; an id is one of {', '.join(KINDS)} or phone")
    if value is None or blocked(value, more):
        return None
    if kind == "email":
        return email(value)
    return phone(value) if kind == "phone" else value


def hashed(value: str, key: bytes, version: int = 1) -> str:
    """HMAC-SHA256, in hexadecimal, of the value without surrounding blanks and in lower case.

    Hashes of key version 1 stand bare, as file loads write them; those of version n > 1 begin with `v<n>:`, so that a new
    key never seems to be the old one. An empty key is refused: it would hash nothing.
    """
    if not key:
        raise ValueError("the key of a hash is empty; set it to a long random text")
    digest = hmac.new(key, value.strip(_BLANKS).lower().encode(), hashlib.sha256).hexdigest()
    return digest if version == 1 else f"v{version}:{digest}"


def _trimmed(column: str) -> str:
    return f"trim({column}, ' ' || chr(9) || chr(10) || chr(13))"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"
