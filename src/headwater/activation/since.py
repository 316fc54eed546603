"""What a live sync has to look at: only the rows whose model changed since it last looked, and what it has left open.

The engine writes each changed row of a live model to `headwater.model_changes`. Keys of the sync are taken from the rows as they
are now and from the old images, so a row that left the model, or got another key, is looked at under its old key too.
Whoever uses this compares everything first and from time to time: batch builds and columns that depend on the clock leave no
trace in `model_changes`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace

from headwater.activation.difference import OPEN
from headwater.activation.mapping import FieldMap, key_columns, literal, quoted
from headwater.activation.settings import SyncSettings
from headwater.warehouse import Warehouse


@dataclass(frozen=True)
class Since:
    """Changes of the rows of `model`, whose own key is the column `key`: versions after `after` up to `upto`."""

    model: str
    key: str
    after: int
    upto: int


def newest(warehouse: Warehouse) -> int:
    """The version of the newest change."""
    return int(warehouse.value("select coalesce(max(version), 0) from headwater.model_changes"))


def forget(warehouse: Warehouse, passed: Mapping[str, int]) -> None:
    """Remove the changes that nobody will look for any more: model to the version up to which everybody has looked.

    The newest of all models stays, since versions are counted on from it.
    """
    for model, version in passed.items():
        old = (
            f"from headwater.model_changes where model = {literal(model)} and version <= {version}"
            " and version < (select max(version) from headwater.model_changes)"
        )
        if warehouse.value(f"select count(*) {old}"):
            warehouse.execute(f"delete {old}")


def touched(warehouse: Warehouse, sync: SyncSettings, fields: FieldMap, since: Since) -> str:
    """The temporary table with the sync's keys (column `key`) that may have something to send."""
    table = f"touched_{sync.name}"
    changed = f"from headwater.model_changes where model = {literal(since.model)} and version > {since.after} and version <= {since.upto}"
    columns = key_columns(sync)
    kinds = {
        row["column_name"]: row["column_type"] for row in warehouse.rows(f"describe select * from {fields.relation}")
    }
    shape = literal(json.dumps({column: kinds[column] for column in columns}))
    warehouse.execute(
        f"create or replace temp table {quoted(table)} as "
        f"select {fields.key} as key from {fields.relation} where cast({quoted(since.key)} as varchar) in (select key {changed}) "
        f"union select {fields.key} from (select unnest(from_json(old, {shape})) {changed} and old is not null) "
        f"union select key from headwater.outbox where sync = {literal(sync.name)} and state in {OPEN}"
    )
    return quoted(table)


def narrowed(warehouse: Warehouse, sync: SyncSettings, fields: FieldMap, table: str) -> FieldMap:
    """The mapping over the rows of these keys alone, which are taken out once: the comparison reads them several times."""
    rows = quoted(f"narrowed_{sync.name}")
    warehouse.execute(
        f"create or replace temp table {rows} as "
        f"select * from {fields.relation} where {fields.key} in (select key from {table})"
    )
    return replace(fields, relation=rows)
