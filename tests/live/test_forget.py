"""A forgotten person is found nowhere on disk, everybody else is as before, and a replay does not bring anybody back."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from forgettable_shop import ANN, BOB, CALLS, KIOSK, NOW, forget_ann, make, told
from landed_ids import land

from headwater.clock import naive_utc
from headwater.errors import ConfigError, UsageError
from headwater.failpoint import NAMES
from headwater.identity.settings import IdentitySettings
from headwater.live import forget, persons, suppression
from headwater.live.forget import Asked, Told
from headwater.live.traces import Person, said_by
from headwater.log.sqlite import SqliteLog
from headwater.warehouse import Warehouse
from headwater.warehouse.rewrite import rewrite

POINTS = sorted(name for name in NAMES if name.startswith("forget."))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("forgettable") / "shop"
    make(folder)
    return folder


@pytest.fixture
def shop(made, tmp_path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "shop"))


def bytes_of(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def texts_of(folder: Path) -> str:
    """Every row of every table and of every record of the log as text: compression hides nothing here."""
    with Warehouse(folder / "warehouse" / "shop.duckdb") as w:
        tables = w.execute(
            "select table_schema || '.' || table_name from information_schema.tables where table_type = 'BASE TABLE' and table_catalog = current_database()"
        ).fetchall()
        texts = [str(w.execute(f"select * from {name}").fetchall()) for (name,) in tables]
        texts += [
            str(w.execute("select * from read_parquet(?)", [str(path)]).fetchall())
            for path in folder.rglob("*.parquet")
        ]
    log = SqliteLog(folder / "warehouse" / "log.sqlite")
    texts += [str(log.read(topic, 0, 1000)) for topic in ("events", "rejected")]
    log.close()
    return "\n".join(texts)


def found(folder: Path, words: tuple[str, ...]) -> set[str]:
    body, text = bytes_of(folder), texts_of(folder)
    return {word for word in words if word.encode() in body or word.lower() in text.lower()}


def test_everybody_is_there_before(shop):
    assert found(shop, (*ANN, *BOB, KIOSK)) == {*ANN, *BOB, KIOSK}


@pytest.mark.parametrize("by", ["C-ann-001", "ann.smith@example.org", "visitor-ann-2", "C-ann-OLD"])
def test_a_forgotten_person_is_found_nowhere_on_disk_and_others_are_untouched(shop, by):
    asked: list[Told] = []
    receipt = forget_ann(shop, by, asked)
    assert receipt.complete
    assert found(shop, (*ANN, *BOB, KIOSK)) == {*BOB, KIOSK}
    assert asked == [Told("leads", "ann.smith@example.org")]
    assert b"Ann Street" not in bytes_of(shop)
    assert "Bob Street" in texts_of(shop)
    assert not list((shop / "warehouse").glob("forgetting-*"))


def test_the_receipt_counts_the_rows_of_each_place(shop):
    receipt = forget_ann(shop)
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        assert forget.receipt(w, receipt.receipt_id) == receipt
        assert w.value("select count(*) from headwater.deletion_receipts where ended_at is null") == 0
    assert {place.place: place.removed_rows for place in receipt.places} == {
        "bi/dim_customer.csv": 1,
        "bi/dim_customer.parquet": 1,
        "bi/fct_orders.csv": 1,
        "bi/fct_orders.parquet": 1,
        "bi/report.html": 0,
        "collected.aliases": 1,
        "collected.events": 3,
        "collected.identifies": 2,
        "delivered.leads": 1,
        "destination of leads": 1,
        "headwater.decision_log": 1,
        "headwater.identities": 7,
        "headwater.identity_links": 6,
        "headwater.model_changes": 1,
        "headwater.outbox": 1,
        "headwater.rejected_events": 1,
        "headwater.segment_memberships": 1,
        "headwater.sync_rows": 1,
        "log (events)": 6,
        "log (changes)": 0,
        "log (rejected)": 2,
        "main.dim_customer": 1,
        "main.fct_orders": 1,
        "main.int_order_totals": 1,
        "main.int_person_ids": 4,
        "main.of_my_own": 1,
        "main.user_alerts": 1,
        "outbox/leads/leads-1.csv": 1,
        "outbox/leads/leads-2.json": 1,
        "raw.addresses": 1,
        "raw.customers": 1,
        "raw.order_lines": 1,
        "raw.orders": 1,
        "seeds/customer_segments.csv": 1,
    }


def test_a_computer_that_was_shared_goes_to_the_other_customer(shop):
    forget_ann(shop)
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        assert w.value("select person_id from headwater.identities where id = ?", [KIOSK]) == "C-bob-002"
        assert persons.recompute_all(w, IdentitySettings()) == []


def test_a_replay_does_not_bring_anybody_back(shop):
    forget_ann(shop)
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        persons.prepare(w)
        last = w.value("select max(position) from collected.events")
        with w.transaction():
            land(w, CALLS, last)
            swept = suppression.sweep(w, last)
            persons.follow(w, last, IdentitySettings())
        assert swept.rows == 6
        assert sorted(swept.offsets) == list(range(last + 1, last + 7))
        w.execute(
            "insert into raw.customers values ('C-ann-001', 'Ann.Smith@example.org', '1', 'A1', 'A1', 'customers.csv', 2)"
        )
        assert suppression.sweep_files(w) == 1
        rows = str(
            w.execute("select * from collected.events").fetchall()
            + w.execute("select * from headwater.identity_links").fetchall()
        )
        assert not [word for word in ANN if word in rows]
        assert "C-bob-002" in rows


def test_nothing_is_swept_where_nobody_was_forgotten(shop):
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        assert suppression.sweep(w, 0).rows == 0
        assert suppression.sweep_files(w) == 0


@pytest.mark.parametrize("point", POINTS)
def test_a_killed_deletion_goes_on_when_it_is_run_again(shop, point):
    killed = _forget_in_a_process(shop, HEADWATER_FAILPOINT=point)
    assert killed.returncode == 137, killed.stderr
    log = SqliteLog(shop / "warehouse" / "log.sqlite")
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        receipts = forget.resume(shop, w, log, NOW, ask=told([]))
        assert [receipt.complete for receipt in receipts] == [True]
        assert forget.resume(shop, w, log, NOW) == []
    log.close()
    assert found(shop, (*ANN, *BOB, KIOSK)) == {*BOB, KIOSK}


def _forget_in_a_process(folder: Path, **environment: str) -> subprocess.CompletedProcess:
    here = Path(__file__).parent
    return subprocess.run(
        [sys.executable, str(here / "forgettable_shop.py"), str(folder)],
        env={**os.environ, **environment, "PYTHONPATH": str(here)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_destination_that_cannot_be_asked_is_asked_again(shop):
    log = SqliteLog(shop / "warehouse" / "log.sqlite")
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        first = forget.forget(
            shop, w, log, "C-ann-001", NOW, ask=lambda several: [Asked(one, "later", "it is down") for one in several]
        )
        assert not first.complete
        assert [place.message for place in first.places if place.place == "destination of leads"] == [
            "not asked yet: it is down. The next `headwater forget` asks again"
        ]
        asked: list[Told] = []
        (second,) = forget.resume(shop, w, log, NOW, ask=told(asked))
        assert asked == [Told("leads", "ann.smith@example.org")]
        assert second.complete
    log.close()
    assert found(shop, ANN) == set()


def test_rows_of_his_that_were_delivered_under_other_keys_are_asked_for_too(shop):
    """What was done has left the outbox, and the key of a sale is not the customer: what was delivered says whose it is."""
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        w.execute(
            "create table delivered.sales as select * from (values ('i-1', 'C-ann-001'), ('i-2', 'C-ann-001'), ('i-3', 'C-bob-002'))"
            " as sales (_headwater_key, customerid)"
        )
        w.execute("delete from headwater.outbox")
    log, asked = SqliteLog(shop / "warehouse" / "log.sqlite"), []
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        receipt = forget.forget(shop, w, log, "C-ann-001", NOW, ask=told(asked))
        left = w.execute("select _headwater_key from delivered.sales").fetchall()
    log.close()
    assert receipt.complete
    assert sorted((one.sync, one.key) for one in asked) == [
        ("leads", "ann.smith@example.org"), ("sales", "i-1"), ("sales", "i-2"),
    ]  # fmt: skip
    assert left == [("i-3",)]


def test_a_published_snapshot_and_what_a_kill_left_unfinished_go_as_a_whole(shop):
    """Parquet and DuckDB hold texts compressed: looking at the bytes would say that nobody is in there."""
    (shop / "warehouse" / "published").mkdir()
    shutil.copyfile(shop / "warehouse" / "shop.duckdb", shop / "warehouse" / "published" / "shop.duckdb")
    shutil.copyfile(shop / "bi" / "dim_customer.parquet", shop / "bi" / ".dim_customer.parquet.part")
    receipt = forget_ann(shop)
    messages = {place.place: place.message for place in receipt.places}
    for file, after in (
        ("bi/report.html", "`headwater export` makes it again"),
        ("warehouse/published/shop.duckdb", "`headwater up` publishes the next one by itself"),
        ("bi/.dim_customer.parquet.part", "nothing needs it any more"),
    ):
        assert messages[file] == f"the file was removed as a whole; {after}"
        assert not (shop / file).exists()


def test_the_shops_own_file_is_named_and_not_touched(shop):
    (shop / "data").mkdir()
    (shop / "data" / "customers.csv").write_text("customer_id\nC-ann-001\n", encoding="utf-8")
    receipt = forget_ann(shop)
    left = [place for place in receipt.places if place.place == "data/customers.csv"]
    assert [place.message for place in left] == [
        "this file is the shop's own and still names the person: take the row out there; until then each load leaves it out"
    ]
    assert (shop / "data" / "customers.csv").read_text(encoding="utf-8") == "customer_id\nC-ann-001\n"


def test_without_writing_the_file_anew_the_bytes_would_stay(shop, monkeypatch):
    """Why `rewrite` is there: DuckDB frees blocks and does not overwrite them."""
    monkeypatch.setattr(forget, "rewrite", lambda warehouse: 0)
    forget_ann(shop)
    assert b"C-ann-001" in (shop / "warehouse" / "shop.duckdb").read_bytes()


def suppressed(shop: Path) -> list[tuple[str, int]]:
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        assert "nobody" not in str(w.execute("select * from headwater.suppressed_ids").fetchall())
        return w.execute("select id_kind, count(*) from headwater.suppressed_ids group by 1 order by 1").fetchall()


def test_an_id_that_nobody_has_is_refused_and_suppressed_only_when_that_is_wanted(shop):
    """A typo would drop whoever gets that id later, for ever. The wish to be forgotten is no trace of anybody."""
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        w.execute("insert into headwater.deletion_requests (customer_id, position) values ('C-nobody', 12)")
    with pytest.raises(UsageError, match=r"nobody has the id 'C-nobody' \(12 records of the log may still name it"):
        forget_ann(shop, "C-nobody")
    assert suppressed(shop) == []
    assert not list((shop / "warehouse").glob("forgetting-*"))
    receipt = forget_ann(shop, "C-nobody", unseen=True)
    assert receipt.unseen
    assert {place.place for place in receipt.places if place.removed_rows} == {"headwater.deletion_requests"}
    assert {place.message for place in receipt.places if place.message} == {
        "nobody has this id; it is suppressed from now on, and `headwater forget --lift` takes that back"
    }
    assert suppressed(shop) == [("anonymous", 1), ("user", 1)]
    again = forget_ann(shop, "C-nobody")  # a known wish, so no typo: as when a killed one is run again
    assert not again.unseen
    assert {place.message for place in again.places} == {"nothing is here of this id, which was suppressed before", ""}


def test_a_suppression_is_lifted_for_the_whole_person_by_any_id_of_his(shop):
    with (
        Warehouse(shop / "warehouse" / "shop.duckdb") as w,
        pytest.raises(UsageError, match="'C-ann-001' is not suppr"),
    ):
        forget.lift(w, "C-ann-001", NOW)
    receipt = forget_ann(shop)
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        with w.transaction():
            suppression.suppress(w, [("user", "C-bob-002")], naive_utc(NOW.now()), "of-bob")
        w.execute("insert into headwater.file_loads (load_id, raw_table) values ('l1', 'customers')")
        of_ann = w.value("select count(*) from headwater.suppressed_ids where receipt_id = ?", [receipt.receipt_id])
        assert forget.lift(w, " Ann.Smith@example.org", NOW) == (of_ann, (receipt.receipt_id,))
        assert w.execute("select distinct receipt_id from headwater.suppressed_ids").fetchall() == [("of-bob",)]
        assert "suppression lifted" in {place.place for place in forget.receipt(w, receipt.receipt_id).places}
        assert w.value("select load_id from headwater.file_loads") != "l1", "the next seed takes the file for known"
        last = w.value("select coalesce(max(position), 0) from collected.events")
        with w.transaction():
            land(w, CALLS, last)
            suppression.sweep(w, last)
        who = "select distinct customer_id from collected.events where position > ? and customer_id is not null"
        assert w.execute(who, [last]).fetchall() == [("C-ann-001",)]


def test_an_id_that_means_nobody_is_refused(shop):
    with pytest.raises(
        UsageError,
        match="found 'anonymous', which means nobody: name a customer id, an anonymous id or an e-mail address",
    ):
        forget_ann(shop, "anonymous")


def test_a_lost_key_is_an_error_and_not_a_return_of_the_forgotten(shop):
    forget_ann(shop)
    (shop / "warehouse" / suppression.KEY_FILE).unlink()
    with (
        Warehouse(shop / "warehouse" / "shop.duckdb") as w,
        pytest.raises(ConfigError, match="Put the file back from your copy of the folder"),
    ):
        suppression.sweep(w, 0)


def test_a_short_number_takes_nobody_elses_numbers_along(tmp_path):
    folder = tmp_path / "shop"
    (folder / "bi").mkdir(parents=True)
    (folder / "bi" / "m.csv").write_text("customer_id,orders\n12,3\n7,12\n", encoding="utf-8")
    with Warehouse(folder / "warehouse" / "shop.duckdb") as w:
        w.execute("create table main.orders_of as select * from (values (12, 3), (7, 12)) as t (customer_id, orders)")
        w.execute("copy main.orders_of to '" + str(folder / "bi" / "m.parquet") + "'")
        log = SqliteLog(folder / "warehouse" / "log.sqlite")
        forget.forget(folder, w, log, "12", NOW)
        log.close()
        assert w.execute("select * from main.orders_of").fetchall() == [(7, 12)]
    assert (folder / "bi" / "m.csv").read_text(encoding="utf-8") == "customer_id,orders\n7,12\n"


ANN_IDS = Person(users=("C-ann",), visitors=("v-1",), shared=("kiosk",), emails=("ann@x.org",))


@pytest.mark.parametrize(
    ("said", "is_hers"),
    [
        ({"userId": "C-ann"}, True),
        ({"userId": "C-bob", "anonymousId": "v-1"}, False),
        ({"anonymousId": "v-1"}, True),
        ({"userId": "null", "anonymousId": "v-1"}, True),
        ({"anonymousId": "kiosk"}, True),
        ({"userId": "C-bob", "anonymousId": "kiosk"}, False),
        ({"anonymousId": "other", "traits": {"email": " Ann@X.org"}}, True),
        ({"userId": "C-bob", "previousId": "C-ann"}, True),
        ({"userId": "C-bob", "previousId": "v-1"}, True),
        ({"userId": "c-ANN"}, False),
        ({"traits": "none"}, False),
        (["C-ann"], False),
    ],
)
def test_whose_a_record_is(said, is_hers):
    assert said_by(ANN_IDS)(json.dumps(said).encode()) is is_hers


@pytest.mark.parametrize(
    ("text", "is_hers"),
    [
        ("seen C-ann today", True),
        ("C-anna", False),
        ("c-ANN", False),
        ("to ANN@X.ORG", True),
        ('{"key": "v-1"}', True),
        ("v-1 of the manual", False),
        ("", False),
    ],
)
def test_whom_a_text_names(text, is_hers):
    assert ANN_IDS.pattern(text) is is_hers


def test_a_rewritten_warehouse_holds_the_same_and_no_journal_is_played_into_it(shop):
    with Warehouse(shop / "warehouse" / "shop.duckdb") as w:
        tables = w.execute(
            "select table_name, estimated_size from duckdb_tables() where not internal order by all"
        ).fetchall()
        views = w.execute("select view_name from duckdb_views() where not internal order by all").fetchall()
        w.execute("create table main.late as select 1 as one")
        assert rewrite(w) == w.path.stat().st_size
        assert w.value("select one from main.late") == 1
        w.execute("drop table main.late")
        assert (
            w.execute(
                "select table_name, estimated_size from duckdb_tables() where not internal order by all"
            ).fetchall()
            == tables
        )
        assert w.execute("select view_name from duckdb_views() where not internal order by all").fetchall() == views
