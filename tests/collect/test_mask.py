"""Masking: nothing that is masked reaches the log, accepted or not, whatever shape it came in."""

import base64
import hashlib
import hmac
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
from collecting import NOW, basic, collecting
from collector_cases import batch, track
from hypothesis import given
from hypothesis import strategies as st

from headwater.clock import FixedClock
from headwater.collect.mask import Mask
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.errors import ConfigError
from headwater.log.sqlite import SqliteLog

KEY = "a long random text"
RULES = {
    "traits.email": "hash",
    "traits.name": "constant",
    "traits.address": "drop",
    "properties.cards.number": "drop",
    "properties.*.iban": "hash",
    "context.ip": "constant",
}


def hashed(value: str) -> str:
    return hmac.new(KEY.encode(), value.encode(), hashlib.sha256).hexdigest()


def masked(**more: Any) -> CollectSettings:
    return CollectSettings(sources=[SourceSettings(name="website", write_key="website", mask=RULES)], **more)


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADWATER_MASK_KEY", KEY)


def test_fields_are_hashed_replaced_and_dropped() -> None:
    with collecting(masked()) as running:
        running.post(
            "/v1/identify",
            {
                "userId": "u",
                "traits": {"email": " Anna@Example.COM ", "name": "Anna", "address": {"city": "Ulm"}, "age": 3},
            },
        )
        running.post(
            "/v1/t",
            track(
                properties={"cards": [{"number": "4111", "kind": "visa"}, {"number": "4112"}], "bank": {"iban": "DE1"}}
            ),
            **{"content-type": "text/plain"},
        )
        identify, event = running.events()
    assert identify["traits"] == {"email": hashed("anna@example.com"), "name": "masked", "age": 3}
    assert event["properties"] == {"cards": [{"kind": "visa"}, {}], "bank": {"iban": hashed("de1")}}
    assert event["context"]["ip"] == "masked"


def test_a_value_in_the_place_of_an_object_is_masked_as_a_whole() -> None:
    mask = Mask({"traits.email": "hash", "properties.cards.number": "drop", "a.b.c": "constant"}, KEY.encode())
    item: dict[str, Any] = {
        "traits": "anna@example.com",
        "properties": {"cards": ["4111", {"number": 1}]},
        "a": {"b": 7},
    }
    mask.apply(item)
    assert item == {"traits": hashed("anna@example.com"), "properties": {"cards": [None, {}]}, "a": {"b": "masked"}}


@pytest.mark.parametrize("value", ["", "  ", "null", "NULL", "undefined", "anonymous", "-1", "000", "0000-0000", "-"])
def test_values_that_stand_for_nobody_are_null(value: str) -> None:
    assert Mask({"x": "hash"}, KEY.encode()).hash(value) is None


@given(
    st.recursive(
        st.text() | st.integers() | st.none() | st.floats(allow_nan=False),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    )
)
def test_a_hashed_field_keeps_none_of_its_texts(value: Any) -> None:
    item = {"traits": {"email": value}}
    Mask({"traits.email": "hash"}, KEY.encode()).apply(item)

    def leaves(one: Any) -> list[Any]:
        if isinstance(one, dict):
            return [leaf for inner in one.values() for leaf in leaves(inner)]
        if isinstance(one, list):
            return [leaf for inner in one for leaf in leaves(inner)]
        return [one]

    assert all(leaf is None or (isinstance(leaf, str) and len(leaf) == 64) for leaf in leaves(item["traits"]["email"]))


def test_a_newer_key_is_told_from_the_older() -> None:
    assert Mask({"x": "hash"}, KEY.encode(), 2).hash("a") == "v2:" + hashed("a")


def test_the_hash_is_that_of_a_masked_column_of_a_file(tmp_path: Path) -> None:
    from headwater.records.files import FileSource
    from headwater.warehouse import Warehouse
    from headwater.warehouse.files import load

    (tmp_path / "c.csv").write_text("id,email\n1, Anna@Example.COM\n")
    with Warehouse(tmp_path / "w.duckdb") as warehouse:
        load(warehouse, {"c": FileSource(tmp_path / "c.csv", "c.csv", mask={"email": "hash"})}, FixedClock(NOW))
        assert warehouse.value("select email from raw.c") == Mask({"x": "hash"}, KEY.encode()).hash("Anna@Example.COM")


SECRET = "anna.secret@example.com"
EVIL = [
    track(event=None, traits={"email": SECRET}),
    track(userId=None, properties={"bank": {"iban": SECRET}}),
    {"type": "nonsense", "traits": {"email": SECRET}},
    track(traits=SECRET),
    track(traits=[{"email": SECRET}]),
]


def test_no_secret_is_in_the_files_of_the_log_whatever_was_wrong_with_its_event(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "log.sqlite")
    with collecting(masked(), log=log) as running:
        for event in EVIL:
            running.post("/v1/batch", batch(event))
            running.post("/v1/track", event)
            running.post("/v1/track", event, **basic("nobody"))
        whole = msgspec.json.encode(batch(*EVIL, context={"traits": {}}))
        for body in (
            whole[:-1],
            whole + b"x",
            whole.replace(b'"type"', b'"\xff"'),
            b"[" + whole,
            whole.replace(b'"batch"', b'"botch"'),
        ):
            running.post("/v1/batch", body)
            running.post("/v1/track", body)
            running.post("/v1/webhook/website", body)
            running.client.post("/v1/batch", content=body)
        running.post("/v1/batch", batch(*[track(traits={"email": SECRET})] * 2_501))
        running.post("/v1/batch", batch(*[track(traits={"email": SECRET, "x": "y" * 40_000})] * 14))
        running.post("/v1/track", track(traits={"email": SECRET, "x": "y" * 40_000}))
        assert running.rejected()
        found = running.rejected()
        assert all("raw" in one or {"digest", "length"} <= one.keys() for one in found)
    connection = sqlite3.connect(tmp_path / "log.sqlite")
    connection.execute("pragma wal_checkpoint(truncate)")
    connection.close()
    content = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in content
    assert not any(base64.b64encode(b" " * shift + SECRET.encode())[4:-8] in content for shift in range(3))
    assert len(found) >= len(EVIL)


def test_an_unparsable_body_of_a_masked_source_leaves_digest_and_length() -> None:
    body = b'{"traits": {"email": "anna@example.com"'
    with collecting(masked()) as running:
        running.post("/v1/identify", body)
        (one,) = running.rejected()
    assert (one["digest"], one["length"]) == (hashlib.sha256(body).hexdigest(), len(body))
    assert "raw" not in one


def test_an_id_may_be_hashed_and_nobody_is_then_nobody() -> None:
    settings = CollectSettings(sources=[SourceSettings(name="website", write_key="website", mask={"userId": "hash"})])
    with collecting(settings) as running:
        running.post("/v1/batch", batch(track(userId="A@b.c"), track(userId="null")))
        (event,) = running.events()
        (rejected,) = running.rejected()
        assert [record.key for record in running.log.read("events", 0, 9)] == [hashed("a@b.c")]
    assert event["userId"] == hashed("a@b.c")
    assert [reason["code"] for reason in rejected["reasons"]] == ["no_user"]


def test_hashing_without_a_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADWATER_MASK_KEY")
    with (
        pytest.raises(
            ConfigError,
            match=r"website: traits.email, .* are to be hashed, but HEADWATER_MASK_KEY is not set in the environment",
        ),
        collecting(masked()),
    ):
        pass
