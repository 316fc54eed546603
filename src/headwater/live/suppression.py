"""Ids that must never come back: `headwater.suppressed_ids` holds an HMAC of each, never the id itself.

The key lies beside the warehouse in `suppression.key` (32 random bytes in hexadecimal, readable by the owner only) and is
made when the first person is forgotten. Whoever loses it loses the protection, so its absence is an error and not a default.

    suppress      onto the list; `lift` takes off again whoever was put there with an id
    take_out      changes of database rows, before they land
    sweep         the rows that a batch has just landed; the engine calls it between landing and `persons.follow`
    sweep_files   rows of the shop's own files; belongs after every load of files
"""

import os
import secrets
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from headwater.errors import ConfigError
from headwater.identity import keys
from headwater.warehouse.connection import Warehouse

KEY_FILE = "suppression.key"


@dataclass(frozen=True)
class Swept:
    """Rows that were taken out of `collected.*` again, and the log offsets (topic events) that they came from."""

    events: int = 0
    identifies: int = 0
    aliases: int = 0
    offsets: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        """Of all three tables."""
        return self.events + self.identifies + self.aliases


def suppress(warehouse: Warehouse, ids: Iterable[tuple[str, str]], at: datetime, receipt_id: str) -> int:
    """Add (kind, id) pairs, in the caller's transaction; those that are there already stay as they are."""
    with _pads(_key(warehouse, make=True), warehouse):
        return sum(
            int(
                warehouse.value(
                    f"insert into headwater.suppressed_ids select $kind, hash, $at, $receipt from (select {_hash('$kind', '$id')} as hash) "
                    "where not exists (select 1 from headwater.suppressed_ids where id_kind = $kind and id_hash = hash)",
                    {"kind": kind, "id": name, "at": at, "receipt": receipt_id},
                )
            )
            for kind, name in sorted(set(ids))
        )


def receipts_of(warehouse: Warehouse, ids: Iterable[tuple[str, str]]) -> list[str]:
    """Receipts of the deletions that have put any of these (kind, id) pairs on the list; none when none is on it."""
    if not anybody(warehouse):
        return []
    with _pads(_key(warehouse), warehouse):
        found = {
            row[0]
            for kind, name in sorted(set(ids))
            for row in warehouse.execute(
                f"select receipt_id from headwater.suppressed_ids where id_kind = $kind and id_hash = {_hash('$kind', '$id')}",
                {"kind": kind, "id": name},
            ).fetchall()
        }
    return sorted(found)


def lift(warehouse: Warehouse, receipts: Sequence[str], at: datetime) -> int:
    """Take off the list every id that these deletions have put there, in the caller's transaction; how many they were.

    The receipts say so from then on. What was dropped meanwhile stays dropped, but for the shop's own files: each of them is
    read anew by the next `seed`, whether or not it has changed.
    """
    listed = {"receipts": list(receipts)}
    gone = int(
        warehouse.value("delete from headwater.suppressed_ids where list_contains($receipts, receipt_id)", listed)
    )
    warehouse.execute(
        "insert into headwater.deletion_receipts (receipt_id, requested_at, place, removed_rows, message, ended_at) "
        "select receipt_id, $at, 'suppression lifted', 0, 'what arrives of these ids is taken again', $at "
        "from (select unnest($receipts) as receipt_id)",
        listed | {"at": at},
    )
    for table in ("file_rejects", "file_loads"):
        warehouse.execute(f"update headwater.{table} set load_id = 'before-a-lift-' || load_id")
    return gone


