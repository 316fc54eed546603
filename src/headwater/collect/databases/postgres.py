"""What a Postgres says of itself: tables, the role we are, publication, slot. Only `Database.run` changes anything.

`open` gives a connection whose every method is one short query. Raises DatabaseUnreachable when nobody answers, ConfigError
when the address or the password is wrong.
"""

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote, urlsplit

from headwater.collect.databases.settings import DatabaseSettings
from headwater.errors import ConfigError, StageFailed

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

_SECONDS = 10
_REFUSED = re.compile(r"authentication|password|role .* does not exist|database .* does not exist|no pg_hba")


class DatabaseUnreachable(StageFailed):
    """Nobody answers at the address, or the connection broke: wait and try again."""


@dataclass(frozen=True)
class Address:
    """A database's address, taken apart. `options`: what stands after the `?` (sslmode, sslrootcert …)."""

    host: str
    port: int
    user: str
    password: str
    database: str
    options: Mapping[str, str]

    @property
    def shown(self) -> str:
        """The address without its password."""
        return f"postgresql://{self.user}@{self.host}:{self.port}/{self.database}"


def address(url: str, where: str) -> Address:
    """Take an address apart; `where` says whence it comes. Raises ConfigError that does not repeat it: it holds a password."""
    told = f"{where} is no address of a Postgres; expected postgresql://user:password@host:port/database"
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
    except ValueError as error:
        raise ConfigError(told) from error
    database = unquote(parts.path.strip("/"))
    if parts.scheme not in ("postgres", "postgresql") or not parts.hostname or not parts.username or not database:
        raise ConfigError(told)
    return Address(
        parts.hostname,
        port,
        unquote(parts.username),
        unquote(parts.password or ""),
        database,
        dict(parse_qsl(parts.query)),
    )


def address_of(settings: DatabaseSettings) -> Address:
    """The address that the environment has for a source. Raises ConfigError when there is none."""
    url = os.environ.get(settings.url_env, "")
    if not url:
        raise ConfigError(
            f"database {settings.name}: {settings.url_env} is not set in the environment. Set it to "
            "postgresql://user:password@host:port/database"
        )
    return address(url, f"database {settings.name}: {settings.url_env}")


@dataclass(frozen=True, slots=True)
class Column:
    """One column. `type`: as Postgres writes it, with length and precision; `base`: its name in pg_type, of a domain the
    name of what is below it, `enum` for all enumerations. `toasted`: a long value may be kept aside and is then not sent when it does not change."""

    name: str
    type: str
    base: str
    nullable: bool
    key: bool
    toasted: bool
    readable: bool


@dataclass(frozen=True, slots=True)
class Table:
    """One table. `identity`: d (the primary key), f (the full row), i (an index), n (nothing). `rows`: an estimate."""

    name: str
    kind: str
    identity: str
    rows: int
    columns: tuple[Column, ...]

    @property
    def key(self) -> tuple[str, ...]:
        return tuple(column.name for column in self.columns if column.key)


@dataclass(frozen=True)
class Server:
    """The server and the role we are there. `keep_mb`: max_slot_wal_keep_size in megabytes, -1 = without limit."""

    version: int
    database: str
    role: str
    wal_level: str
    replica: bool
    may_replicate: bool
    superuser: bool
    keep_mb: int
    slots_used: int
    slots: int
    senders: int


@dataclass(frozen=True)
class Publication:
    """A publication. `tables`: of our schema; `misses`: what it leaves out of insert, update, delete, truncate."""

    every_table: bool
    tables: frozenset[str]
    misses: tuple[str, ...]


@dataclass(frozen=True)
class Slot:
    """A replication slot. `confirmed`: up to there it was read; `behind`: bytes of journal kept for it; `left`: bytes that
    may still be written before it is lost, None = without limit. `status`: reserved, extended, unreserved or lost."""

    plugin: str | None
    database: str | None
    active: bool
    active_pid: int | None
    confirmed: int | None
    behind: int
    left: int | None
    status: str | None


