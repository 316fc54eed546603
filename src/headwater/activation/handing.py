"""Handing rows from Python to the warehouse.

As one JSON parameter, column by column: an order of magnitude quicker than one INSERT per row, and twice as quick as
arrays of Python strings, which the warehouse looks up value by value.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from headwater.activation.mapping import literal, quoted
from headwater.warehouse import Warehouse


def put(warehouse: Warehouse, table: str, columns: Mapping[str, str], rows: Sequence[tuple[Any, ...]]) -> str:
    """Make the temporary table `table` (replacing one of that name) of these rows; returns its name.

    `columns` is name → SQL type, in the order of the rows' values; values are text, numbers, booleans or None. Half of a
    surrogate pair, which no destination should send but some do, becomes a question mark.
    """
    lists = {name: [row[position] for row in rows] for position, name in enumerate(columns)}
    shape = json.dumps({name: [kind] for name, kind in columns.items()})
    values = ", ".join(f"unnest(handed.{quoted(name)}) as {quoted(name)}" for name in columns)
    try:
        text = json.dumps(lists, ensure_ascii=False).encode().decode()
    except UnicodeEncodeError:
        text = json.dumps(lists, ensure_ascii=False).encode("utf-8", "replace").decode()
    warehouse.execute(
        f"create or replace temp table {quoted(table)} as select {values} from (select from_json(cast(? as json), {literal(shape)}) as handed)",
        [text],
    )
    return table
