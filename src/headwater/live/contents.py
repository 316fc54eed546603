"""Has anybody else written? What each table held when the engine was last done with it, and what it holds now.

`headwater.live_tables` has, for every live model and every table that one reads, the number of rows and the sum of their
hashes. The engine keeps the sums of the models up to date in each batch, from the rows that differ. After a start or a
command the tables are summed anew: whoever differs was changed by somebody else (a build, a seed, a file load, a hand).
"""

from collections.abc import Iterable, Mapping, Sequence

from headwater.live.deltas import column_list
from headwater.warehouse import Warehouse

LANDED: dict[str, tuple[str, ...]] = {
    "collected.events": ("position", "event_id", "customer_id", "anonymous_id", "event_name", "occurred_at"),
    "collected.identifies": (),
    "collected.aliases": (),
    "headwater.identities": (),
}
"""Tables that the engine's own batches write, with the columns that are summed; none named = all. They only grow, but for
the identities, and but for somebody who is forgotten."""

_UNREAD = ("_lsn", "_snapshot")


def summed(relation: str, columns: Iterable[str]) -> list[str]:
    """Those of a table's columns that are summed: all that models may read (see shapes.py for the schema `landed`)."""
    if LANDED.get(relation):
        return list(LANDED[relation])
    if not relation.startswith("landed."):
        return list(columns)
    return [name for name in columns if name not in _UNREAD and not name.startswith("_was_")]


def types(warehouse: Warehouse, relation: str) -> dict[str, str]:
    """Columns and types of a table, in its order; empty when it is not there."""
    rows = warehouse.execute(
        "select column_name, data_type from duckdb_columns() where database_name = current_database()"
        " and schema_name || '.' || table_name = ? order by column_index",
        [relation],
    ).fetchall()
    return dict(rows)


def measured(warehouse: Warehouse, relation: str) -> tuple[int, int]:
    """Rows of a table and the sum of their hashes."""
    columns = column_list(summed(relation, types(warehouse, relation)))
    row = warehouse.execute(
        f"select count(*), coalesce(sum(cast(hash({columns}) as hugeint)), 0) from {relation}"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def changed(warehouse: Warehouse, relations: Iterable[str]) -> dict[str, tuple[int, int]]:
    """Those that hold something else than when the engine was last done with them, with what they hold now."""
    known = {
        row[0]: (int(row[1]), int(row[2]))
        for row in warehouse.execute("select relation, row_count, content from headwater.live_tables").fetchall()
    }
    found = {}
    for relation in relations:
        now = measured(warehouse, relation)
        if known.get(relation) != now:
            found[relation] = now
    return found


def remember(warehouse: Warehouse, held: Mapping[str, tuple[int, int]]) -> None:
    """Write down what tables hold, in the caller's transaction."""
    for relation, (rows, content) in held.items():
        warehouse.execute("delete from headwater.live_tables where relation = ?", [relation])
        warehouse.execute(
            f"insert into headwater.live_tables values (?, {rows}, cast('{content}' as hugeint), now()::timestamp)",
            [relation],
        )


def added(warehouse: Warehouse, relation: str, columns: Sequence[str], rows: str) -> tuple[int, int]:
    """Number and sum of hashes of rows that were added to a table of these columns."""
    row = warehouse.execute(
        f"select count(*), coalesce(sum(cast(hash({column_list(summed(relation, columns))}) as hugeint)), 0) from {rows}"
    ).fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def move(warehouse: Warehouse, changes: Mapping[str, tuple[int, int]]) -> None:
    """Add what a batch changed: rows more and content more by relation."""
    if changes:
        rows = ", ".join(
            f"('{name}', {more}, cast('{content}' as hugeint))" for name, (more, content) in changes.items()
        )
        warehouse.execute(
            "update headwater.live_tables as held set row_count = held.row_count + more.row_count,"
            f" content = held.content + more.content from (values {rows}) as more (relation, row_count, content)"
            " where held.relation = more.relation"
        )
