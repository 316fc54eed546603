"""What a database needs to be followed: found, said with its SQL, and made only when asked. On a real Postgres."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from following import until

from headwater.clock import SystemClock
from headwater.collect.databases import setup
from headwater.collect.databases.changes import Taken
from headwater.collect.databases.follow import Follower
from headwater.collect.databases.masks import Masks
from headwater.collect.databases.postgres import Database, DatabaseUnreachable, address
from headwater.collect.databases.settings import DatabaseSettings, TableSettings
from headwater.collect.databases.state import Note
from headwater.collect.health import Health
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError, LogUnavailable
from headwater.log.memory import MemoryLog
from headwater.records.logged import Entry
from headwater.testing.postgres import Server

SETTINGS = DatabaseSettings(
    name="shop",
    url_env="X",
    slot="headwater_looked_at",
    tables={"people": TableSettings(mask={"email": "hash", "phone": "drop"}), "visits": TableSettings()},
)
READER = "reader"


@pytest.fixture
def owner(logical_postgres: Server) -> Iterator[psycopg.Connection]:
    """The owner's connection to a database of its own, with two tables, and a role that may only log in."""
    with psycopg.connect(logical_postgres.url, autocommit=True) as root:
        root.execute("create database looked_at")
        root.execute("create role reader login")
        with psycopg.connect(logical_postgres.address("looked_at"), autocommit=True) as connection:
            connection.execute("create table people (id int primary key, email text, phone text, birth_date date)")
            connection.execute("create table visits (at timestamptz)")
            yield connection
            connection.execute(
                "select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = 'headwater_looked_at'"
            )
        root.execute("drop database looked_at with (force)")
        root.execute("drop role reader")


def looked(server: Server, user: str = READER, settings: DatabaseSettings = SETTINGS) -> dict[str, setup.Check]:
    with Database(address(server.address("looked_at", user), "the address")) as database:
        return {check.name: check for check in setup.examine(settings, database, Masks(settings, b"key"))}


def test_each_thing_that_is_missing_is_said_and_its_sql_mends_it(
    owner: psycopg.Connection, logical_postgres: Server
) -> None:
    found = looked(logical_postgres)
    wrong = {name for name, check in found.items() if check.status == "wrong"}
    assert wrong == {"role", "people", "visits", "heartbeat", "publication", "slot"}
    assert found["visits"].sentence == "public.visits has no primary key, so its rows cannot be told apart; give it one"
    assert "grant select (id, email, birth_date) on public.people to reader" in found["people"].sql
    assert found["personal data"].sentence.startswith("people.birth_date: ")
    meant = SETTINGS.model_copy(
        update={"tables": {"people": TableSettings(mask={**SETTINGS.tables["people"].mask, "birth_date": "plain"})}}
    )
    assert "personal data" not in looked(logical_postgres, settings=meant), "who says `plain` is not warned"

    owner.execute("alter table visits add primary key (at)")
    for _ in range(2):  # a grant can only be seen to be missing once its table is there
        for check in looked(logical_postgres).values():
            for statement in check.sql if check.status == "wrong" else ():
                owner.execute(statement.encode())
    found = looked(logical_postgres)
    assert {name: check.sentence for name, check in found.items() if check.status == "wrong"} == {}
    assert found["slot"].sentence == "headwater_looked_at, not in use, 0.0 MB of journal kept"
    assert owner.execute("select has_column_privilege('reader', 'people', 'phone', 'select')").fetchone() == (False,)


def test_what_stands_upon_missing_tables_is_not_made_before_them(
    owner: psycopg.Connection, logical_postgres: Server
) -> None:
    """A slot that is older than its publication holds changes that cannot be read by it."""
    owner.execute("drop table visits")
    found = looked(logical_postgres, "postgres")
    assert (found["publication"].status, found["publication"].sql) == ("wrong", ())
    assert found["publication"].sentence.endswith("and can be made once visits are there")
    assert (found["slot"].status, found["slot"].sql) == ("wrong", ())
    assert found["slot"].sentence.endswith("; it is made after the publication")


