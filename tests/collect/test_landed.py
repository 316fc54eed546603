"""What the collector landed stands beside the shop's files in stg_events and stg_customers, and in the clock of a batch build."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from staged_shop import LOADED_AT, Staged, compile_model

from headwater.collect import staging
from headwater.collect.mapping import Mapping
from headwater.records.entities import ENTITIES
from headwater.warehouse import Warehouse

AT = "timestamp '2026-02-01 10:00:00'"


@pytest.fixture
def shop(stage: Callable[..., Staged], tmp_path: Path) -> Staged:
    """A shop with two customers and two events in files."""
    files = tmp_path / "files"
    files.mkdir()
    (files / "customers.csv").write_text(
        "customer_id,email,city,nps_score,email_opt_in,updated_at\n"
        "c1,ann@example.com,,7,true,2026-01-01 00:00:00\nc2,,Oslo,,,2026-01-02 00:00:00\n"
    )
    (files / "events.csv").write_text(
        "event_id,anonymous_id,customer_id,event_name,occurred_at\n"
        "e1,v1,,page_viewed,2026-01-01 10:00:00\ne2,v1,c1,demo_requested,2026-01-01 11:00:00\n"
    )
    return stage(files)


def landed(shop: Staged, table: str, **row: Any) -> None:
    marks = ", ".join("?" for _ in row)
    shop.warehouse.execute(f"insert into collected.{table} ({', '.join(row)}) values ({marks})", list(row.values()))


def moment(text: str) -> datetime:
    return datetime.fromisoformat(text)


def test_landed_events_stand_beside_those_of_the_files(shop: Staged) -> None:
    landed(
        shop,
        "events",
        event_id="m1",
        source="web",
        anonymous_id="v9",
        event_name="newsletter_subscribed",
        occurred_at=moment("2026-02-01T10:00:00"),
        page_url="https://example.com/",
    )
    columns = ", ".join(ENTITIES["events"].columns)
    assert [row["event_id"] for row in shop.rows(f"select {columns} from stg_events order by event_id")] == [
        "e1",
        "e2",
        "m1",
    ]
    assert shop.value("select page_url from stg_events where event_id = 'm1'") == "https://example.com/"
    assert [row["event_id"] for row in shop.rows("select event_id from stg_events__files order by 1")] == ["e1", "e2"]


def test_counts_are_of_the_files(shop: Staged) -> None:
    landed(shop, "events", event_id="m1", event_name="x", occurred_at=moment("2026-02-01T10:00:00"))
    kind, sql = compile_model(shop.files["models/staging/row_counts.sql"])
    shop.warehouse.execute(f"create or replace {kind} main.row_counts as {sql}")
    assert shop.counts("events") == {"read": 2, "kept": 2}
    assert shop.rows(compile_model(shop.files[staging.COUNTS_TEST])[1]) == []


def test_the_shops_file_goes_before_what_the_site_was_told(shop: Staged) -> None:
    for number, said in enumerate(
        (
            {"customer_id": "c1", "email": "other@example.com", "city": "Bergen", "email_opt_in": False},
            {"customer_id": "c2", "email": "bob@example.com", "city": "Rome"},
        )
    ):
        landed(shop, "identifies", event_id=f"i{number}", occurred_at=moment("2026-02-01T10:00:00"), **said)
    assert shop.rows("select customer_id, email, city, nps_score, email_opt_in from stg_customers order by 1") == [
        {"customer_id": "c1", "email": "ann@example.com", "city": "Bergen", "nps_score": 7, "email_opt_in": True},
        {"customer_id": "c2", "email": "bob@example.com", "city": "Oslo", "nps_score": None, "email_opt_in": None},
    ]
    assert shop.value("select min(updated_at) from stg_customers") == moment("2026-02-01T10:00:00")


def test_the_newest_word_holds_and_silence_says_nothing(shop: Staged) -> None:
    told = [
        ("i1", "2026-02-01T10:00:00", {"email": "old@example.com", "city": "Rome"}),
        ("i3", "2026-02-03T10:00:00", {"email": None, "city": "Milan"}),
        ("i2", "2026-02-02T10:00:00", {"email": "new@example.com", "city": "Turin"}),
        ("i4", "2026-02-03T10:00:00", {"phone": "1"}),
    ]
    for event_id, at, said in told:
        landed(shop, "identifies", event_id=event_id, customer_id="u9", occurred_at=moment(at), **said)
    landed(
        shop,
        "identifies",
        event_id="i9",
        anonymous_id="v1",
        occurred_at=moment("2026-02-09T10:00:00"),
        email="nobody@x",
    )
    assert shop.rows(
        "select customer_id, email, city, phone from stg_customers where customer_id not in ('c1', 'c2')"
    ) == [{"customer_id": "u9", "email": "new@example.com", "city": "Milan", "phone": "1"}]


def test_a_shop_without_such_files_has_what_was_landed(tmp_path: Path) -> None:
    files = staging.render(Mapping())
    with Warehouse(tmp_path / "bare.duckdb") as warehouse:
        for name in ("stg_events__files", "stg_events", "stg_customers__files", "stg_customers"):
            kind, sql = compile_model(files[f"models/staging/{name}.sql"])
            warehouse.execute(f"create {kind} main.{name} as {sql}")
        warehouse.execute(f"insert into collected.events (event_id, event_name, occurred_at) values ('m1', 'x', {AT})")
        warehouse.execute(
            f"insert into collected.identifies (event_id, customer_id, occurred_at) values ('i1', 'u1', {AT})"
        )
        for entity, key in (("events", "m1"), ("customers", "u1")):
            (row,) = warehouse.rows(f"select * from stg_{entity}")
            assert list(row) == list(ENTITIES[entity].columns)
            assert row[ENTITIES[entity].key] == key


def test_the_latest_moment_never_goes_back_behind_what_was_landed(shop: Staged) -> None:
    query = staging.as_of_sql(shop.mapping)
    loaded = LOADED_AT.astimezone(UTC).replace(tzinfo=None)
    assert shop.value(query) == moment("2026-01-01T11:00:00"), "files only: their newest event"
    shop.warehouse.execute("insert into headwater.clock (as_of) values (timestamp '2026-02-20 00:00:00')")
    assert shop.value(query) == moment("2026-01-01T11:00:00"), "without the collector the clock may be set back"
    landed(shop, "events", event_id="m1", received_at=moment("2026-02-10T00:00:00"))
    assert shop.value(query) == moment("2026-02-20T00:00:00"), "the clock as it stands"
    landed(shop, "identifies", event_id="i1", received_at=moment("2026-03-05T00:00:00"))
    assert shop.value(query) == moment("2026-03-05T00:00:00") > loaded, "the newest thing landed"
