"""One DuckDB file, opened by one process at a time."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from importlib.resources import files
from pathlib import Path
from typing import Any

import duckdb

from headwater.errors import Busy, DataError


class Warehouse:
    """A connection to the user's DuckDB file, with Headwater's ledger tables present.

    Not thread-safe; use `cursor()` for a reader of its own. `close()` gives the file back so that dbt may open it;
    the next statement opens it again.
    Raises Busy, naming the holder where DuckDB does, when another process has the file.
    """

    def __init__(self, path: Path | str, *, read_only: bool = False, memory_limit: str | None = None) -> None:
        self.path = Path(path)
        self._memory_limit = memory_limit
        self._read_only = read_only
        self._connection: duckdb.DuckDBPyConnection | None = None
        self._inside = False
        self.rehearsing = False

    @property
    def connection(self) -> duckdb.DuckDBPyConnection:
        """The raw connection, opened on first use."""
        if self._connection is None:
            if not self._read_only:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._connection = duckdb.connect(str(self.path), read_only=self._read_only)
            except duckdb.IOException as error:
                if "lock" in str(error).lower():
                    raise Busy(
                        f"the warehouse {self.path} is open in another process: {error}. Close it, then run this again"
                    ) from error
                raise DataError(f"the warehouse {self.path} cannot be opened: {error}") from error
            self._configure()
            if not self._read_only:
                self._make_ledgers()
        return self._connection

    def _make_ledgers(self) -> None:
        """In one transaction: all of them or none, and the disk is waited for once and not once a table."""
        assert self._connection is not None
        self._connection.execute("begin transaction")
        try:
            self._connection.execute(files("headwater.warehouse").joinpath("ledgers.sql").read_text())
            self._connection.execute("commit")
        except BaseException:
            self.close()
            raise

    def _configure(self) -> None:
        """What holds for every connection, a sibling's included."""
        assert self._connection is not None
        self._connection.execute("set timezone = 'UTC'")
        self._connection.execute("set enable_progress_bar = false")  # it would print into what --json prints
        # a misspelt table must be an error, never a Python variable that happens to have its name (and the look-up is slow)
        self._connection.execute("set python_enable_replacements = false")
        if self._memory_limit:
            self._connection.execute(f"set memory_limit = '{self._memory_limit}'")

    def sibling(self) -> "Warehouse":
        """Another connection to the same open database, for another thread, with transactions of its own.

        Make it in the thread that uses this one, and close it before this one is closed: the file is given back only when
        the last of them is.
        """
        other = Warehouse(self.path, read_only=self._read_only, memory_limit=self._memory_limit)
        other._connection = self.connection.cursor()
        other._configure()
        return other

    def interrupt(self) -> None:
        """End the statement that another thread runs on this connection, if there is one; it raises there."""
        if self._connection is not None:
            self._connection.interrupt()

    def progress(self) -> float | None:
        """The share of the statement that another thread runs here, 0 to 1, as far as DuckDB can tell."""
        done = self._connection.query_progress() if self._connection is not None else -1.0
        return done / 100 if done >= 0 else None

    def close(self) -> None:
        """Give the file back. Closing twice is fine."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __enter__(self) -> "Warehouse":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(
        self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None
    ) -> duckdb.DuckDBPyConnection:
        """Run one statement; the result has `fetchone`, `fetchall`, `fetchnumpy`."""
        return self.connection.execute(sql, parameters)

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        """All rows as dictionaries, column name to value."""
        result = self.execute(sql, parameters)
        names = [column[0] for column in result.description or ()]
        return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def value(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> Any:
        """The first column of the first row; None when there is no row."""
        row = self.execute(sql, parameters).fetchone()
        return row[0] if row else None

    def refusal(self, query: str) -> str | None:
        """What DuckDB says against a query, in one line; None when it can be answered. Not for use in a transaction."""
        try:
            self.execute(query).fetchall()
        except duckdb.Error as error:
            said = [line.strip() for line in str(error).split("\n\n")[0].splitlines() if line.strip()]
            hint = [line for line in said[1:2] if line.startswith(("Did you mean", "Candidate bindings"))]
            return " ".join([said[0].partition(" Error: ")[2] or said[0], *hint])[:300]
        return None

    def exists(self, relation: str) -> bool:
        """Whether the table or view `schema.name` (schema `main` when left out) is there."""
        schema, name = (part.replace("'", "''") for part in relation.rpartition(".")[::2])
        return bool(
            self.value(
                "select count(*) from information_schema.tables "
                f"where table_schema = '{schema or 'main'}' and table_name = '{name}'"
            )
        )

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All statements inside, or none. Inside another transaction it joins that one.

        DuckDB: after a failed statement a COMMIT reports success and rolls back, so an exception inside always leaves by ROLLBACK
        and is raised again; never catch a statement's error inside the block and go on.
        """
        if self._inside:
            yield
            return
        with self._begun():
            yield
            self.execute("commit")

    @contextmanager
    def rehearsal(self) -> Iterator[None]:
        """Everything inside happens, can be read inside, and is undone at the end: what a dry run is made of."""
        if self._inside:
            raise RuntimeError("a rehearsal cannot begin inside a transaction: what came before it would be undone too")
        with self._begun():
            self.rehearsing = True
            try:
                yield
            finally:
                self.rehearsing = False
            self.execute("rollback")

    @contextmanager
    def bulk(self) -> Iterator[None]:
        """Inside, what is committed stays longer in the write-ahead log: for very many rows in a few transactions.

        DuckDB puts its file in order whenever the log has 16 MB, which then costs more than the transactions themselves.
        """
        before = self.value("select current_setting('checkpoint_threshold')")
        self.execute("set global checkpoint_threshold = '1GB'")
        try:
            yield
        finally:
            with suppress(duckdb.Error):  # after a failure the connection may be of no use
                self.execute(f"set global checkpoint_threshold = '{before}'")

    def checkpoint(self) -> None:
        """Put the file in order now; while another connection writes, the next one will do. Not in a transaction."""
        with suppress(duckdb.TransactionException):
            self.execute("checkpoint")

    @contextmanager
    def _begun(self) -> Iterator[None]:
        self.execute("begin transaction")
        self._inside = True
        try:
            yield
        except BaseException:
            with suppress(duckdb.Error):  # a failed COMMIT has rolled back already
                self.execute("rollback")
            raise
        finally:
            self._inside = False

    @contextmanager
    def relation(self, name: str, columns: Mapping[str, Any]) -> Iterator[str]:
        """Numpy arrays (all of one length) as a temporary relation that SQL can read under `name`."""
        self.connection.register(name, dict(columns))
        try:
            yield name
        finally:
            self.connection.unregister(name)