def sweep(warehouse: Warehouse, after: int) -> Swept:
    """Take the rows of suppressed people, with a position above `after`, out of `collected.*` again. In the caller's transaction.

    A row goes when its customer is suppressed, or when it names no customer and its anonymous id or e-mail address is.
    One look-up when nobody was ever forgotten. The log still holds what was swept: `offsets` are for `Log.remove`.
    """
    if not warehouse.value("select count(*) from (select 1 from headwater.suppressed_ids limit 1)"):
        return Swept()
    offsets: set[int] = set()
    rows: dict[str, int] = {}
    with _pads(_key(warehouse), warehouse):
        for table, columns in (
            ("events", (("user", "customer_id"), ("anonymous", "anonymous_id"))),
            (
                "identifies",
                (("user", "customer_id"), ("email", keys.email_sql("email")), ("anonymous", "anonymous_id")),
            ),
            ("aliases", (("user", "customer_id"), ("user", "previous_id"), ("anonymous", "previous_id"))),
        ):
            named = "customer_id is null and " if table != "aliases" else ""
            conditions = [
                f"({'' if column == 'customer_id' else named}{_is_suppressed(kind, column, f'collected.{table} where position > $after')})"
                for kind, column in columns
            ]
            gone = warehouse.execute(
                f"delete from collected.{table} where position > $after and ({' or '.join(conditions)}) returning position",
                {"after": after},
            ).fetchall()
            rows[table] = len(gone)
            offsets.update(row[0] for row in gone)
    return Swept(**rows, offsets=tuple(sorted(offsets)))


def take_out(warehouse: Warehouse, table: str, column: str, position: str) -> list[int]:
    """Delete the rows of a temporary table whose user id in `column` is suppressed; their values of `position`."""
    with _pads(_key(warehouse), warehouse):
        text = f"cast({column} as varchar)"
        listed = f"select id from (select distinct {text} as id from {table} where {column} is not null)"
        hashed = f"{_hash(repr('user'), 'id')} in (select id_hash from headwater.suppressed_ids where id_kind = 'user')"
        rows = warehouse.execute(
            f"delete from {table} where {text} in ({listed} where {hashed}) returning {position}"
        ).fetchall()
    return [int(row[0]) for row in rows]


def anybody(warehouse: Warehouse) -> bool:
    """Whether anybody was ever forgotten here."""
    return bool(warehouse.value("select count(*) from (select 1 from headwater.suppressed_ids limit 1)"))


def sweep_files(warehouse: Warehouse) -> int:
    """Take the rows of suppressed people out of the raw tables, wherever a staging model traces them to a line of a file.

    The files themselves are the shop's own: a later load reads the person again and this takes the rows out again, before
    any model is built. The answer is how many rows went.
    """
    if not warehouse.value("select count(*) from (select 1 from headwater.suppressed_ids limit 1)"):
        return 0
    people: list[str] = []
    with _pads(_key(warehouse), warehouse):
        for view in _checked(warehouse, "customer_id"):
            rows = warehouse.execute(
                f"select distinct customer_id from main.{view} where {_is_suppressed('user', 'customer_id', f'main.{view}')}"
            ).fetchall()
            people += [row[0] for row in rows]
        visitors = [
            row[0]
            for view in _checked(warehouse, "anonymous_id")
            for row in warehouse.execute(
                f"select distinct anonymous_id from main.{view} where customer_id is null "
                f"and {_is_suppressed('anonymous', 'anonymous_id', f'main.{view}')}"
            ).fetchall()
        ]
    return sum(remove_file_rows(warehouse, people, visitors).values())


