"""What becomes of a change on its way from Debezium into the log: rows, keys, types, masks, order. Without Debezium."""

import json
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headwater.collect.databases import masks as masks_of
from headwater.collect.databases.changes import Floor, Taken, Translator, encoded
from headwater.collect.databases.masks import MaskBroken, Masks
from headwater.collect.databases.postgres import Column, Moment, Table
from headwater.collect.databases.settings import DatabaseSettings, TableSettings
from headwater.errors import ConfigError
from headwater.identity import keys

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEY = b"a long random text"
UNSENT = "__unsent_3f1c"
AT_US = 1_772_359_200_123_456
AT = "2026-03-01T10:00:00.123456Z"


def column(name: str, base: str = "text", kind: str | None = None, *, key: bool = False) -> Column:
    return Column(name, kind or base, base, not key, key, base in ("text", "bytea", "jsonb", "_int4", "_text"), True)


CUSTOMERS = Table(
    "customers",
    "r",
    "d",
    10,
    (
        column("id", "int4", "integer", key=True),
        column("email"),
        column("name", "varchar", "character varying(255)"),
        column("phone"),
        column("notes"),
        column("born", "date"),
        column("seen", "timestamp", "timestamp without time zone"),
        column("tags", "_int4", "integer[]"),
    ),
)
SETTINGS = DatabaseSettings(
    name="shop",
    url_env="X",
    tables={
        "customers": TableSettings(mask={"email": "hash", "name": "constant", "phone": "drop"}),
        "orders": TableSettings(),
    },
    source_timezone="Europe/Berlin",
)
ORDERS = Table("orders", "r", "d", 0, (column("id", "int4", "integer", key=True), column("n", "int4", "integer")))


def translator(settings: DatabaseSettings = SETTINGS, *tables: Table) -> Translator:
    made = Translator(settings, Masks(settings, KEY), UNSENT)
    made.tables({table.name: table for table in tables or (CUSTOMERS, ORDERS)})
    return made


def said(op: str, before: Any, after: Any, lsn: int = 100, table: str = "customers", tx: int = 1) -> dict[str, Any]:
    return {
        "op": op,
        "before": before,
        "after": after,
        "source": {"table": table, "lsn": lsn, "ts_us": AT_US, "txId": tx},
    }


ROW = {
    "id": 1,
    "email": " Ada@Shop.example",
    "name": "****",
    "notes": "n",
    "born": "1990-05-01Z",
    "seen": None,
    "tags": [1],
}


def changes(taken: Taken) -> list[dict[str, Any]]:
    found = [json.loads(entry.payload) for entry in taken.entries if entry.topic == "changes"]
    return [one for one in found if one["kind"] == "change"]


def test_a_change_is_a_row_with_its_key_its_position_and_the_moment_of_its_commit() -> None:
    taken = translator().take(encoded([said("c", None, ROW)]), NOW)
    schema, change = taken.entries
    assert (change.source, change.key, change.message_id) == ("shop", 'customers:{"id":1}', 'customers:100:{"id":1}')
    assert json.loads(change.payload) == {
        "kind": "change",
        "table": "customers",
        "op": "c",
        "key": {"id": 1},
        "row": {**ROW, "email": keys.hashed("ada@shop.example", KEY), "born": "1990-05-01"},
        "at": AT,
        "lsn": 100,
    }
    told = json.loads(schema.payload)
    assert told["kind"] == "schema"
    assert [one["name"] for one in told["columns"]] == ["id", "email", "name", "notes", "born", "seen", "tags"]
    assert told["columns"][0] == {"name": "id", "type": "integer", "nullable": False, "key": True}


def test_a_column_that_is_plain_on_purpose_is_stored_as_it_is() -> None:
    tables = {"customers": TableSettings(mask={"email": "plain", "name": "constant", "phone": "drop"})}
    settings = SETTINGS.model_copy(update={"tables": tables})
    made = translator(settings, CUSTOMERS)
    (change,) = changes(made.take(encoded([said("c", None, ROW)]), NOW))
    assert change["row"]["email"] == ROW["email"]
    tried = masks_of.prove(
        Masks(settings, None), {"customers": CUSTOMERS}, lambda them: made.take(encoded(them), NOW).entries
    )
    assert tried == 2, "what is not masked is not tried"


