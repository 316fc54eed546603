"""What a database needs to be followed: found, said with its SQL, and made only when asked. On a real Postgres."""

from collections.abc import Iterator

import psycopg
import pytest

from headwater.collect.databases import setup
from headwater.collect.databases.masks import Masks
from headwater.collect.databases.postgres import Database, DatabaseUnreachable, address
from headwater.collect.databases.settings import DatabaseSettings, TableSettings
from headwater.errors import ConfigError
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

    owner.execute("alter table visits add primary key (at)")
    for _ in range(2):  # a grant can only be seen to be missing once its table is there
        for check in looked(logical_postgres).values():
            for statement in check.sql if check.status == "wrong" else ():
                owner.execute(statement.encode())
    found = looked(logical_postgres)
    assert {name: check.sentence for name, check in found.items() if check.status == "wrong"} == {}
    assert found["slot"].sentence == "headwater_looked_at, not in use, 0.0 MB of journal kept"
    assert owner.execute("select has_column_privilege('reader', 'people', 'phone', 'select')").fetchone() == (False,)


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
