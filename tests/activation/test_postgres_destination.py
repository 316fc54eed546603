"""The Postgres destination against a real server: the kit, its own table work, and a connection that is cut at the commit."""

import socket
import threading
from contextlib import suppress
from decimal import Decimal
from itertools import count
from urllib.parse import parse_qs, urlsplit

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from headwater.activation.destinations import Batch, Later, Operation, Rejected, Unusable, make
from headwater.activation.settings import DestinationSettings
from headwater.testing import checks

_numbers = count(1)
_made = []


@pytest.fixture(scope="module")
def address(postgres_server):
    PostgresBench.server = postgres_server
    return postgres_server


@pytest.fixture
def schema(address):
    """A schema of its own."""
    name = f"shop{next(_numbers)}"
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"create schema {name}")
    return name


class Cut:
    """A proxy before Postgres that can lose the answer to a COMMIT: it passes the commit on and hangs up."""

    def __init__(self, path):
        self.path = path
        self.armed = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        with suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                server = socket.socket(socket.AF_UNIX)
                server.connect(self.path)
                cut = threading.Event()
                threading.Thread(target=self._forward, args=(client, server, cut), daemon=True).start()
                threading.Thread(target=self._back, args=(server, client, cut), daemon=True).start()

    def _forward(self, client, server, cut):
        with suppress(OSError):
            while data := client.recv(65_536):
                if self.armed and b"COMMIT" in data:
                    self.armed = False
                    cut.set()
                server.sendall(data)
        server.close()

    def _back(self, server, client, cut):
        with suppress(OSError):
            while data := server.recv(65_536):
                if cut.is_set():
                    break
                client.sendall(data)
        for end in (server, client):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()

    def close(self):
        self.listener.close()


class PostgresBench(checks.Bench):
    """A table of its own in a real Postgres; a trigger counts what changes and stages the faults."""

    faults = frozenset({"later", "lost_answer", "refuse", "poison"})
    server = ""

    def __init__(self, folder):
        super().__init__(folder)
        self.table = f"bench{next(_numbers)}"
        parts = urlsplit(self.server)
        self.proxy = Cut(parse_qs(parts.query)["host"][0] + "/.s.PGSQL.5432")
        self.address = f"postgresql://postgres:{checks.SECRET}@127.0.0.1:{self.proxy.port}/postgres"
        self.connection = psycopg.connect(self.server, autocommit=True, row_factory=dict_row)
        self.connection.execute(f"""
            create table {self.table} (key text primary key, name text, amount numeric(18,4), note text);
            create table {self.table}_log (statement bigint, at timestamptz default clock_timestamp());
            create table {self.table}_faults (kind text, key text);
            create sequence {self.table}_busy;
            create function {self.table}_watch() returns trigger language plpgsql as $$
            begin
                if exists (select from {self.table}_faults where kind = 'later') and nextval('{self.table}_busy') = 1 then
                    raise exception 'could not serialize' using errcode = '40001';
                end if;
                if tg_op <> 'DELETE' and exists (select from {self.table}_faults where kind = 'refuse' and key = new.key) then
                    raise exception 'this row is refused' using errcode = '23514';
                end if;
                return coalesce(new, old);
            end $$;
            create function {self.table}_count() returns trigger language plpgsql as $$
            begin
                insert into {self.table}_log values (txid_current());
                return null;
            end $$;
            create trigger count after insert or update or delete on {self.table} for each row execute function {self.table}_count();
            create trigger watch before insert or update or delete on {self.table} for each row execute function {self.table}_watch();
        """)

    @property
    def settings(self):
        return DestinationSettings(
            type="postgres",
            options={"dsn_env": "SHOP_DATABASE", "table": self.table, "key_column": "key", "batch_size": 7},
        )

    @property
    def environment(self):
        return {"SHOP_DATABASE": self.address}

    def arrived(self):
        rows = self.connection.execute(sql.SQL("select * from {}").format(sql.Identifier(self.table))).fetchall()
        return {row.pop("key"): row for row in rows}

    def effects(self):
        return self.connection.execute(f"select count(*) as n from {self.table}_log").fetchone()["n"]

    def calls(self):
        found = self.connection.execute(f"select count(distinct statement) as n from {self.table}_log").fetchone()
        return found["n"]

    def stage(self, fault, key=""):
        if fault == "lost_answer":
            self.proxy.armed = True
        else:
            kind = "later" if fault == "later" else "refuse"
            self.connection.execute(f"insert into {self.table}_faults values (%s, %s)", [kind, key])

    def close(self):
        self.proxy.close()
        self.connection.close()


@pytest.mark.parametrize("check", checks.of(PostgresBench), ids=lambda check: check.__name__)
def test_the_kit_passes(check, tmp_path, address):
    check(PostgresBench(tmp_path))