def remove_file_rows(warehouse: Warehouse, customers: Sequence[str], visitors: Sequence[str]) -> dict[str, int]:
    """Delete from `raw.*` the lines that staging traces to these customers: their own rows, the lines of their orders, the
    addresses that nobody else uses, and what unknown visitors with these anonymous ids did. Raw table to how many rows went."""
    lines = "select _table, _file, _line from main.{} where {}"
    parts: list[str] = []
    parameters = {"customers": list(customers), "visitors": list(visitors)}
    for view in _checked(warehouse, "customer_id"):
        parts.append(lines.format(view, "list_contains($customers, customer_id)"))
    for view in _checked(warehouse, "anonymous_id"):
        parts.append(lines.format(view, "customer_id is null and list_contains($visitors, anonymous_id)"))
    if warehouse.exists("main.stg_orders__checked"):
        orders = "select order_id from main.stg_orders__checked where list_contains($customers, customer_id)"
        parts += [
            lines.format(view, f"order_id in ({orders})")
            for view in _checked(warehouse, "order_id")
            if view != "stg_orders__checked"
        ]
    if warehouse.exists("main.stg_customers__checked") and warehouse.exists("main.stg_addresses__checked"):
        at = "unnest([shipping_address_id, billing_address_id])"
        own = f"select {at} from main.stg_customers__checked where list_contains($customers, customer_id)"
        others = f"select {at} from main.stg_customers__checked where not list_contains($customers, customer_id)"
        parts.append(
            lines.format(
                "stg_addresses__checked",
                f"address_id in ({own}) and address_id not in (select * from ({others}) as used (address_id) where address_id is not null)",
            )
        )
    if not parts or not (customers or visitors):
        return {}
    found = " union ".join(parts)
    used = {name: value for name, value in parameters.items() if f"${name}" in found}
    warehouse.execute(f"create or replace temp table forgotten_lines as {found}", used)
    tables = [row[0] for row in warehouse.execute("select distinct _table from forgotten_lines").fetchall()]
    gone = {
        f"raw.{table}": int(
            warehouse.value(
                f'delete from raw."{table}" as held using forgotten_lines as gone where gone._table = $table '
                "and held._file = gone._file and held._line = gone._line",
                {"table": table},
            )
        )
        for table in tables
    }
    warehouse.execute("drop table forgotten_lines")
    return gone


def _checked(warehouse: Warehouse, column: str) -> list[str]:
    rows = warehouse.execute(
        "select table_name from information_schema.columns where table_schema = 'main' and table_name like 'stg\\_%\\_\\_checked' escape '\\' "
        "and column_name = ? order by table_name",
        [column],
    ).fetchall()
    return [row[0] for row in rows]


def _is_suppressed(kind: str, column: str, rows: str) -> str:
    """SQL, true or false: whether the id is on the list. Each different id of `rows` is hashed once."""
    more = "and" if " where " in rows else "where"
    return (
        f"coalesce({column} in (select id from (select distinct {column} as id from {rows} {more} {column} is not null) "
        f"where {_hash(repr(kind), 'id')} in (select id_hash from headwater.suppressed_ids where id_kind = '{kind}')), false)"
    )


def _hash(kind: str, name: str) -> str:
    """SQL of HMAC-SHA256 over kind and id, with the pads of `_pads`."""
    inner = f"unhex(sha256(getvariable('suppression_inner') || encode({kind} || ':' || {name})))"
    return f"sha256(getvariable('suppression_outer') || {inner})"


@contextmanager
def _pads(key: bytes, warehouse: Warehouse) -> Iterator[None]:
    """The padded keys of HMAC as session variables, so that the key stands in no statement that could be logged."""
    block = key.ljust(64, b"\0")
    pads = {"inner": bytes(byte ^ 0x36 for byte in block), "outer": bytes(byte ^ 0x5C for byte in block)}
    for name, pad in pads.items():
        warehouse.execute(f"set variable suppression_{name} = unhex('{pad.hex()}')")
    try:
        yield
    finally:
        for name in pads:
            warehouse.execute(f"reset variable suppression_{name}")


def _key(warehouse: Warehouse, *, make: bool = False) -> bytes:
    path: Path = warehouse.path.parent / KEY_FILE
    if path.exists():
        return bytes.fromhex(path.read_text(encoding="ascii").strip())
    if not make or warehouse.value("select count(*) from headwater.suppressed_ids"):
        raise ConfigError(
            f"{path} is not there, but people were forgotten in this project: without that key their ids cannot be recognised, and "
            "they would come back. Put the file back from your copy of the folder"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".new")
    with os.fdopen(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="ascii") as out:
        out.write(secrets.token_hex(32) + "\n")
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)
    return bytes.fromhex(path.read_text(encoding="ascii").strip())