def test_a_delete_and_a_truncate_have_no_row() -> None:
    gone = {"id": 7, "email": "", "name": "****", "notes": None}
    delete, truncate = changes(translator().take(encoded([said("d", gone, None), said("t", None, None, 101)]), NOW))
    assert (delete["op"], delete["key"], delete["row"]) == ("d", {"id": 7}, None)
    assert (truncate["op"], truncate["key"], truncate["row"], truncate["lsn"]) == ("t", {}, None, 101)


@pytest.mark.parametrize("unsent", [UNSENT, "X191bnNlbnRfM2YxYw==", [UNSENT], list(UNSENT.encode())])
def test_a_long_value_that_was_not_sent_is_named_and_never_stored(unsent: Any) -> None:
    row = {**ROW, "email": UNSENT, "tags" if isinstance(unsent, list) else "notes": unsent}
    (change,) = changes(translator().take(encoded([said("u", None, row)]), NOW))
    expected = {"email", "tags" if isinstance(unsent, list) else "notes"}
    assert set(change["unavailable"]) == expected
    assert not expected & change["row"].keys()
    assert UNSENT not in json.dumps(change)


def test_a_moment_without_zone_is_of_the_sources_zone() -> None:
    row = {**ROW, "seen": "2026-07-01T10:00:00.5Z"}
    (change,) = changes(translator().take(encoded([said("c", None, row)]), NOW))
    assert change["row"]["seen"] == "2026-07-01T08:00:00.500000Z"


@pytest.mark.parametrize("born", ["+292278994-08-17Z", "-0044-03-15Z"])
def test_what_cannot_be_held_is_rejected_with_its_reason_and_of_a_masked_table_only_its_digest_is_kept(
    born: str,
) -> None:
    row = {**ROW, "born": born, "email": "planted@shop.example"}
    taken = translator().take(encoded([said("c", None, row), said("c", None, ROW, 101)]), NOW)
    assert (taken.rejected, taken.changes) == (1, 1)
    (rejected,) = [entry for entry in taken.entries if entry.topic == "rejected"]
    told = json.loads(rejected.payload)
    assert [(one["code"], one["path"]) for one in told["reasons"]] == [("bad_timestamp", "born")]
    assert "raw" not in told
    assert (told["length"] > 100, len(told["digest"])) == (True, 64)


def test_a_rejected_row_of_a_plain_table_is_kept_whole() -> None:
    broken = b'{"op":"c","source":{"table":"orders","lsn":1},"after":{"n":2}}'
    settings = DatabaseSettings(name="shop", url_env="X", tables={"orders": TableSettings()})
    (entry,) = translator(settings, ORDERS).take([broken], NOW).entries
    assert msgspec.json.decode(entry.payload)["raw"]
    assert b"bad_change" in entry.payload


def test_what_is_no_json_of_ours_is_rejected_and_the_rest_goes_on() -> None:
    taken = translator().take([b"\xff{", *encoded([said("c", None, ROW)])], NOW)
    assert (taken.rejected, taken.changes) == (1, 1)


def test_a_column_that_the_table_has_no_more_goes_no_further() -> None:
    row = {**ROW, "former_email": "planted@shop.example"}
    (change,) = changes(translator().take(encoded([said("u", None, row)]), NOW))
    assert "former_email" not in change["row"]


def test_columns_are_told_again_when_they_change_and_only_then() -> None:
    made = translator()
    first = made.take(encoded([said("c", None, ROW)]), NOW)
    made.tables({"customers": CUSTOMERS, "orders": ORDERS})
    second = made.take(encoded([said("c", None, ROW, 101)]), NOW)
    wider = Table("customers", "r", "d", 0, (*CUSTOMERS.columns, column("extra", "int4", "integer")))
    made.tables({"customers": wider, "orders": ORDERS})
    third = made.take(encoded([said("c", None, {**ROW, "extra": 3}, 102)]), NOW)
    assert [len(taken.entries) for taken in (first, second, third)] == [2, 1, 2]