@pytest.fixture(autouse=True)
def closed():
    """Whatever a test opened is closed after it."""
    yield
    while _made:
        _made.pop().close()


def destination(address, schema, **options):
    settings = DestinationSettings(
        type="postgres", options={"dsn_env": "DB", "db_schema": schema, "key_column": "customer_id", **options}
    )
    _made.append(make("shop_db", settings, folder=None, environment={"DB": address}))
    return _made[-1]


def batch(*rows, types=None):
    operations = tuple(
        Operation(f"op-{number}", "totals", key, 1, verb, fields, previous=previous)
        for number, (verb, key, fields, previous) in enumerate(rows)
    )
    types = types or {}
    return Batch("b1", "totals", operations, tuple(types), types)


TYPES = {
    "customer_id": "BIGINT",
    "total_amount": "DECIMAL(18,4)",
    "seen_at": "TIMESTAMP",
    "tags": "VARCHAR[]",
    "is_new": "BOOLEAN",
}
ROW = {
    "customer_id": 7,
    "total_amount": Decimal("12.3000"),
    "seen_at": "2026-03-01T12:00:00Z",
    "tags": ["a", "b"],
    "is_new": True,
}


def rows_of(address, schema):
    with psycopg.connect(address, row_factory=dict_row) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(f"select * from {schema}.totals order by 1").fetchall()


def test_a_missing_table_is_made_with_the_models_types(address, schema):
    made = destination(address, schema, auto_create=True)
    made.deliver(batch(("create", "7", ROW, {}), types=TYPES))
    with psycopg.connect(address) as connection:
        types = dict(
            connection.execute(
                "select column_name, data_type from information_schema.columns where table_schema = %s", [schema]
            ).fetchall()
        )
    assert types == {
        "customer_id": "bigint",
        "total_amount": "numeric",
        "seen_at": "timestamp with time zone",
        "tags": "jsonb",
        "is_new": "boolean",
    }
    (row,) = rows_of(address, schema)
    assert str(row["total_amount"]) == "12.3000"
    assert row["seen_at"].isoformat() == "2026-03-01T12:00:00+00:00"
    assert row["tags"] == ["a", "b"]


def test_a_missing_table_is_an_error_that_says_what_to_do(address, schema):
    with pytest.raises(Unusable) as caught:
        destination(address, schema).deliver(batch(("create", "7", ROW, {}), types=TYPES))
    assert caught.value.message == f"there is no table {schema}.totals"
    assert caught.value.advice == "make it, or say `auto_create: true` in the options of 'shop_db'"


def test_columns_are_added_only_when_that_is_asked_for(address, schema):
    made = destination(address, schema, auto_create=True)
    made.deliver(batch(("create", "7", {"customer_id": 7}, {}), types={"customer_id": "BIGINT"}))
    with pytest.raises(Unusable) as caught:
        made.deliver(batch(("update", "7", {"is_new": True}, {"customer_id": 7}), types=TYPES))
    assert caught.value.message == f"the table {schema}.totals has no column is_new"
    widened = destination(address, schema, add_columns=True)
    widened.deliver(batch(("update", "7", {"is_new": True}, {"customer_id": 7}), types=TYPES))
    assert rows_of(address, schema) == [{"customer_id": 7, "is_new": True}]


def test_a_row_that_somebody_removed_comes_back_whole(address, schema):
    """An update carries what changed; the rest is what was confirmed before, so nothing is lost."""
    made = destination(address, schema, auto_create=True)
    made.deliver(batch(("create", "7", ROW, {}), types=TYPES))
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"delete from {schema}.totals")
    made.deliver(batch(("update", "7", {"is_new": False}, ROW), types=TYPES))
    (row,) = rows_of(address, schema)
    assert (row["total_amount"], row["is_new"]) == (Decimal("12.3000"), False)


def test_an_update_leaves_other_columns_alone(address, schema):
    made = destination(address, schema, auto_create=True)
    made.deliver(batch(("create", "7", ROW, {}), types=TYPES))
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"update {schema}.totals set total_amount = 99")
    made.deliver(batch(("update", "7", {"is_new": False}, ROW), types=TYPES))
    (row,) = rows_of(address, schema)
    assert (row["total_amount"], row["is_new"]) == (Decimal("99.0000"), False)


