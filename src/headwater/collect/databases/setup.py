"""What a database needs so that its changes can be followed: each thing looked at, and the SQL for what is not there.

Nothing is created here; `statements` gives what whoever is allowed to may run.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from headwater.collect.databases.masks import Masks
from headwater.collect.databases.postgres import Database, Server, Table
from headwater.collect.databases.settings import DatabaseSettings
from headwater.errors import ConfigError
from headwater.records.counted import counted

_PERSONAL = re.compile(
    r"e_?mail|phone|mobile|passw|ssn|iban|birth|street|postal|zip|(first|last|sur|full|customer)_?name|tax_?id|card_?n",
    re.I,
)
OLDEST = 120_000


@dataclass(frozen=True)
class Check:
    """One thing looked at. `sql`: statements that make it right; `by_hand`: they need a restart, or a right we do not ask for."""

    name: str
    status: Literal["ok", "warn", "wrong"]
    sentence: str
    sql: tuple[str, ...] = ()
    by_hand: bool = False


def examine(settings: DatabaseSettings, database: Database, masks: Masks) -> list[Check]:
    """Everything, in an order in which it can be mended. Raises DatabaseUnreachable, ConfigError when it cannot look."""
    server = database.server()
    schema = settings.db_schema
    tables = database.tables(schema, [*settings.tables, settings.heartbeat_table])
    checks = [*_server(server), *_tables(settings, server, tables), _heartbeat(settings, server, tables)]
    publication = _publication(settings, database, tables)
    checks += [publication, _slot(settings, database, server, publication), _masks(masks, tables)]
    return [*checks, *_personal(settings, tables)]


def statements(checks: Sequence[Check]) -> list[str]:
    """The SQL of everything that is wrong and can be mended by SQL alone, each once."""
    return list(
        dict.fromkeys(sql for check in checks if check.status == "wrong" and not check.by_hand for sql in check.sql)
    )


def _server(server: Server) -> list[Check]:
    checks = []
    version = f"Postgres {server.version // 10_000}.{server.version % 10_000}"
    if server.version < OLDEST:
        checks.append(Check("server", "wrong", f"{version}; 12 is the oldest that can be followed"))
    elif server.replica:
        checks.append(Check("server", "wrong", f"{version} is a replica: give the address of the primary"))
    else:
        checks.append(Check("server", "ok", f"{version}, database {server.database}, role {server.role}"))
    if server.wal_level == "logical":
        checks.append(Check("wal_level", "ok", "is logical"))
    else:
        why = (
            f"is {server.wal_level}; changes can be read from the journal when it is logical. It needs a restart of the server"
            " (on RDS and Aurora set rds.logical_replication = 1 in the parameter group, on Cloud SQL cloudsql.logical_decoding)"
        )
        checks.append(Check("wal_level", "wrong", why, ("alter system set wal_level = 'logical'",), by_hand=True))
    if not server.may_replicate:
        why = f"the role {server.role} may not read the journal (on RDS: grant rds_replication to it)"
        checks.append(Check("role", "wrong", why, (f"alter role {_name(server.role)} with replication",), by_hand=True))
    elif server.superuser:
        why = f"the role {server.role} is a superuser, which is more than is needed: replication, select on the tables, update on the heartbeat"
        checks.append(Check("role", "warn", why))
    else:
        checks.append(Check("role", "ok", f"{server.role} may read the journal, and is no superuser"))
    if server.keep_mb < 0:
        why = (
            "max_slot_wal_keep_size is without limit: while nobody reads the slot the journal fills the database's disk"
        )
        sql = ("alter system set max_slot_wal_keep_size = '20GB'", "select pg_reload_conf()")
        checks.append(Check("journal kept", "warn", why, sql, by_hand=True))
    else:
        checks.append(Check("journal kept", "ok", f"at most {server.keep_mb:,} MB for a slot that is not read"))
    return checks


def _tables(settings: DatabaseSettings, server: Server, tables: dict[str, Table]) -> list[Check]:
    checks = []
    for name, given in settings.tables.items():
        table = tables.get(name)
        full = f"{_name(settings.db_schema)}.{_name(name)}"
        if table is None:
            checks.append(Check(name, "wrong", f"there is no table {full}, or the role may not see its schema"))
            continue
        if not table.key:
            checks.append(
                Check(name, "wrong", f"{full} has no primary key, so its rows cannot be told apart; give it one")
            )
            continue
        if table.identity not in ("d", "f"):
            why = f"{full} has replica identity {table.identity!r}: updates and deletes do not carry the primary key"
            checks.append(Check(name, "wrong", why, (f"alter table {full} replica identity default",)))
            continue
        needed = [column for column in table.columns if given.mask.get(column.name) != "drop"]
        hidden = [column.name for column in needed if not column.readable]
        if hidden:
            what = (
                "" if len(needed) == len(table.columns) else f" ({', '.join(_name(column.name) for column in needed)})"
            )
            why = f"the role may not read {', '.join(hidden)}, which the snapshot does"
            sql = (f"grant usage on schema {_name(settings.db_schema)} to {_name(server.role)}",
                   f"grant select{what} on {full} to {_name(server.role)}")  # fmt: skip
            checks.append(Check(name, "wrong", why, sql))
            continue
        masked = ", ".join(f"{column} {kind}" for column, kind in given.masked.items())
        number = f"about {counted(table.rows, 'row')}" if table.rows else "no row, or never analyzed"
        rows = f"{number}, key {', '.join(table.key)}"
        checks.append(Check(name, "ok", f"{rows}; masked: {masked}" if masked else rows))
    return checks


def _heartbeat(settings: DatabaseSettings, server: Server, tables: dict[str, Table]) -> Check:
    table = tables.get(settings.heartbeat_table)
    full = f"{_name(settings.db_schema)}.{_name(settings.heartbeat_table)}"
    grant = f"grant select, update on {full} to {_name(server.role)}"
    if table is None:
        sql = (
            f"create table {full} (id integer primary key, beat_at timestamptz)",
            f"insert into {full} values (1, now())",
            grant,
        )
        why = f"there is no table {full}: one row that we update, so that the slot moves on while the tables are quiet and others write"
        return Check("heartbeat", "wrong", why, sql)
    if not all(column.readable for column in table.columns) or {column.name for column in table.columns} < {
        "id",
        "beat_at",
    }:
        return Check(
            "heartbeat", "wrong", f"{full} needs the columns id and beat_at, and the right to update them", (grant,)
        )
    return Check("heartbeat", "ok", f"{full}, every {settings.heartbeat_seconds:g} s")


def _publication(settings: DatabaseSettings, database: Database, tables: dict[str, Table]) -> Check:
    found = database.publication(settings.publication, settings.db_schema)
    wanted = [*settings.tables, settings.heartbeat_table]
    schema = _name(settings.db_schema)
    name = _name(settings.publication)
    absent = [table for table in settings.tables if table not in tables]
    if found is None and absent:
        why = f"there is no publication {settings.publication}: it says whose changes are written for readers, and can be made once {', '.join(absent)} are there"
        return Check("publication", "wrong", why)
    if found is None:
        what = ", ".join(f"{schema}.{_name(table)}" for table in wanted)
        why = f"there is no publication {settings.publication}: it says whose changes are written for readers"
        return Check("publication", "wrong", why, (f"create publication {name} for table {what}",))
    lacking = [table for table in wanted if table not in found.tables and (table in tables or not found.every_table)]
    if lacking:
        what = ", ".join(f"{schema}.{_name(table)}" for table in lacking)
        why = f"{settings.publication} lacks {', '.join(lacking)}"
        return Check("publication", "wrong", why, (f"alter publication {name} add table {what}",))
    if found.misses:
        why = f"{settings.publication} leaves out {', '.join(found.misses)}"
        sql = f"alter publication {name} set (publish = 'insert, update, delete, truncate')"
        return Check("publication", "wrong", why, (sql,))
    what = "every table" if found.every_table else f"{len(found.tables)} tables"
    return Check("publication", "ok", f"{settings.publication} holds {what}")


def _slot(settings: DatabaseSettings, database: Database, server: Server, publication: Check) -> Check:
    slot, name = database.slot(settings.slot_name), settings.slot_name
    create = f"select pg_create_logical_replication_slot('{name}', 'pgoutput')"
    if slot is None:
        if server.slots_used >= server.slots:
            why = f"there is no slot {name}, and no room for one: {server.slots_used} of max_replication_slots = {server.slots} are taken"
            return Check("slot", "wrong", why, ("alter system set max_replication_slots = '20'",), by_hand=True)
        why = f"there is no slot {name}: it remembers how far we have read, and keeps the journal until then"
        if (
            publication.status == "wrong" and not publication.sql
        ):  # what was written before its publication cannot be read
            return Check("slot", "wrong", f"{why}; it is made after the publication")
        return Check("slot", "wrong", why, (create,))
    if slot.plugin != "pgoutput" or slot.database != server.database:
        why = f"{name} is a slot of {slot.plugin} in database {slot.database}; take another name with `slot`"
        return Check("slot", "wrong", why)
    if slot.status == "lost":
        why = f"{name} is lost: it was not read for longer than max_slot_wal_keep_size allows. Made anew, all rows are read again"
        return Check("slot", "wrong", why, (f"select pg_drop_replication_slot('{name}')", create))
    if slot.behind > settings.lag_warn_mb * 1_000_000:
        why = f"the database keeps {slot.behind / 1e6:,.0f} MB of its journal for {name}: nobody reads it, or not fast enough"
        return Check("slot", "warn", why)
    return Check(
        "slot",
        "ok",
        f"{name}, {'in use' if slot.active else 'not in use'}, {slot.behind / 1e6:,.1f} MB of journal kept",
    )


def _masks(masks: Masks, tables: dict[str, Table]) -> Check:
    try:
        masks.check(tables)
    except ConfigError as error:
        return Check("masks", "wrong", str(error))
    count = sum(len(columns) for columns in masks.by_table.values())
    return Check("masks", "ok", counted(count, "column") if count else "no column is masked")


def _personal(settings: DatabaseSettings, tables: dict[str, Table]) -> list[Check]:
    found = [
        f"{name}.{column.name}"
        for name, given in settings.tables.items()
        if name in tables
        for column in tables[name].columns
        if _PERSONAL.search(column.name) and column.name not in given.mask and column.name not in tables[name].key
    ]
    if not found:
        return []
    return [
        Check(
            "personal data",
            "warn",
            f"{', '.join(found)}: the names sound personal and are not masked. They are stored as they are; mask them, or say `plain`"
            " under mask where that is meant",
        )
    ]


def _name(text: str) -> str:
    """A name as SQL writes it."""
    if re.fullmatch(r"[a-z_][a-z0-9_]*", text):
        return text
    return '"' + text.replace('"', '""') + '"'
