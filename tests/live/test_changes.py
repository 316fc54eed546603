"""Changes of database rows land once, in the order of their positions, and nothing of them is lost or invented."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from retail_database import BEGIN, KEYS, SOURCE, TABLES, Database

from headwater.live.changes import Changes
from headwater.live.landing import Landed
from headwater.records.changed import landed_table, sql_type, versions_table, wider
from headwater.records.logged import Entry, Record
from headwater.warehouse import Warehouse


class Bench:
    """A warehouse into which changes land; records are numbered as a log would."""

    def __init__(self, folder: Path) -> None:
        self.warehouse = Warehouse(folder / "shop.duckdb")
        self.restart()
        self.offset = 0
        self.sentences: list[str] = []

    def restart(self) -> None:
        self.changes = Changes(self.warehouse)
        self.changes.open()

    def land(self, *entries: Entry) -> Landed:
        """As the engine does: what changes tables between two batches, the rest in batches."""
        records = [self._record(entry) for entry in entries]
        total = Landed()
        while records:
            self.sentences += self.changes.prepare(records[:64], BEGIN) or []
            with self.warehouse.transaction():
                self.changes.begin()
                landed, taken = self.changes.land(records, BEGIN)
                self.moved = {
                    name: self._images(one.delta.removed, one.delta.added) for name, one in self.changes.moved()
                }
            assert landed.conserved
            assert landed.read == taken
            assert taken, "a record that nothing can be done about stops the rest"
            total += landed
            records = records[taken:]
        return total

    def _record(self, entry: Entry) -> Record:
        self.offset += 1
        return Record(
            self.offset, entry.topic, entry.source, entry.key, entry.message_id, entry.received_at, entry.payload
        )

    def _images(self, *sides: str | None) -> tuple[list[dict[str, Any]], ...]:
        return tuple(self.warehouse.rows(f"select * from {side}") if side else [] for side in sides)

    def rows(self, table: str) -> dict[Any, dict[str, Any]]:
        columns = ", ".join(TABLES[table])
        rows = self.warehouse.rows(f"select {columns} from {landed_table(SOURCE, table)}")
        return {row[KEYS[table]]: row for row in rows}

    def versions(self, table: str) -> list[tuple[Any, ...]]:
        return sorted(
            self.warehouse.execute(
                f"select {KEYS[table]}, _valid_from, _seq, _op, _deleted from {versions_table(SOURCE, table)}"
            ).fetchall(),
            key=str,
        )

    def agrees(self, database: Database) -> None:
        for table in TABLES:
            if (SOURCE, table) not in self.changes.shapes.known:
                assert not database.rows[table]
                continue
            assert _texts(self.rows(table)) == _texts(database.rows[table]), table
            told = [
                (key, v.at, v.seq, v.op, v.row is None)
                for (of, key), versions in database.versions.items()
                if of == table
                for v in versions
            ]
            assert self.versions(table) == sorted(told, key=str), table

    def rejected(self) -> list[tuple[str, str]]:
        return self.warehouse.execute(
            "select reason, json_extract_string(reasons, '$[0].message') from headwater.rejected_events order by position"
        ).fetchall()


def _texts(rows: dict[Any, dict[str, Any]]) -> dict[str, dict[str, str | None]]:
    def text(value: Any) -> str | None:
        if isinstance(value, str) and len(value) > 18 and value[10] == "T":
            return str(datetime.fromisoformat(value.rstrip("Z")))
        return None if value is None else str(value)

    return {str(key): {name: text(value) for name, value in row.items()} for key, row in rows.items()}


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.warehouse.close()


def product(number: int, price: str = "59.99", **more: Any) -> dict[str, Any]:
    row = {"productid": number, "brand": "B", "productname": f"P{number}", "category": "c", "description": "long text"}
    return {**row, "color": None, "size": "L", "price": price, "stock": 5, **more}


def customer(number: int, **more: Any) -> dict[str, Any]:
    row = {"customerid": number, "customername": f"N{number}", "email": f"e{number}", "segment": "New"}
    return {**row, "shipping_address_id": "A1", "billing_address_id": "A2", **more}


def test_rows_come_change_and_go(bench: Bench) -> None:
    db = Database()
    landed = bench.land(db.schema("products"), db.put("products", product(1)), db.put("products", product(2, "10.00")))
    assert (landed.read, landed.changes) == (3, 3)
    db.pass_time(minutes=5)
    bench.land(db.change("products", 1, price="49.99"), db.delete("products", 2))
    bench.agrees(db)
    assert bench.rows("products")[1]["price"].as_tuple().exponent == -2
    removed, added = bench.moved["landed.retail__products"]
    assert [str(row["price"]) for row in removed] == ["59.99", "10.00"] or {row["productid"] for row in removed} == {
        1,
        2,
    }
    assert [(row["productid"], str(row["price"])) for row in added] == [(1, "49.99")]


def test_everything_again_changes_nothing(bench: Bench) -> None:
    db = Database()
    entries = [db.schema("products"), *(db.put("products", product(n)) for n in range(1, 6))]
    db.pass_time(seconds=1)
    entries += [db.change("products", 1, price="1.00"), db.delete("products", 2), *db.rekey("products", 3, 33)]
    bench.land(*entries)
    bench.agrees(db)
    again = bench.land(*entries, *entries)
    assert again.changes == 2  # the description of the table, twice
    assert again.repeats == again.read - 2
    assert bench.moved == {}
    bench.agrees(db)


def test_an_older_change_is_a_version_and_nothing_else(bench: Bench) -> None:
    """It came late: the row as it is now is newer."""
    db = Database()
    bench.land(db.schema("products"), db.put("products", product(1, "10.00")))
    db.pass_time(minutes=1)
    late = db.change("products", 1, price="20.00")
    db.pass_time(minutes=1)
    bench.land(db.change("products", 1, price="30.00"))
    landed = bench.land(late)
    assert landed.changes == 1
    bench.agrees(db)
    assert list(bench.moved) == ["landed.retail__products__versions"]
    assert bench.land(late).repeats == 1


def test_a_deleted_row_is_not_brought_back_by_an_older_change(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), db.put("products", product(1)))
    db.pass_time(minutes=1)
    late = db.change("products", 1, price="20.00")
    db.pass_time(minutes=1)
    bench.land(db.delete("products", 1))
    bench.land(late)
    assert bench.rows("products") == {}
    bench.agrees(db)
    db.pass_time(minutes=1)
    bench.land(db.put("products", product(1, "7.00")))
    bench.agrees(db)
    assert bench.warehouse.value("select count(*) from headwater.landed_deletes") == 0


def test_two_changes_of_one_moment_are_one_version(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"))
    first, second = db.put("products", product(1, "1.00")), db.change("products", 1, price="2.00")
    bench.land(second, first)
    bench.agrees(db)
    assert [version[2] for version in bench.versions("products")] == [db.lsn]


def test_a_value_that_was_not_sent_keeps_what_it_was(bench: Bench) -> None:
    db = Database()
    row = product(1, description="x" * 9_000)
    entries = [db.schema("products"), db.put("products", row)]
    for step in range(3):
        db.pass_time(seconds=1)
        entries.append(db.change("products", 1, unavailable=("description",), stock=step))
    db.pass_time(seconds=1)
    entries.append(db.change("products", 1, description="short"))
    db.pass_time(seconds=1)
    entries.append(db.change("products", 1, unavailable=("description",), stock=9))
    landed = bench.land(*entries)
    assert landed.changes == len(entries)
    bench.agrees(db)
    held = bench.warehouse.execute("select description from landed.retail__products__versions order by _seq").fetchall()
    assert [len(text) for (text,) in held] == [9_000] * 4 + [5, 5]


def test_a_value_that_was_not_sent_and_is_not_known_is_said(bench: Bench) -> None:
    db = Database()
    db.put("products", product(1))
    lost = db.change("products", 1, unavailable=("description",), stock=1)
    landed = bench.land(db.schema("products"), lost)
    assert (landed.changes, landed.poison) == (1, 1)
    assert bench.rejected() == [
        ("value_not_sent", "a value that did not change was not sent, and no older version of the row is known")
    ]


def test_truncate_empties_the_table_and_older_changes_stay_out(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("orders"), db.schema("products"), *(db.put("products", product(n)) for n in range(4)))
    db.pass_time(minutes=1)
    late = db.change("products", 2, price="3.00")
    db.pass_time(minutes=1)
    emptied = db.truncate("products")
    bench.land(emptied)
    assert bench.rows("products") == {}
    bench.land(late)
    db.pass_time(minutes=1)
    bench.land(db.put("products", product(2, "8.00")), emptied)
    bench.agrees(db)


def test_a_snapshot_deletes_what_it_did_not_see(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), *db.snapshot("first", "products"))
    bench.land(*(db.put("products", product(n)) for n in range(5)))
    db.pass_time(hours=1)
    db.forgotten("products", 3)
    snapshot = db.snapshot("second", "products")
    db.pass_time(seconds=1)
    newer = db.put("products", product(9))
    bench.land(*snapshot[:3], newer, *snapshot[3:])
    bench.agrees(db)
    assert bench.warehouse.execute(
        "select snapshot_id, removed_rows, ended_at is not null from headwater.landed_snapshots order by started_at"
    ).fetchall() == [("first", 0, True), ("second", 1, True)]
    bench.land(*snapshot)
    bench.agrees(db)


def test_a_snapshot_of_what_is_known_writes_no_version(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), *(db.put("products", product(n)) for n in range(5)))
    db.pass_time(hours=1)
    landed = bench.land(*db.snapshot("again", "products"))
    assert landed.changes == 7
    assert bench.moved == {}
    bench.agrees(db)


def test_what_cannot_be_read_goes_to_quarantine_and_the_rest_lands(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("orders"))
    good = {"orderid": 1, "customerid": 2, "orderdate": "2026-03-01T10:00:00Z", "status": "Pending"}
    wrong: list[tuple[dict[str, Any] | bytes, str]] = [
        (b'{"kind": ', "bad_json"),
        (b'{"kind": "change"\xff}', "bad_json"),
        ({"kind": "change", "table": "orders", "op": "x", "lsn": 5, "at": "2026-01-01T00:00:00Z"}, "unknown_change"),
        ({"kind": "rumour", "lsn": 5, "at": "2026-01-01T00:00:00Z"}, "unknown_change"),
        ({"kind": "change", "table": "orders", "op": "c", "row": good, "lsn": 5, "at": "2026-01-01T00:00:00Z"}, "no_key"),
        (
            {"kind": "change", "table": "orders", "op": "c", "key": {"orderid": None}, "row": good, "lsn": 5, "at": "2026-01-01T00:00:00Z"},
            "no_key",
        ),
        (
            {"kind": "change", "table": "orders", "op": "c", "key": {"orderid": 4}, "row": {**good, "customerid": "many"}, "lsn": 5, "at": "2026-01-01T00:00:00Z"},
            "bad_value",
        ),
        ({"kind": "change", "table": "orders", "op": "c", "key": {"orderid": 4}, "row": good, "lsn": 5, "at": "yesterday"}, "bad_json"),
        ({"kind": "schema", "table": "twice", "columns": [{"name": "a", "type": "text"}, {"name": "A", "type": "text"}], "lsn": 5, "at": "2026-01-01T00:00:00Z"}, "bad_schema"),
    ]  # fmt: skip
    entries = [
        Entry("changes", SOURCE, "k", f"m{n}", 0, body if isinstance(body, bytes) else json.dumps(body).encode())
        for n, (body, _) in enumerate(wrong)
    ]
    entries.insert(4, db.put("orders", {**good, "orderid": 7}))
    landed = bench.land(*entries, db.put("orders", {**good, "orderid": 8}))
    assert (landed.changes, landed.poison) == (2, len(wrong))
    assert sorted(reason for reason, _ in bench.rejected()) == sorted(code for _, code in wrong)
    assert ("bad_value", "orders: customerid is no INTEGER") in bench.rejected()
    assert sorted(bench.rows("orders")) == [7, 8]
    bench.land(*entries)
    assert len(bench.rejected()) == 2 * len(wrong)  # other offsets, other rejections


def test_money_is_never_rounded(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"))
    landed = bench.land(db.put("products", product(1, "59.999")), db.put("products", product(2, "12345678.90")))
    assert (landed.changes, landed.poison) == (1, 1)
    assert bench.rejected() == [("bad_value", "products: price is no DECIMAL(10,2)")]


def test_a_new_column_is_null_in_older_rows(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), db.put("products", product(1)))
    widened = {**TABLES["products"], "rating": "numeric(3,1)"}
    db.pass_time(minutes=1)
    bench.land(db.schema("products", widened), db.put("products", product(2, rating="4.5")))
    held = bench.warehouse.execute("select productid, cast(rating as varchar) from landed.retail__products order by 1")
    assert held.fetchall() == [(1, None), (2, "4.5")]
    assert (
        bench.warehouse.value("select note from headwater.landed_columns where column_name = 'rating'")
        == "new: null in older rows"
    )
    assert bench.sentences == []


def test_a_type_that_grew_is_converted(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), db.put("products", product(1)))
    db.pass_time(minutes=1)
    bench.land(db.schema("products", {**TABLES["products"], "price": "numeric(14,4)", "stock": "bigint"}))
    bench.land(db.put("products", product(2, "1.2345", stock=2**40)))
    held = bench.warehouse.execute("select cast(price as varchar), stock from landed.retail__products order by 1")
    assert held.fetchall() == [("1.2345", 2**40), ("59.9900", 5)]


def test_a_column_that_is_gone_or_became_another_is_put_aside(bench: Bench) -> None:
    db = Database()
    bench.land(db.schema("products"), db.put("products", product(1)))
    columns = {name: kind for name, kind in TABLES["products"].items() if name != "color"}
    db.pass_time(minutes=1)
    bench.land(db.schema("products", {**columns, "price": "text"}))
    row = {name: value for name, value in product(2, "ask").items() if name != "color"}
    bench.land(db.put("products", row))
    names = [name for (name,) in bench.warehouse.execute(
        "select column_name from duckdb_columns() where schema_name = 'landed' and table_name = 'retail__products' order by 1"
    ).fetchall()]  # fmt: skip
    assert "price" not in names
    assert "color" not in names
    assert bench.warehouse.execute(
        "select productid, price__varchar from landed.retail__products order by 1"
    ).fetchall() == [
        (1, None),
        (2, "ask"),
    ]
    assert sum(name.startswith("_was_") for name in names) == 2
    assert len(bench.sentences) == 2
    assert "it was DECIMAL(10,2) and is VARCHAR now" in bench.sentences[1]
    bench.restart()
    db.pass_time(minutes=1)
    assert (
        bench.land(db.schema("products", {**columns, "price": "text"}), db.change("products", 2, price="9")).changes
        == 2
    )


def test_a_table_that_nobody_described_is_made_from_its_rows(bench: Bench) -> None:
    db = Database()
    landed = bench.land(
        db.put("orders", {"orderid": 1, "status": "new", "paid": True}), db.put("orders", {"orderid": 2, "weight": 1.5})
    )
    assert landed.changes == 2
    assert bench.warehouse.execute(
        "select orderid, status, paid, weight from landed.retail__orders order by 1"
    ).fetchall() == [
        (1, "new", True, None),
        (2, None, None, 1.5),
    ]


def test_a_declared_table_is_there_before_its_first_row(bench: Bench) -> None:
    declared = {**TABLES["products"], "price": "decimal(12,4)"}
    bench.changes = Changes(bench.warehouse, {(SOURCE, "products"): declared})
    bench.changes.shapes.make_declared(BEGIN)
    assert bench.rows("products") == {}
    db = Database()
    assert bench.changes.prepare([], BEGIN) is None
    bench.land(db.schema("products"), db.put("products", product(1, "59.9900")))
    bench.agrees(db)


@pytest.mark.parametrize("seed", range(6))
def test_any_cut_and_any_order_of_tables_give_the_same(seed: int, bench: Bench) -> None:
    """Changes of one table in their order, tables against each other in any, with repeats, in batches of any size."""
    draw = random.Random(seed)
    db = Database()
    by_table: dict[str, list[Entry]] = {table: [db.schema(table)] for table in ("products", "customers")}
    for _ in range(120):
        table = draw.choice(("products", "customers"))
        make = product if table == "products" else customer
        key = draw.randint(1, 9)
        if draw.random() < 0.7:
            db.pass_time(seconds=draw.randint(0, 2))
        if key in db.rows[table] and draw.random() < 0.25:
            by_table[table].append(db.delete(table, key))
        elif key in db.rows[table] and table == "products" and draw.random() < 0.4:
            by_table[table].append(db.change(table, key, unavailable=("description",), stock=draw.randint(0, 99)))
        elif draw.random() < 0.02:
            by_table[table].append(db.truncate(table))
        else:
            by_table[table].append(
                db.put(
                    table,
                    make(key, **({"price": f"{draw.randint(1, 99)}.00"} if make is product else {"segment": "Old"})),
                )
            )
    waiting: Sequence[list[Entry]] = list(by_table.values())
    sent: list[Entry] = []
    while any(waiting):
        source = draw.choice([one for one in waiting if one])
        count = draw.choice((1, 1, 3, 40))
        sent += source[:count]
        del source[:count]
        if draw.random() < 0.3:
            sent += draw.choices(sent, k=3)
    while sent:
        size = draw.choice((1, 7, 50, 1_000))
        bench.land(*sent[:size])
        del sent[:size]
        if draw.random() < 0.2:
            bench.restart()
    bench.agrees(db)


@pytest.mark.parametrize(
    ("postgres", "expected"),
    [
        ("integer", "INTEGER"), ("int8", "BIGINT"), ("numeric(10,2)", "DECIMAL(10,2)"), ("numeric", "DECIMAL(38,9)"),
        ("character varying(255)", "VARCHAR"), ("timestamp(6) without time zone", "TIMESTAMP"), ("timestamptz", "TIMESTAMP"),
        ("timestamp with time zone", "TIMESTAMP"), ("text[]", "JSON"), ("jsonb", "JSON"), ("uuid", "VARCHAR"),
        ("double precision", "DOUBLE"), ("DECIMAL(18, 4)", "DECIMAL(18,4)"), ("decimal(12)", "DECIMAL(12,0)"),
    ],
)  # fmt: skip
def test_types_of_postgres(postgres: str, expected: str) -> None:
    assert sql_type(postgres) == expected


@pytest.mark.parametrize(
    ("held", "told", "grown"),
    [
        ("INTEGER", "BIGINT", True), ("BIGINT", "INTEGER", False), ("DECIMAL(10,2)", "DECIMAL(12,2)", True),
        ("DECIMAL(10,2)", "DECIMAL(10,4)", False), ("INTEGER", "DECIMAL(12,2)", True), ("INTEGER", "DECIMAL(10,2)", False),
        ("DATE", "TIMESTAMP", True), ("VARCHAR", "INTEGER", False), ("DECIMAL(10,2)", "VARCHAR", False),
    ],
)  # fmt: skip
def test_what_is_wider(held: str, told: str, grown: bool) -> None:
    assert wider(held, told) is grown


def test_versions_know_moments_to_the_microsecond(bench: Bench) -> None:
    db = Database()
    db.at = BEGIN + timedelta(microseconds=123456)
    bench.land(db.schema("products"), db.put("products", product(1)))
    assert bench.versions("products")[0][1] == db.at
