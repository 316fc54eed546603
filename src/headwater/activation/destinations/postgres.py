"""Rows into a table of a Postgres database."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, LiteralString, cast

from pydantic import Field

from headwater.activation import exact
from headwater.activation.destinations import options as checked
from headwater.activation.destinations.base import (
    BaseDestination,
    Batch,
    CallFailed,
    Later,
    Limits,
    Operation,
    Rejected,
    Result,
    RowSet,
    Unusable,
)
from headwater.settings import Settings

if TYPE_CHECKING:
    from psycopg import Connection, sql

STAGED = "headwater_staged"
_AGAIN = "headwater_key_as_a_field"
"""Where a set's field of the key column's name is staged; the row's key is what counts."""
_TYPES = {
    "VARCHAR": "text",
    "BOOLEAN": "boolean",
    "TINYINT": "smallint",
    "SMALLINT": "smallint",
    "INTEGER": "integer",
    "BIGINT": "bigint",
    "UBIGINT": "numeric(20,0)",
    "HUGEINT": "numeric(38,0)",
    "FLOAT": "real",
    "DOUBLE": "double precision",
    "DATE": "date",
    "TIME": "time",
    "TIMESTAMP": "timestamptz",
    "TIMESTAMP WITH TIME ZONE": "timestamptz",
    "UUID": "uuid",
    "BLOB": "bytea",
}
_DECIMAL = re.compile(r"DECIMAL\((\d+),(\d+)\)")


class PostgresOptions(Settings):
    dsn_env: Annotated[str, Field(description="environment variable with the address, postgresql://user:…@host/db")]
    table: Annotated[str | None, Field(description="table, without its schema; null = the name of the sync")] = None
    db_schema: Annotated[str, Field(description="schema of the table")] = "public"
    key_column: Annotated[str, Field(description="column that holds the sync's key; unique in the table")]
    auto_create: Annotated[bool, Field(description="make the table when it is missing, from the model's types")] = False
    add_columns: Annotated[bool, Field(description="add the columns that the table lacks, from the model's types")] = (
        False
    )
    batch_size: Annotated[int, Field(ge=1, le=100_000, description="rows a transaction")] = 20_000
    set_size: Annotated[
        int,
        Field(ge=0, le=2_000_000, description="rows a transaction when more wait than a batch has; 0 = only batches"),
    ] = 245_760
    timeout_seconds: Annotated[float, Field(gt=0, description="longest time of a statement, seconds")] = 60