def test_looking_changes_nothing(owner: psycopg.Connection, logical_postgres: Server) -> None:
    looked(logical_postgres, "postgres")
    for what in ("pg_publication", "pg_replication_slots where slot_name = 'headwater_looked_at'"):
        assert owner.execute(f"select count(*) from {what}".encode()).fetchone() == (0,)


def test_a_table_left_out_of_a_publication_and_a_publication_without_truncates_are_found(
    owner: psycopg.Connection, logical_postgres: Server
) -> None:
    owner.execute("alter table visits add primary key (at)")
    owner.execute("create publication headwater for table people with (publish = 'insert, update')")
    found = looked(logical_postgres, "postgres")["publication"]
    assert found.sql == ("alter publication headwater add table public.visits, public.headwater_heartbeat",)
    owner.execute("create table headwater_heartbeat (id int primary key, beat_at timestamptz)")
    owner.execute(found.sql[0].encode())
    found = looked(logical_postgres, "postgres")["publication"]
    assert found.sentence == "headwater leaves out delete, truncate"
    owner.execute(found.sql[0].encode())
    assert looked(logical_postgres, "postgres")["publication"].status == "ok"


def test_updates_without_the_primary_key_are_found(owner: psycopg.Connection, logical_postgres: Server) -> None:
    owner.execute("alter table people replica identity nothing")
    found = looked(logical_postgres, "postgres")["people"]
    assert (found.status, found.sql) == ("wrong", ("alter table public.people replica identity default",))


def test_a_misspelt_mask_is_found(owner: psycopg.Connection, logical_postgres: Server) -> None:
    settings = SETTINGS.model_copy(update={"tables": {"people": TableSettings(mask={"e_mail": "hash"})}})
    found = looked(logical_postgres, "postgres", settings)["masks"]
    assert found.status == "wrong"
    assert "people has no column 'e_mail', which is to be masked; it has birth_date, email, id, phone" in found.sentence


@pytest.mark.parametrize("url", ["mysql://a@b/c", "postgresql://host/", "postgresql://a:secret@h:x/d", "secret"])
def test_what_is_no_address_is_refused_without_being_repeated(url: str) -> None:
    with pytest.raises(ConfigError) as error:
        address(url, "X")
    assert str(error.value) == "X is no address of a Postgres; expected postgresql://user:password@host:port/database"


def test_nobody_there_is_told_apart_from_not_let_in(logical_postgres: Server) -> None:
    with pytest.raises(DatabaseUnreachable, match="does not answer"):
        Database(address("postgresql://a:secret@127.0.0.1:1/d", "X")).server()
    with pytest.raises(ConfigError, match="refuses us") as error:
        Database(address(logical_postgres.address("postgres", "nobody_of_ours", "secret"), "X")).server()
    assert "secret" not in str(error.value)


# ---------------------------------------------------------------------- what the process sees, without Debezium


@pytest.fixture
def follower(
    owner: psycopg.Connection, logical_postgres: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Follower]:
    """A process that has not begun, of a database that can be followed; one megabyte of journal is its alarm."""
    settings = SETTINGS.model_copy(update={"tables": {"people": TableSettings()}, "lag_warn_mb": 1})
    with Database(address(logical_postgres.address("looked_at"), "X")) as database:
        checks = setup.examine(settings, database, Masks(settings, b"key"))
        database.run(setup.statements(checks))
    monkeypatch.setenv("X", logical_postgres.address("looked_at"))
    log = MemoryLog()
    made = Follower(tmp_path, CollectSettings(databases=[settings]), settings, log, SystemClock())
    made.place.make()
    yield made
    made.close()