@dataclass(frozen=True)
class Moment:
    """Where the journal is: every transaction below `oldest` has ended, what is written from now on has a position ≥ `position`."""

    position: int
    oldest: int
    at: datetime


class Database:
    """One connection, made again when it breaks."""

    def __init__(self, where: Address) -> None:
        self.address = where
        self._connection: psycopg.Connection[Any] | None = None

    def __enter__(self) -> "Database":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close it; twice is fine."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _ask(self, sql: "str | Composed", values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
        import psycopg  # noqa: PLC0415 (an extra)

        try:
            if self._connection is None or self._connection.closed:
                self._connection = self._connect()
            return self._connection.execute(sql.encode() if isinstance(sql, str) else sql, list(values)).fetchall()
        except psycopg.Error as error:
            self.close()
            raise _told(error, self.address) from error

    def _connect(self) -> "psycopg.Connection[Any]":
        import psycopg  # noqa: PLC0415 (an extra)
        from psycopg.conninfo import make_conninfo  # noqa: PLC0415 (an extra)

        where = self.address
        given: dict[str, Any] = {
            "connect_timeout": _SECONDS,
            "application_name": "headwater",
            "options": f"-c statement_timeout={_SECONDS * 1000} -c timezone=UTC",
            **where.options,
            "host": where.host,
            "port": where.port,
            "user": where.user,
            "password": where.password,
            "dbname": where.database,
        }
        return psycopg.connect(make_conninfo("", **given), autocommit=True)

    def run(self, statements: Iterable[str]) -> None:
        """Do what `setup` found lacking, statement by statement; only when somebody asked for it."""
        import psycopg  # noqa: PLC0415 (an extra)

        try:
            with self._connect() as connection:
                for statement in statements:
                    connection.execute(statement.encode())
        except psycopg.Error as error:
            raise _told(error, self.address) from error

    # ------------------------------------------------------------------ the server

    def server(self) -> Server:
        """The server's settings, and what our role may."""
        row = self._ask(
            """
            select current_setting('server_version_num')::int, current_database(), current_user, current_setting('wal_level'),
                pg_is_in_recovery(), r.rolreplication or r.rolsuper or exists (
                    select 1 from pg_roles as managed where managed.rolname in ('rds_replication', 'cloudsqlsuperuser')
                    and pg_has_role(current_user, managed.oid, 'member')
                ), r.rolsuper,
                (select case when setting::bigint < 0 then -1 else setting::bigint end from pg_settings where name = 'max_slot_wal_keep_size'),
                (select count(*) from pg_replication_slots), current_setting('max_replication_slots')::int,
                current_setting('max_wal_senders')::int
            from pg_roles as r where r.rolname = current_user
            """
        )[0]
        return Server(*row)

    def moment(self) -> Moment:
        """Where the journal is now; ask this before what is to lie behind it."""
        row = self._ask(
            "select txid_snapshot_xmin(txid_current_snapshot()), (pg_current_wal_lsn() - '0/0')::bigint, clock_timestamp()"
        )[0]
        return Moment(int(row[1]), int(row[0]), row[2])

    # ------------------------------------------------------------------ tables

    def tables(self, schema: str, names: Iterable[str]) -> dict[str, Table]:
        """Those of the tables that exist, by name, with their columns in order."""
        found = self._ask(
            """
            select c.relname, c.relkind::text, c.relreplident::text, greatest(c.reltuples, 0)::bigint,
                a.attname, format_type(a.atttypid, a.atttypmod), case when coalesce(below.typtype, t.typtype) = 'e' then 'enum' else coalesce(below.typname, t.typname) end, not a.attnotnull,
                coalesce(a.attnum = any (i.indkey), false), a.attstorage <> 'p',
                has_column_privilege(current_user, c.oid, a.attnum, 'select')
            from pg_class as c
            join pg_namespace as n on n.oid = c.relnamespace
            join pg_attribute as a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
            join pg_type as t on t.oid = a.atttypid
            left join pg_type as below on t.typtype = 'd' and below.oid = t.typbasetype
            left join pg_index as i on i.indrelid = c.oid and i.indisprimary
            where n.nspname = %s and c.relname = any (%s) and c.relkind in ('r', 'p')
            order by c.relname, a.attnum
            """,
            [schema, list(names)],
        )
        tables: dict[str, Table] = {}
        for name, kind, identity, rows, *column in found:
            before = tables.get(name)
            columns = (*(before.columns if before else ()), Column(*column))
            tables[name] = Table(name, kind, identity, int(rows), columns)
        return tables

    def names(self, schema: str) -> list[str]:
        """All tables of a schema that the role may see, by name."""
        found = self._ask("select tablename::text from pg_tables where schemaname = %s order by 1", [schema])
        return [row[0] for row in found]

    def values(self, schema: str, table: Table, key: Mapping[str, Any], columns: Sequence[str]) -> dict[str, Any]:
        """Some columns of one row as they are now, written as Debezium writes them; empty when there is no such row."""
        from psycopg import sql  # noqa: PLC0415 (an extra)

        kinds = {column.name: column.base for column in table.columns}
        shown = []
        for name in columns:
            base, column = kinds[name], sql.Identifier(name)
            if base == "bytea":
                shown.append(sql.SQL("translate(encode({}, 'base64'), E'\\n', '')").format(column))
            elif base.startswith("_"):
                shown.append(sql.SQL("to_json({})").format(column))
            else:
                shown.append(sql.SQL("{}::text").format(column))
        same = sql.SQL(" and ").join(sql.SQL("{} = %s").format(sql.Identifier(name)) for name in key)
        statement = sql.SQL("select {} from {} where {}").format(
            sql.SQL(", ").join(shown), sql.Identifier(schema, table.name), same
        )
        found = self._ask(statement, key.values())
        return dict(zip(columns, found[0], strict=True)) if found else {}

    # ------------------------------------------------------------------ what lets us follow

    def publication(self, name: str, schema: str) -> Publication | None:
        """The publication of that name; None when there is none."""
        found = self._ask(
            "select puballtables, pubinsert, pubupdate, pubdelete, pubtruncate from pg_publication where pubname = %s",
            [name],
        )
        if not found:
            return None
        every, *sends = found[0]
        tables = self._ask(
            "select tablename from pg_publication_tables where pubname = %s and schemaname = %s", [name, schema]
        )
        misses = [what for what, on in zip(("insert", "update", "delete", "truncate"), sends, strict=True) if not on]
        return Publication(every, frozenset(row[0] for row in tables), tuple(misses))

    def slot(self, name: str) -> Slot | None:
        """The slot of that name; None when there is none."""
        found = self._ask(
            """
            select plugin, database, active, active_pid, (confirmed_flush_lsn - '0/0')::bigint,
                coalesce(greatest(pg_current_wal_lsn() - restart_lsn, 0), 0)::bigint, safe_wal_size::bigint, wal_status
            from pg_replication_slots where slot_name = %s
            """,
            [name],
        )
        return Slot(*found[0]) if found else None


def _told(error: Any, where: Address) -> ConfigError | StageFailed:
    """What the runtime does next after an error. Only what Postgres says of the connection or of rights is repeated."""
    said = " ".join(str(getattr(error.diag, "message_primary", None) or error).split())
    if error.sqlstate is None and _REFUSED.search(said):
        return ConfigError(f"{where.shown} refuses us: {said}. Mend the address, the role or pg_hba.conf")
    if error.sqlstate is not None and error.sqlstate.startswith(("28", "3D")):
        return ConfigError(f"{where.shown} refuses us: {said}. Mend the address or the role")
    if error.sqlstate is not None and error.sqlstate.startswith("42"):
        return ConfigError(f"{where.shown}: {said}. `headwater cdc setup` says what the role needs")
    return DatabaseUnreachable(f"{where.shown} does not answer: {said}. It is tried again")
