"""`delivered.<sync>`: one row per key that a destination has confirmed, typed, as the destination holds it.

    _headwater_key            the normalised key
    _headwater_version        version of the operation that was confirmed last
    _headwater_confirmed_at   when
    one column per mapped field, in the type it has in the model

`delivered.<sync>__next` holds, per open operation, the row as it will be once the operation is confirmed; `confirm`
moves it over. Both are ours alone: a user who empties them makes the next plan send everything again.
"""

from headwater.activation.mapping import Field, FieldMap, quoted
from headwater.clock import Clock, naive_utc
from headwater.warehouse import Warehouse


def table(sync: str) -> str:
    """The SQL name of the sync's confirmed rows."""
    return f"delivered.{quoted(sync)}"


def pending(sync: str) -> str:
    """The SQL name of the rows as they will be."""
    return f"delivered.{quoted(sync + '__next')}"


def exists(warehouse: Warehouse, sync: str) -> bool:
    return warehouse.exists(f"delivered.{sync}")


def columns(warehouse: Warehouse, sync: str) -> dict[str, str]:
    """Name to SQL type of the confirmed rows; empty when nothing was ever confirmed."""
    if not exists(warehouse, sync):
        return {}
    return {row["column_name"]: row["column_type"] for row in warehouse.rows(f"describe {table(sync)}")}


def recast(field: Field, has: dict[str, str]) -> str:
    """SQL for the field of a confirmed row in the type it has now; null when it was never delivered or does not fit."""
    kind = has.get(field.name)
    if kind is None:
        return f"cast(null as {field.type})"
    return quoted(field.name) if kind == field.type else f"try_cast({quoted(field.name)} as {field.type})"


def prepare(warehouse: Warehouse, sync: str, fields: FieldMap) -> None:
    """Make both tables fit the mapping as it is now; call inside a transaction.

    A field that is new starts as null (so its values are sent), one that left the mapping is dropped, one of another
    type is converted where it can be. Nothing is written when the tables fit already.
    """
    meta = {
        table(sync): {
            "_headwater_key": "VARCHAR",
            "_headwater_version": "BIGINT",
            "_headwater_confirmed_at": "TIMESTAMP",
        },
        pending(sync): {"_headwater_operation_id": "VARCHAR"},
    }
    for name, fixed in meta.items():
        wanted = {**fixed, **{field.name: field.type for field in fields.fields}}
        listed = ", ".join(f"{quoted(column)} {kind}" for column, kind in wanted.items())
        if not warehouse.exists(name.replace('"', "")):
            warehouse.execute(f"create table {name} ({listed})")
            continue
        has = {row["column_name"]: row["column_type"] for row in warehouse.rows(f"describe {name}")}
        if has == wanted:
            continue
        values = ", ".join([*fixed, *(f"{recast(field, has)} as {quoted(field.name)}" for field in fields.fields)])
        warehouse.execute(f"create or replace table {name} as select {values} from {name}")


def confirm(warehouse: Warehouse, sync: str, confirmed: str, clock: Clock) -> None:
    """Write what the destination has confirmed; call inside the transaction that marks the operations done.

    `confirmed` is a relation with `operation_id, key, version, operation`. Each operation's pending row takes the
    place of the key's confirmed row; a delete only removes it.
    """
    done, following = table(sync), pending(sync)
    names = [
        quoted(row["column_name"])
        for row in warehouse.rows(f"describe {following}")
        if row["column_name"] != "_headwater_operation_id"
    ]
    listed = "".join(f", n.{name}" for name in names)
    warehouse.execute(f"delete from {done} where _headwater_key in (select key from {confirmed})")
    warehouse.execute(
        f"insert into {done} (_headwater_key, _headwater_version, _headwater_confirmed_at{''.join(', ' + name for name in names)}) "
        f"select c.key, c.version, ?{listed} from {confirmed} c join {following} n on n._headwater_operation_id = c.operation_id",
        [naive_utc(clock.now())],
    )
    warehouse.execute(
        f"delete from {following} where _headwater_operation_id in (select operation_id from {confirmed})"
    )
