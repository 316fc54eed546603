"""A question of a user's, as SQL, that cannot change anything."""

import threading
from typing import Any

import duckdb

from headwater.errors import UsageError
from headwater.warehouse.connection import Warehouse


def query(warehouse: Warehouse, sql: str, limit: int, seconds: float) -> tuple[list[dict[str, Any]], bool]:
    """The first `limit` rows of one SELECT, and whether there are more; it reads one moment of the warehouse.

    Raises UsageError with DuckDB's sentence when the text is no query, wants to change something, or takes more than `seconds`
    (an engine waits while it works).
    """
    statements = _statements(sql)
    if len(statements) != 1:
        raise UsageError(f"found {len(statements)} statements; a query is one SELECT")
    if statements[0].type not in (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN):
        raise UsageError(
            f"found a statement of type {statements[0].type.name}; a query only reads: SELECT, DESCRIBE, EXPLAIN"
        )
    warehouse.execute("begin transaction read only")
    watch = threading.Timer(seconds, warehouse.connection.interrupt)
    watch.start()
    try:
        result = warehouse.connection.execute(statements[0])
        names = [column[0] for column in result.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in result.fetchmany(limit + 1)]
    except duckdb.InterruptException as error:
        raise UsageError(
            f"the query took more than {seconds:g} s; allow more with --seconds, or ask for less"
        ) from error
    except duckdb.Error as error:
        raise UsageError(f"the query cannot be answered: {error}") from error
    finally:
        watch.cancel()
        watch.join()
        warehouse.execute("rollback")
    return rows[:limit], len(rows) > limit


def _statements(sql: str) -> list[Any]:
    try:
        return duckdb.extract_statements(sql)
    except duckdb.Error as error:
        raise UsageError(f"the query cannot be read: {error}") from error