class Postgres(BaseDestination):
    """Upserts and removes rows of one table by its key, a transaction for each batch.

    Guarantee: a batch is committed as a whole before it is confirmed. When the connection breaks at the commit the batch is
    in doubt and goes out again, which changes nothing where it had arrived. A batch with a row that the table refuses (a
    constraint, a value too long) is rolled back, halved, and the row found and left with Postgres' own code and words.
    Idempotency: `INSERT … ON CONFLICT (key_column)`; a row that stands there already as it should is not written again.
    An update touches only the fields that changed; where the row is gone it is made again with all its fields.
    Limits: `batch_size` rows a transaction (default 20,000), one connection. When more rows wait than that, they go as a set
    of `set_size` (default 245,760): one COPY and one INSERT … ON CONFLICT. A set that the table refuses goes in halves, and
    then in batches.
    Permissions: SELECT, INSERT, UPDATE and DELETE on the table; CREATE on the schema for `auto_create`; ownership of the
    table for `add_columns`; TEMPORARY on the database.
    Types of a made table: DECIMAL as numeric of the same precision, TIMESTAMP (which means UTC) as timestamptz, lists and
    structs as jsonb. The key column is made as text, and as its primary key, unless a field of that name has a type.
    The address is read from the environment when the sync runs. Needs `pip install 'headwater[postgres]'`.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.settings = checked.read(PostgresOptions, name, options)
        self.limits = Limits(max_rows=self.settings.batch_size, set_rows=self.settings.set_size)
        self._connection: Connection | None = None
        self._types: dict[str, str] = {}

    @property
    def place(self) -> str:
        """Host, port and database of the address, where the environment has it, and the table."""
        try:
            from psycopg import conninfo  # noqa: PLC0415 (an extra)

            said = conninfo.conninfo_to_dict(self.environment.get(self.settings.dsn_env, ""))
        except Exception:  # no driver, or no address: whoever delivers says so
            return ""
        if not said:
            return ""
        host, port, name = said.get("host") or "localhost", said.get("port") or 5432, said.get("dbname") or ""
        return f"{host}:{port}/{name} {self.settings.db_schema}.{self.settings.table or '<sync>'}"

    @property
    def secrets(self) -> Sequence[str]:
        """The address, and the password in it."""
        address = self.environment.get(self.settings.dsn_env)
        if not address:
            return ()
        password = re.search(r"//[^:/@]*:([^@]+)@|password=(\S+)", address)
        return (address, *(part for part in (password.groups() if password else ()) if part))

    def open(self) -> None:
        """Read the address and connect. Raises Unusable when it is not set, wrong or refused, Later when nobody answers."""
        self._connect()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            with suppress(Exception):
                self._connection.close()
            self._connection = None

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Write the batch in one transaction."""
        import psycopg  # noqa: PLC0415 (an extra)

        try:
            connection = self._connect()
            with connection.transaction():
                fields = {field for row in batch.operations for field in row.fields}
                table = self._table(connection, batch, fields)
                for write, rows in _alike(batch.operations):
                    if write is None:
                        self._remove(connection, table, rows)
                    else:
                        self._upsert(connection, table, write, rows)
        except psycopg.Error as error:
            raise self._failed(error) from error
        return self.done(batch)

    def deliver_set(self, rows: RowSet) -> None:
        """Write, or remove, the set in one transaction."""
        import psycopg  # noqa: PLC0415 (an extra)

        try:
            connection = self._connect()
            with connection.transaction():
                table = self._table(connection, rows, set(rows.columns))
                key = self.settings.key_column
                columns = [column for column in rows.columns if column != key]
                there = {key: self._types[key]}
                staged = self._staged(
                    connection, there | {_AGAIN if name == key else name: self._types[name] for name in rows.columns}
                )
                with connection.cursor() as cursor:
                    with cursor.copy(_sql("copy {} from stdin (format csv)", staged)) as copy:
                        for part in rows.csv():
                            copy.write(part)
                    if cursor.rowcount != rows.rows:  # a line that Postgres takes for the end of the data
                        raise Rejected("short_copy", f"{cursor.rowcount:,} of {rows.rows:,} rows were read")
                if rows.removal:
                    self._unlist(connection, table)
                else:
                    self._merge(connection, table, columns, columns, keep_nulls=not rows.write_nulls)
        except psycopg.Error as error:
            raise self._failed(error) from error

    # ------------------------------------------------------------------ the connection

    def _connect(self) -> "Connection":
        if self._connection is not None and not self._connection.closed:
            return self._connection
        try:
            import psycopg  # noqa: PLC0415 (an extra)
        except ImportError as error:
            raise Unusable(
                "not_installed",
                "the package psycopg is not installed",
                advice="pip install 'headwater[postgres]'",
            ) from error
        address = self.environment.get(self.settings.dsn_env)
        if not address:
            raise Unusable(
                "no_address",
                f"the environment variable {self.settings.dsn_env} is not set",
                advice=f"set {self.settings.dsn_env} to postgresql://user:password@host/database",
            )
        milliseconds = int(self.settings.timeout_seconds * 1_000)
        try:
            self._connection = psycopg.connect(
                address,
                connect_timeout=max(2, int(self.settings.timeout_seconds)),
                options=f"-c statement_timeout={milliseconds} -c timezone=UTC",
                application_name="headwater",
            )
        except psycopg.Error as error:
            raise self._failed(error) from error
        self._types = {}
        return self._connection

    def _failed(self, error: Any) -> CallFailed:
        """What the runtime does next after a Postgres error; its classes are in appendix A of Postgres' manual."""
        code = error.sqlstate or type(error).__name__
        said = " ".join(str(getattr(error.diag, "message_primary", None) or error).split())
        broken = self._connection is not None and self._connection.broken
        if broken or code.startswith("08") or code in ("57P01", "57P02", "57P03"):
            self.close()
            return Later(code, said, advice="the database went away; the next run tries again", in_doubt=broken)
        if error.sqlstate is None:  # nobody answered, or the address was refused before the database spoke
            if re.search(r"authentication|password|role .* does not exist|database .* does not exist", said):
                return Unusable(code, said, advice=f"mend {self.settings.dsn_env}")
            return Later(code, said, advice=f"is the database of {self.settings.dsn_env} up and reachable?")
        if code.startswith(("40", "53", "55", "57")):
            return Later(code, said, advice="the database is busy, full or was told to stop; the next run tries again")
        if code.startswith(("28", "3D", "42")):
            return Unusable(code, said, advice=_ADVICE.get(code, f"mend the table, or {self.settings.dsn_env}"))
        detail = getattr(error.diag, "message_detail", None) or ""
        return Rejected(
            code, f"{said}. {detail}".strip(), advice="mend the row, the mapping or the table", response={"code": code}
        )

    # ------------------------------------------------------------------ the table

    def _table(self, connection: "Connection", batch: Batch | RowSet, fields: set[str]) -> "sql.Identifier":
        """The table, made or widened to hold the fields where the options allow it; its column types are looked up once."""
        from psycopg import sql  # noqa: PLC0415 (an extra)

        own = self.settings
        name = own.table or batch.sync
        table = sql.Identifier(own.db_schema, name)
        wanted = {own.key_column, *fields}
        if wanted <= self._types.keys():
            return table
        self._types = _columns(connection, own.db_schema, name)
        if not self._types and own.auto_create:
            columns = [own.key_column, *(column for column in batch.columns if column != own.key_column)]
            columns += sorted(wanted - set(columns))
            defined = [
                sql.SQL("{} {}").format(sql.Identifier(column), _trusted(_type(batch.types.get(column))))
                for column in columns
            ]
            connection.execute(
                sql.SQL("create table if not exists {} ({}, primary key ({}))").format(
                    table, sql.SQL(", ").join(defined), sql.Identifier(own.key_column)
                )
            )
        elif self._types and own.add_columns:
            for column in sorted(wanted - self._types.keys()):
                connection.execute(
                    sql.SQL("alter table {} add column if not exists {} {}").format(
                        table, sql.Identifier(column), _trusted(_type(batch.types.get(column)))
                    )
                )
        self._types = _columns(connection, own.db_schema, name)
        lacking = sorted(wanted - self._types.keys())
        if not self._types:
            raise Unusable(
                "no_table",
                f"there is no table {own.db_schema}.{name}",
                advice=f"make it, or say `auto_create: true` in the options of {self.name!r}",
            )
        if lacking:
            raise Unusable(
                "no_column",
                f"the table {own.db_schema}.{name} has no column {', '.join(lacking)}",
                advice=f"add it, or say `add_columns: true` in the options of {self.name!r}, or leave the field out of the mapping",
            )
        return table

    def _upsert(
        self, connection: "Connection", table: "sql.Identifier", write: tuple[str, ...], rows: Sequence[Operation]
    ) -> None:
        """Rows whose fields `write` are to be set; a row that is not there is made with what it was confirmed to have."""
        key = self.settings.key_column
        known = {field for row in rows for field in row.previous} & self._types.keys()
        columns = sorted((known | set(write)) - {key})
        self._stage(connection, [key, *columns], ([row.key, *_values(row, columns)] for row in rows))
        self._merge(connection, table, columns, [column for column in write if column != key])

    def _merge(
        self,
        connection: "Connection",
        table: "sql.Identifier",
        columns: Sequence[str],
        changed: Sequence[str],
        *,
        keep_nulls: bool = False,
    ) -> None:
        """The staged rows into the table; of those that are there only `changed` is set, and, with `keep_nulls`, by no null."""
        from psycopg import sql  # noqa: PLC0415 (an extra)

        key = self.settings.key_column
        named = sql.SQL(", ").join(map(sql.Identifier, [key, *columns]))
        if changed:
            theirs = "coalesce(excluded.{0}, t.{0})" if keep_nulls else "excluded.{0}"
            ours = sql.SQL(", ").join(_sql("t.{0}", column) for column in changed)
            values = [_sql(theirs, column) for column in changed]
            act = sql.SQL("update set {} where ({}) is distinct from ({})").format(
                sql.SQL(", ").join(
                    sql.SQL("{} = {}").format(sql.Identifier(column), value)
                    for column, value in zip(changed, values, strict=True)
                ),
                ours,
                sql.SQL(", ").join(values),
            )
        else:
            act = sql.SQL("nothing")
        connection.execute(
            sql.SQL("insert into {} as t ({}) select {} from {} on conflict ({}) do {}").format(
                table, named, named, sql.Identifier(STAGED), sql.Identifier(key), act
            )
        )

    def _remove(self, connection: "Connection", table: "sql.Identifier", rows: Sequence[Operation]) -> None:
        self._stage(connection, [self.settings.key_column], ([row.key] for row in rows))
        self._unlist(connection, table)

    def _unlist(self, connection: "Connection", table: "sql.Identifier") -> None:
        """Remove the rows whose keys are staged."""
        from psycopg import sql  # noqa: PLC0415 (an extra)

        key = sql.Identifier(self.settings.key_column)
        connection.execute(
            sql.SQL("delete from {} as t using {} as s where t.{} = s.{}").format(
                table, sql.Identifier(STAGED), key, key
            )
        )

    def _stage(self, connection: "Connection", columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
        """The rows in a temporary table with the types of the target, by COPY."""
        staged = self._staged(connection, {column: self._types[column] for column in columns})
        with connection.cursor().copy(_sql("copy {} from stdin", staged)) as copy:
            for row in rows:
                copy.write_row(row)

    def _staged(self, connection: "Connection", columns: Mapping[str, str]) -> str:
        """The name of an empty temporary table with these columns, name to type; it goes with the transaction."""
        from psycopg import sql  # noqa: PLC0415 (an extra)

        connection.execute(_sql("drop table if exists pg_temp.{}", STAGED))
        connection.execute(
            sql.SQL("create temporary table {} ({}) on commit drop").format(
                sql.Identifier(STAGED),
                sql.SQL(", ").join(
                    sql.SQL("{} {}").format(sql.Identifier(column), _trusted(kind)) for column, kind in columns.items()
                ),
            )
        )
        return STAGED


def _sql(text: LiteralString, name: str) -> "sql.Composed":
    """The SQL with the name in it."""
    from psycopg import sql  # noqa: PLC0415 (an extra)

    return sql.SQL(text).format(sql.Identifier(name))


_ADVICE = {
    "42501": "grant the role SELECT, INSERT, UPDATE and DELETE on the table (and CREATE on the schema for `auto_create`)",
    "42P10": "the key column needs a UNIQUE constraint or a primary key: ALTER TABLE … ADD UNIQUE (…)",
}


def _columns(connection: "Connection", schema: str, table: str) -> dict[str, str]:
    """Column to type as Postgres writes it, length and precision included; empty when there is no such table."""
    found = connection.execute(
        "select a.attname, format_type(a.atttypid, a.atttypmod) from pg_attribute a join pg_class c on c.oid = a.attrelid "
        "join pg_namespace n on n.oid = c.relnamespace where n.nspname = %s and c.relname = %s and a.attnum > 0 "
        "and not a.attisdropped order by a.attnum",
        [schema, table],
    )
    return {str(name): str(kind) for name, kind in found.fetchall()}


def _trusted(name: str) -> "sql.SQL":
    """A type's name, from our own list or from Postgres' catalogue, as SQL."""
    from psycopg import sql  # noqa: PLC0415 (an extra)

    return sql.SQL(cast("LiteralString", name))


def _type(duckdb: str | None) -> str:
    """The Postgres type for a DuckDB type; text where none is known."""
    if duckdb is None:
        return "text"
    decimal = _DECIMAL.fullmatch(duckdb)
    if decimal:
        return f"numeric({decimal[1]},{decimal[2]})"
    if duckdb.endswith("]") or duckdb.startswith(("STRUCT", "MAP", "JSON", "UNION")):
        return "jsonb"
    return _TYPES.get(duckdb, "text")


def _alike(operations: Sequence[Operation]) -> Iterator[tuple[tuple[str, ...] | None, list[Operation]]]:
    """Operations by the fields that they set (None: removals), so that each group is one statement."""

    def kind(row: Operation) -> tuple[bool, tuple[str, ...]]:
        return row.operation == "delete", () if row.operation == "delete" else tuple(sorted(row.fields))

    for (removal, fields), rows in groupby(sorted(operations, key=kind), key=kind):
        yield (None if removal else fields), list(rows)


def _values(row: Operation, columns: Sequence[str]) -> Iterator[Any]:
    """The row's values as COPY takes them: text, or None for null."""
    for column in columns:
        value = row.fields[column] if column in row.fields else row.previous.get(column)
        if value is None or isinstance(value, str):
            yield value
        elif isinstance(value, bool):
            yield "true" if value else "false"
        else:
            yield exact.dumps(value)
