"""`delivered.<sync>`: one row per key that a destination has confirmed, typed, as the destination holds it.

    _headwater_key            the normalised key
    _headwater_version        version of the operation that was confirmed last
    _headwater_confirmed_at   when
    one column per mapped field, in the type it has in the model

`delivered.<sync>__next` holds, per open operation, the row as it will be once the operation is confirmed, and whether that is
exactly what is sent (`_headwater_plain`; it is not where a null leaves the destination's value alone); `confirm` moves it over. Both are ours alone: a user who empties them makes the next plan send everything again.
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
        pending(sync): {"_headwater_operation_id": "VARCHAR", "_headwater_plain": "BOOLEAN"},
    }
    for name, fixed in meta.items():
        wanted = {**fixed, **{field.name: field.type for field in fields.fields}}
        packed = " using compression uncompressed" if name == pending(sync) else ""  # they stay for a short while
        listed = ", ".join(
            f"{quoted(column)} {kind}{packed if kind == 'VARCHAR' else ''}" for column, kind in wanted.items()
        )
        if not warehouse.exists(name.replace('"', "")):
            warehouse.execute(f"create table {name} ({listed})")
            continue
        has = {row["column_name"]: row["column_type"] for row in warehouse.rows(f"describe {name}")}
        if has == wanted:
            continue
        ours = [column if column in has else f"cast(null as {kind}) as {column}" for column, kind in fixed.items()]
        values = ", ".join([*ours, *(f"{recast(field, has)} as {quoted(field.name)}" for field in fields.fields)])
        warehouse.execute(f"create or replace table {name} as select {values} from {name}")


def fields(warehouse: Warehouse, sync: str) -> dict[str, str]:
    """The mapped fields of the sync's pending rows: name to SQL type."""
    described = warehouse.rows(f"describe {pending(sync)}")
    found = {row["column_name"]: row["column_type"] for row in described}
    return {name: kind for name, kind in found.items() if not name.startswith("_headwater_")}


def confirm(warehouse: Warehouse, sync: str, confirmed: str, clock: Clock) -> None:
    """Write what the destination has confirmed; call inside the transaction that marks the operations done.

    `confirmed` is a relation with `operation_id, key, version, operation`. Each operation's pending row takes the
    place of the key's confirmed row; a delete only removes it.
    """
    done, following = table(sync), pending(sync)
    names = [quoted(name) for name in fields(warehouse, sync)]
    listed = "".join(f", n.{name}" for name in names)
    warehouse.execute(f"delete from {done} where _headwater_key in (select key from {confirmed})")
    warehouse.execute(
        f"insert into {done} (_headwater_key, _headwater_version, _headwater_confirmed_at{''.join(', ' + name for name in names)}) "
        f"select c.key, c.version, timestamp '{naive_utc(clock.now())}'{listed} from {confirmed} c "
        f"join {following} n on n._headwater_operation_id = c.operation_id"
    )
    warehouse.execute(
        f"delete from {following} where _headwater_operation_id in (select operation_id from {confirmed})"
    )


def confirm_set(warehouse: Warehouse, sync: str, confirmed: str, clock: Clock, *, removal: bool) -> None:
    """As `confirm`, of a relation with all fields (`_headwater_operation_id`, `_key`, `_version` and the mapped ones).

    Of removals it holds no fields, and the pending rows are looked up: a sync that only removes keeps what it removed.
    """
    if removal:
        columns = ", ".join(f"_headwater_{name} as {name}" for name in ("operation_id", "key", "version", "operation"))
        confirm(warehouse, sync, f"(select {columns} from {confirmed})", clock)
        return
    done = table(sync)
    names = "".join(f", {quoted(name)}" for name in fields(warehouse, sync))
    warehouse.execute(f"delete from {done} where _headwater_key in (select _headwater_key from {confirmed})")
    warehouse.execute(
        f"insert into {done} (_headwater_key, _headwater_version, _headwater_confirmed_at{names}) "
        f"select _headwater_key, _headwater_version, timestamp '{naive_utc(clock.now())}'{names} from {confirmed}"
    )
    warehouse.execute(
        f"delete from {pending(sync)} where _headwater_operation_id in (select _headwater_operation_id from {confirmed})"
    )