def test_a_slot_that_nobody_reads_is_an_alarm(
    owner: psycopg.Connection, follower: Follower, logical_postgres: Server
) -> None:
    assert follower.look()[1] is None
    owner.execute(
        "insert into people select i, repeat('x', 1000), repeat('y', 1000) from generate_series(1, 1500) as i"
    )
    slot, trouble = follower.look()
    assert slot is not None and slot.behind > 1_000_000
    assert trouble == f"the database keeps {slot.behind / 1e6:,.0f} MB of its journal for us, more than lag_warn_mb (1)"
    checked = looked(logical_postgres, "postgres", SETTINGS.model_copy(update={"lag_warn_mb": 1}))["slot"]
    assert checked.status == "warn"
    owner.execute("select pg_drop_replication_slot('headwater_looked_at')")
    assert follower.look()[1] == "the slot headwater_looked_at is gone; `headwater cdc setup shop` says what to do"


def test_where_we_stand_is_held_against_the_slot_and_the_journal(owner: psycopg.Connection, follower: Follower) -> None:
    def offsets(position: int) -> None:
        follower.place.offsets.write_bytes(b'\xac\xed{"lsn_proc":%d,"lsn":%d}x' % (position, position))

    follower.stand()
    assert follower.place.state().gap is None
    now = follower.place.state().next
    assert now is not None

    offsets(now.position)
    follower.stand()
    assert follower.place.offsets.exists(), "nothing is missing: it goes on"

    offsets(1)
    follower.stand()
    gap = follower.place.state().gap
    assert gap is not None and "it was made anew" in gap["why"]
    assert not follower.place.offsets.exists(), "the next start reads all rows again"

    offsets(now.position + 10**12)
    follower.stand()
    state = follower.place.state()
    assert state.gap is not None and "another server took its place" in state.gap["why"]
    assert state.next is not None and state.next.position + state.next.shift > now.position + 10**12


def test_a_log_that_takes_nothing_is_waited_for_and_that_is_said(
    follower: Follower, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = threading.Event()
    full.set()
    taken: list[Entry] = []

    def append(entries: list[Entry]) -> None:
        if full.is_set():
            raise LogUnavailable("the disk is full")
        taken.extend(entries)

    monkeypatch.setattr("headwater.collect.databases.follow._LOG_SECONDS", 0.01)
    monkeypatch.setattr(follower._log, "append", append)
    waiting = threading.Thread(target=follower._append, args=(Taken([Entry("changes", "shop", "k", "m", 1, b"{}")]),))
    waiting.start()

    def warned() -> list[str]:
        follower._tell(None, None)
        note = follower.place.note()
        return note.warnings if note else []

    until(warned, "it is said")
    assert warned() == ["waits for the log, the database keeps its journal meanwhile: the disk is full"]
    full.clear()
    waiting.join()
    assert warned() == []
    assert len(taken) == 1


def test_health_tells_who_is_followed_and_what_is_the_matter(follower: Follower, tmp_path: Path) -> None:
    health = Health(CollectSettings(databases=[SETTINGS]), MemoryLog(), SystemClock(), tmp_path)

    def told() -> tuple[str, str]:
        status, report = health.report()
        assert status == 200, "events can be taken whatever the databases do"
        (found,) = [check for check in report["checks"] if check["name"] == "database shop"]
        return found["status"], found["message"]

    assert told() == ("warn", "nobody follows it. See `headwater cdc status`")
    now = datetime.now(UTC).isoformat()
    follower.place.say(Note("shop", "streaming", "follows: 3 changes since this process began", at=now))
    assert told() == ("ok", "follows: 3 changes since this process began")
    follower.place.say(Note("shop", "streaming", "follows", ["the database keeps 2 MB"], at=now))
    assert told() == ("warn", "the database keeps 2 MB")
    follower.place.say(Note("shop", "failed", "people has no column 'email'", at=now))
    assert told() == ("warn", "nobody follows it: people has no column 'email'. See `headwater cdc status`")