@pytest.mark.parametrize(
    ("ddl", "kind", "code"),
    [
        ("create table {}.totals (customer_id bigint, name text)", Unusable, "42P10"),
        ("create table {}.totals (customer_id bigint primary key, name varchar(2))", Rejected, "22001"),
        ("create table {}.totals (customer_id bigint primary key, name text check (name <> 'Ada'))", Rejected, "23514"),
        ("create table {}.totals (customer_id date primary key, name text)", Rejected, "22007"),
    ],
    ids=["no unique key", "too long", "constraint", "wrong type"],
)
def test_a_refusal_keeps_postgres_code(address, schema, ddl, kind, code):
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(ddl.format(schema))
    made = destination(address, schema)
    with pytest.raises(kind) as caught:
        made.deliver(batch(("create", "x" if code == "22007" else "7", {"name": "Ada"}, {})))
    assert caught.value.code == code
    assert caught.value.advice
    assert rows_of(address, schema) == []


def test_nobody_there_is_later(schema):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(Later) as caught:
        destination(f"postgresql://postgres@127.0.0.1:{port}/postgres", schema, timeout_seconds=2).open()
    assert caught.value.advice == "is the database of DB up and reachable?"
    assert not caught.value.in_doubt


def test_an_address_that_is_not_set_is_said():
    made = destination("", "public")
    with pytest.raises(Unusable) as caught:
        made.open()
    assert caught.value.message == "the environment variable DB is not set"


def test_a_wrong_database_stops_the_sync(address, schema):
    with pytest.raises(Unusable) as caught:
        destination(address.replace("/postgres?", "/nowhere?"), schema).open()
    assert 'database "nowhere" does not exist' in str(caught.value)


@pytest.fixture
def large(address, schema, desk, monkeypatch):
    """A desk whose sync goes to a table here: batches of five rows, sets of twenty."""
    monkeypatch.setenv("DB", address)
    options = {"dsn_env": "DB", "db_schema": schema, "key_column": "id", "auto_create": True}
    desk.destination = DestinationSettings(type="postgres", options={**options, "batch_size": 5, "set_size": 20})
    desk.with_sync(fields={})
    return desk


def people_of(address, schema):
    with psycopg.connect(address) as connection:
        connection.execute("set timezone = 'UTC'")
        return connection.execute(f"select * from {schema}.people order by id").fetchall()


def test_every_type_arrives_in_a_set_as_in_a_batch(address, schema, large):
    """What a set carries as text is what the row's JSON would have said."""
    large.warehouse.execute("""
        create or replace table main.people as select 'k' || lpad(i::varchar, 2, '0') as id, i as number, (i * 1.10)::decimal(18, 4) as amount,
            i / 7 as share, i % 2 = 0 as even, date '2026-01-01' + i::int as day,
            timestamp '2026-01-01 10:00:00.123456' + to_hours(i) as moment, time '10:00:00' as clock,
            case when i % 3 > 0 then 'text, "' || i || '"' || chr(10) || 'x\\' end as words, [i, i + 1] as list, {'a': 'b"' || i} as struct,
            encode('bytes') as bytes, gen_random_uuid() as uuid, i::hugeint * 100000000000000000000 as huge, '' as empty
        from range(30) t(i)""")
    assert large.deliver().confirmed == 30
    as_a_set = people_of(address, schema)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"delete from {schema}.people")
    for table in ("delivered.people", 'delivered."people__next"', "headwater.outbox"):
        large.warehouse.execute(f"delete from {table}")
    large.destination = large.destination.model_copy(update={"options": {**large.destination.options, "set_size": 0}})
    assert large.deliver().confirmed == 30
    assert people_of(address, schema) == as_a_set
    assert len(as_a_set) == 30


def test_a_line_that_ends_the_data_is_text_like_any_other(address, schema, large):
    """A backslash and a dot alone on a line are the end of a COPY for some versions of Postgres."""
    large.people(*[(f"c{number:02d}", "one\n\\.\ntwo" if number == 7 else "Ann", "Oslo") for number in range(12)])
    assert large.deliver().confirmed == 12
    rows = people_of(address, schema)
    assert len(rows) == 12
    assert rows[7] == ("c07", "one\n\\.\ntwo", "Oslo")


def test_a_field_without_any_value_needs_no_column(address, schema, large):
    large.people(*[(f"c{number:02d}", "Ann", None) for number in range(12)])
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(f"create table {schema}.people (id text primary key, name text)")
    assert large.deliver().confirmed == 12
    assert people_of(address, schema)[0] == ("c00", "Ann")


def test_a_row_that_a_set_may_not_write_fails_alone(address, schema, large):
    large.people(*[(f"c{number:02d}", "Ann" if number != 9 else "Ada", "Oslo") for number in range(22)])
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute(
            f"create table {schema}.people (id text primary key, name text check (name <> 'Ada'), city text)"
        )
    done = large.deliver()
    assert (done.confirmed, done.failed) == (21, 1)
    assert len(people_of(address, schema)) == 21
    assert large.warehouse.rows("select key, code from headwater.outbox where state = 'failed'") == [
        {"key": "c09", "code": "23514"}
    ]
