"""Which values mean nobody, how the others are compared, and that SQL and Python say the same."""

import hashlib
import hmac

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from headwater.identity import keys
from headwater.warehouse import Warehouse


@pytest.mark.parametrize(
    "value",
    [None, "", " ", "0", "000", "-", "0-0-0", "00000000-0000-0000-0000-000000000000", "-1", " -1 ", "null", "NULL", "Null ", "anonymous",
     "Anonymous", "undefined", "none", "NaN", "n/a", "guest", "unknown", "[object Object]"],
)  # fmt: skip
def test_values_that_mean_nobody(value):
    assert keys.blocked(value)
    assert keys.normalised("user", value) is None


@pytest.mark.parametrize("value", ["1", "10", "C1", "0a", "-2", "nobody", "anonymous1", "0x0"])
def test_values_that_mean_somebody(value):
    assert not keys.blocked(value)
    assert keys.normalised("user", value) == value


def test_a_shop_adds_values_of_its_own():
    assert not keys.blocked("kiosk-1")
    assert keys.blocked("Kiosk-1 ", ("KIOSK-1",))


@pytest.mark.parametrize(
    ("given_as", "compared_as"),
    [(" Ann@Example.ORG\n", "ann@example.org"), ("ann", None), ("@x.org", None), ("a@", None), ("a@b@c", None), ("", None), (None, None), ("A" * 64, "a" * 64), ("v2:" + "a" * 64, "v2:" + "a" * 64)],
)  # fmt: skip
def test_addresses(given_as, compared_as):
    assert keys.email(given_as) == compared_as


@pytest.mark.parametrize(
    ("given_as", "compared_as"),
    [("+44 (7700) 900-123", "+447700900123"), ("0044 7700 900123", "+447700900123"), ("020 7946 0000", "02079460000"), ("12345", None), ("", None), (None, None), ("b" * 64, "b" * 64)],
)  # fmt: skip
def test_phone_numbers(given_as, compared_as):
    assert keys.phone(given_as) == compared_as


def test_an_unknown_kind_is_an_error():
    with pytest.raises(
        ValueError, match="found the kind 'cookie'; an id is one of user, anonymous, email, device or phone"
    ):
        keys.normalised("cookie", "x")


def test_a_hash_is_hmac_of_the_normalised_value_and_names_its_key():
    plain = hmac.new(b"key", b"ann@example.org", hashlib.sha256).hexdigest()
    assert keys.hashed(" Ann@Example.org", b"key") == plain
    assert keys.hashed("ann@example.org", b"key", version=3) == f"v3:{plain}"
    with pytest.raises(ValueError, match="the key of a hash is empty"):
        keys.hashed("x", b"")


_values = st.text(st.characters(codec="ascii"), max_size=12) | st.sampled_from(
    ["0-0", " NULL\t", "Ann@x.org", "a@b@c", "x@\n"]
)


@pytest.fixture(scope="module")
def warehouse():
    with Warehouse(":memory:") as opened:
        yield opened


_OWN = ("Mine", "Kiosk")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.none() | _values, min_size=1, max_size=30))
@example([None, "", "0-", "-1", "null", "a@b", " A@B\r\n", "f" * 64])
@example(
    ["mine", "MINE ", "\tMine", "mines", "0a", "N/A", "n", "-", "\u0130d", "\u00e9"]
)  # told apart by how they begin, or not
@example(["\u212aiosk", "kiosk", "KIOSK"])  # the sign of kelvin is a small k within
def test_sql_says_the_same(warehouse, values):
    values = [value.replace("\0", "") if value else value for value in values]
    rows = warehouse.execute(
        f"select v, {keys.blocked_sql('v', _OWN)}, {keys.email_sql('v')} from (select unnest(cast(? as varchar[])) as v)",
        [values],
    ).fetchall()
    assert rows == [(value, keys.blocked(value, _OWN), keys.email(value)) for value in values]


def test_sql_says_the_same_of_what_is_nearly_nobody(warehouse):
    own = ("Mine", "x", "\u00dfer", "\u212aiosk", "a b")
    words = (*keys.NOBODY, *own, "0", "-", "00", "0-", "-0", "--", "0-0", "n", "an", "[o", "")
    edges = ("", " ", "\t", "\n ", "0", "-", "q", "\u00e9", "\u212a")
    values = [
        f"{before}{form}{after}"
        for word in words
        for form in (word, word.upper(), word.title(), word[:2], word[1:])
        for before in edges
        for after in edges
    ]
    rows = warehouse.execute(
        f"select v, {keys.blocked_sql('v', own)} from (select unnest(cast(? as varchar[])) as v)", [values]
    ).fetchall()
    assert [value for value, said in rows if said != keys.blocked(value, own)] == []
    assert 100 < sum(said for _, said in rows) < len(rows) / 2