# ---------------------------------------------------------------------- masks


@pytest.mark.parametrize("column_name, value", [("name", "Ada Lovelace"), ("phone", "0171 555")])
def test_what_debezium_should_have_masked_and_did_not_stops_everything(column_name: str, value: str) -> None:
    with pytest.raises(MaskBroken, match=column_name):
        translator().take(encoded([said("c", None, {**ROW, column_name: value})]), NOW)


def test_a_masked_column_that_is_not_there_is_an_error_and_not_a_leak() -> None:
    renamed = Table("customers", "r", "d", 0, tuple(one for one in CUSTOMERS.columns if one.name != "email"))
    with pytest.raises(
        ConfigError, match=r"customers has no column 'email', which is to be masked; .* Was it renamed\?"
    ):
        translator().tables({"customers": renamed})


def test_only_a_hash_may_mask_a_key() -> None:
    settings = DatabaseSettings(name="shop", url_env="X", tables={"customers": TableSettings(mask={"id": "constant"})})
    with pytest.raises(ConfigError, match="part of the primary key"):
        translator(settings, CUSTOMERS)
    hashed = DatabaseSettings(name="shop", url_env="X", tables={"customers": TableSettings(mask={"id": "hash"})})
    _, entry = translator(hashed, CUSTOMERS).take(encoded([said("c", None, ROW)]), NOW).entries
    digest = keys.hashed("1", KEY)
    assert entry.key == f'customers:{{"id":"{digest}"}}'
    assert entry.message_id == f'customers:100:{{"id":"{digest}"}}'


def test_every_mask_is_tried_before_anything_starts() -> None:
    made = translator()
    tables = {"customers": CUSTOMERS, "orders": ORDERS}
    assert masks_of.prove(Masks(SETTINGS, KEY), tables, lambda told: made.take(encoded(told), NOW).entries) == 3


def test_a_mask_that_does_nothing_is_found() -> None:
    idle = Masks(SETTINGS, KEY)
    idle.hashed = lambda value: value  # type: ignore[method-assign]
    made = Translator(SETTINGS, idle, UNSENT)
    made.tables({"customers": CUSTOMERS})
    with pytest.raises(
        MaskBroken, match=r"the mask of customers.email \(hash\) lets a planted value through; nothing was started"
    ):
        masks_of.prove(idle, {"customers": CUSTOMERS}, lambda told: made.take(encoded(told), NOW).entries)


def test_hashes_need_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    from headwater.collect.settings import CollectSettings

    monkeypatch.delenv("HEADWATER_MASK_KEY", raising=False)
    with pytest.raises(
        ConfigError, match=r"database shop: customers.email are to be hashed, but HEADWATER_MASK_KEY is not set"
    ):
        masks_of.load(CollectSettings(databases=[SETTINGS]), SETTINGS)


# ---------------------------------------------------------------------- order

STARTED, COMPLETED = (
    {"aggregate_type": "Initial Snapshot", "type": what, "additional_data": {}} for what in ("STARTED", "COMPLETED")
)


