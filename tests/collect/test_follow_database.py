"""Following a real Postgres with a real Debezium: what the log has of it, whatever happens to the process or the database."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from following import MASK_KEY, Following, found_in, until

from headwater.collect.databases import debezium
from headwater.identity import keys
from headwater.testing.feed import SCHEMA, TABLES, Feed, load
from headwater.testing.postgres import Server

pytestmark = pytest.mark.cdc

ONE = """
collect:
  databases:
    - name: shop
      url_env: SHOP_URL
      slot: headwater_{name}
      heartbeat_seconds: 0.5
      batch_rows: 500
      source_timezone: Europe/Berlin
      tables: {tables}
"""
Start = Callable[[str, str], Following]


@pytest.fixture
def following(tmp_path: Path, logical_postgres: Server) -> Iterator[Start]:
    """following(name, tables): a project that follows a database of its own; nothing is prepared or started yet."""
    if lacking := debezium.missing():
        pytest.skip(lacking)
    made: list[Following] = []

    def make(name: str, tables: str) -> Following:
        made.append(Following(tmp_path / name, logical_postgres, name, ONE.format(name=name, tables=tables)))
        return made[-1]

    yield make
    for one in made:
        one.close()


def hashed(text: str) -> str:
    return keys.hashed(text, MASK_KEY.encode())


def test_every_kind_of_change_arrives_masked(following: Start) -> None:
    one = following("kinds", "{customers: {mask: {email: hash, name: constant, phone: drop}}, things: {}}")
    shop = one.shop
    shop.execute(
        "create table customers (id int primary key, email text not null, name varchar(50) not null, phone text, notes text,"
        " balance numeric(10,2), seen timestamp, born date, mood text)"
    )
    shop.execute("create type mood as enum ('glad', 'test')")
    shop.execute("alter table customers alter column mood type mood using mood::mood")
    shop.execute("alter table customers alter column notes set storage external")
    shop.execute("create table things (id int, part text, n int, primary key (id, part))")
    shop.execute(
        "insert into customers select i, 'Planted' || i || '@Leak.example', 'Name Planted', '0171-555', repeat('n', 9000),"
        " 12.50, '2026-07-01 10:00:00.123456', '1990-05-01', 'test' from generate_series(1, 4) as i"
    )
    shop.execute("insert into things values (1, 'a', 1), (2, 'b', 2)")
    one.prepare()
    with psycopg.connect(one.server.address(one.name)) as open_:  # in flight while the snapshot is taken
        open_.execute("update customers set balance = 99.99 where id = 4")
        one.start()
        until(one.finished, "the snapshot")
        assert {change["op"] for change in one.changes()} == {"r"}
        assert one.rows("customers")['{"id": 4}']["balance"] == "12.50"
        open_.commit()
    shop.execute("update customers set balance = 7 where id = 1")
    shop.execute("update customers set id = 20 where id = 2")
    shop.execute("delete from customers where id = 3")
    shop.execute("truncate things")
    shop.execute("insert into things values (3, 'c', 3)")
    shop.execute("alter table customers add column points int")
    shop.execute(
        "insert into customers values (5, 'e5@leak.example', 'Name Planted', '0171-556', null, 1, null, null, 'glad', 3)"
    )
    shop.execute(
        "insert into customers (id, email, name, born) values (6, 'e6@leak.example', 'Name Planted', 'infinity')"
    )
    until(lambda: one.records("rejected") and '{"id": 3, "part": "c"}' in one.rows("things"), "the changes")
    row = one.rows("customers")
    assert row['{"id": 1}'] == {
        "id": 1, "email": hashed("planted1@leak.example"), "name": "****", "notes": "n" * 9000, "balance": "7.00",
        "seen": "2026-07-01T08:00:00.123456Z", "born": "1990-05-01", "mood": "test",
    }  # fmt: skip
    assert row['{"id": 4}']["balance"] == "99.99"
    assert row['{"id": 5}']["points"] == 3
    assert row['{"id": 5}']["mood"] == "glad"
    assert row['{"id": 20}']["notes"] == "n" * 9000, "a long value that was not sent is found under the new key"
    assert set(row) == {'{"id": 1}', '{"id": 20}', '{"id": 4}', '{"id": 5}'}
    assert set(one.rows("things")) == {'{"id": 3, "part": "c"}'}
    (update,) = [change for change in one.changes("customers") if change["op"] == "u" and change["key"] == {"id": 1}]
    assert update["unavailable"] == ["notes"]

    assert one.command("cdc", "resnapshot", "--table", "customers").returncode == 0
    until(lambda: one.finished() == 2, "the rows are read again")
    until(lambda: one.place.asked() is None, "the wish is fulfilled")
    shop.execute("insert into things values (4, 'd', 4)")
    until(lambda: '{"id": 4, "part": "d"}' in one.rows("things"), "changes go on after it")
    assert set(one.rows("customers")) == set(row)
    until(lambda: one.note().phase == "streaming", "it says so")
    status = one.command("cdc", "status", "--json")
    (told,) = json.loads(status.stdout)
    assert (told["phase"], told["rejected"] >= 1) == ("streaming", True)
    assert one.stop() == 0
    assert one.note().phase == "stopped"
    assert found_in(one.folder, "leak.example", "name planted", "0171-55") == []


def test_kills_at_every_step_lose_nothing_and_change_nothing(following: Start) -> None:
    tables = "{customers: {mask: {email: hash}}, addresses: {}, products: {}, orders: {}, order_items: {}, ticks: {}}"
    one = following("kills", tables)
    one.shop.execute(SCHEMA.encode())
    one.shop.execute("create table ticks (id int primary key, n int not null)")
    one.shop.execute("insert into ticks values (1, 0)")
    load(one.shop)
    one.shop.execute(
        "insert into addresses select 'B' || i, 's', 'city ' || i, 'x', 'y', 'z' from generate_series(1, 3000) as i"
    )
    one.prepare()
    feed = Feed(one.shop, seed=7)
    n = 0

    def live(orders: int) -> None:
        nonlocal n
        for _ in range(orders):
            feed.step()
            n += 1
            one.shop.execute("update ticks set n = %s where id = 1", [n])

    one.start(HEADWATER_FAILPOINT="changes.logged:3")  # in the middle of the snapshot
    live(20)
    assert one.ended()[0] == 137
    one.start(HEADWATER_FAILPOINT="changes.taken:20")
    live(20)
    until(one.finished, "the snapshot, read again from its beginning")
    for failpoint in ("changes.kept:12", ""):
        while one.process is not None and one.process.poll() is None:
            live(1)
        one.ended()
        one.start(HEADWATER_FAILPOINT=failpoint)
    live(20)
    process = one.process
    until(lambda: process and one.note().pid == process.pid and one.note().changes > 20, "changes follow")
    live(10)
    one.kill()
    live(10)
    one.start()
    until(lambda: any(tick["row"]["n"] == n for tick in one.changes("ticks")[-3:]), "everything")

    assert (one.finished(), one.note().gap) == (1, None), "no kill was taken for a gap"
    first = min(tick["row"]["n"] for tick in one.changes("ticks"))
    assert {tick["row"]["n"] for tick in one.changes("ticks")} == set(range(first, n + 1))
    for table in TABLES:
        columns = one.shop.execute(f"select * from {table} limit 0".encode()).description or []
        found = one.shop.execute(f"select row_to_json(t)::text from {table} as t".encode()).fetchall()
        truth = [json.loads(text) for (text,) in found]
        held = list(one.rows(table).values())
        assert len(held) == len(truth), table
        for row in truth:
            if "email" in row:
                row["email"] = hashed(row["email"])
            if "price" in row:
                row["price"] = f"{row['price']:.2f}"
            row.pop("orderdate", None)  # of another zone
        names = [column.name for column in columns if column.name != "orderdate"]
        assert _sorted(held, names) == _sorted(truth, names), table
    ids: dict[str, set[bytes]] = {}
    for record in one.records():
        told = json.loads(record.payload)
        if told["kind"] == "change":
            ids.setdefault(record.message_id, set()).add(json.dumps([told["op"], told["row"], told["at"]]).encode())
    assert {len(payloads) for payloads in ids.values()} == {1}, "a change that comes again is the same change"
    assert found_in(one.folder, "customers.example") == []


def _sorted(rows: list[dict[str, Any]], names: list[str]) -> list[list[str]]:
    return sorted([str(row[name]) for name in names] for row in rows)


def test_a_mask_that_can_no_longer_hold_stops_the_process_before_anything_is_stored(following: Start) -> None:
    one = following("masks", "{people: {mask: {email: hash}}}")
    one.shop.execute("create table people (id int primary key, email text)")
    one.prepare()
    one.start()
    until(one.finished, "the snapshot")
    one.shop.execute("alter table people rename email to mail")
    one.shop.execute("insert into people values (1, 'planted@leak.example')")
    code, words = one.ended()
    assert code == 3
    assert "people has no column 'email', which is to be masked; it has id, mail. Was it renamed?" in words
    assert one.note().phase == "failed"
    settings = one.folder / "headwater.yml"
    settings.write_text(settings.read_text().replace("email: hash", "mail: hash"))
    one.start()
    until(lambda: '{"id": 1}' in one.rows("people"), "with the mask mended it goes on where it stopped")
    assert one.rows("people")['{"id": 1}']["mail"] == hashed("planted@leak.example")
    assert found_in(one.folder, "leak.example") == []


def test_a_slot_made_anew_means_that_all_rows_are_read_again(following: Start) -> None:
    one = following("slots", "{people: {}}")
    one.shop.execute("create table people (id int primary key, n int)")
    one.shop.execute("insert into people values (1, 1), (2, 2)")
    one.prepare()
    one.start()
    until(one.finished, "the snapshot")
    one.shop.execute("update people set n = 5 where id = 1")
    until(lambda: one.rows("people")['{"id": 1}']["n"] == 5, "the change")
    assert one.stop() == 0
    one.shop.execute("select pg_drop_replication_slot('headwater_slots')")
    one.shop.execute("delete from people where id = 2")
    one.shop.execute("insert into people values (3, 3)")
    one.start()
    code, words = one.ended()
    assert code == 3
    assert "slot: there is no slot headwater_slots" in words
    one.prepare()
    one.start()
    until(lambda: one.finished() == 2, "the second snapshot")
    assert {key: row["n"] for key, row in one.rows("people").items()} == {'{"id": 1}': 5, '{"id": 3}': 3}
    gap = until(lambda: one.note().gap, "it is said")
    assert "it was made anew" in gap["why"]