def test_a_snapshot_is_told_in_its_place_among_the_changes() -> None:
    made = translator()
    made.next = Floor.at(Moment(500, 10, NOW), ["customers", "orders"])
    read = said("r", None, {"id": 3, "n": 4}, 620, "orders")
    taken = made.take(encoded([STARTED, read, COMPLETED]), NOW)
    told = [json.loads(entry.payload) for entry in taken.entries]
    assert [one.get("state", one["kind"]) for one in told] == ["schema", "schema", "started", "change", "finished"]
    assert {one["lsn"] for one in told} == {499}
    assert told[3]["snapshot"] == told[2]["id"] == told[4]["id"]
    assert (taken.began, taken.ended) == (made.floor, made.floor)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[tuple[int, int, int, int]], int, int]:
    """(position, transaction, row, commit) of changes; the journal's position before a snapshot, and at it. A row is
    locked from its change to the commit; a transaction changes some rows, some of them more than once."""
    clock, free, open_, found, transaction = 100, {0, 1, 2}, {}, [], 0
    snapshot_from = draw(st.integers(0, 12))
    marks: list[int] = []
    for number in range(draw(st.integers(8, 24))):
        if number in (snapshot_from, snapshot_from + 3):
            marks.append(clock)
        action = draw(st.sampled_from(("begin", "again", "commit")))
        clock += draw(st.integers(60, 200))
        if action == "begin" and free:
            row = draw(st.sampled_from(sorted(free)))
            free.discard(row)
            transaction += 1
            open_[transaction] = (row, [clock])
        elif open_:
            one = draw(st.sampled_from(sorted(open_)))
            row, positions = open_[one]
            if action == "again":
                positions.append(clock)
            else:
                found += [(position, one, row, clock) for position in positions]
                free.add(row)
                del open_[one]
    for one, (row, positions) in open_.items():
        clock += 60
        found += [(position, one, row, clock) for position in positions]
    marks += [clock + 10] * (2 - len(marks))
    return sorted(found, key=lambda change: (change[3], change[0])), marks[0], marks[1]


@given(histories())
def test_by_their_positions_alone_the_newest_of_snapshot_and_changes_wins(
    history: tuple[list[tuple[int, int, int, int]], int, int],
) -> None:
    found, noted, read = history
    ended_before = [tx for _, tx, _, commit in found if commit < noted]
    running = [tx for position, tx, _, commit in found if position < noted <= commit]
    oldest = min(running, default=max(ended_before, default=0) + 1)
    made = translator()
    made.next = Floor.at(Moment(noted, oldest, NOW), ["orders"])
    seen: dict[int, int] = {}
    for position, _, row, commit in found:
        if commit < read:
            seen[row] = position
    rows = [said("r", None, {"id": row, "n": position}, read, "orders") for row, position in seen.items()]
    later = [
        said("u", None, {"id": row, "n": position}, position, "orders", tx)
        for position, tx, row, commit in found
        if commit >= noted
    ]
    held: dict[int, tuple[int, int]] = {}
    for change in changes(made.take(encoded([STARTED, *rows, COMPLETED, *later]), NOW)):
        row = change["key"]["id"]
        if row not in held or change["lsn"] > held[row][0]:
            held[row] = (change["lsn"], change["row"]["n"])
    truth = {row: position for position, _, row, _ in found}
    assert {row: n for row, (_, n) in held.items()} == truth


def test_a_database_that_was_replaced_goes_on_above_the_old_one() -> None:
    made = translator()
    made.next = Floor.at(Moment(500, 10, NOW), ["orders"], shift=1_000_000)
    taken = made.take(encoded([STARTED, COMPLETED, said("c", None, {"id": 3, "n": 4}, 620, "orders", 11)]), NOW)
    assert changes(taken)[0]["lsn"] == 1_000_620


def test_a_long_value_that_was_not_sent_under_a_new_key_is_fetched_and_masked() -> None:
    asked: list[tuple[str, dict[str, Any], list[str]]] = []

    def fetch(table: Table, key: Any, columns: Any) -> dict[str, Any]:
        asked.append((table.name, dict(key), list(columns)))
        return {"email": "ADA@shop.example", "notes": "long"}

    made = Translator(SETTINGS, Masks(SETTINGS, KEY), UNSENT, fetch)
    made.tables({"customers": CUSTOMERS})
    row = {**ROW, "email": UNSENT, "notes": UNSENT}
    (change,) = changes(made.take(encoded([said("c", None, row)]), NOW))
    assert asked == [("customers", {"id": 1}, ["email", "notes"])]
    assert (change["row"]["email"], change["row"]["notes"]) == (keys.hashed("ada@shop.example", KEY), "long")
    assert "unavailable" not in change
