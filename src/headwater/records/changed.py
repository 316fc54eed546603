"""Changes of database rows, as the topic `changes` of the log holds them; and the names of the tables in which they land.

A record's `source` is the database's name in `headwater.yml`, its payload one JSON object of one of three kinds:

    {"kind": "change", "table": "customers", "op": "u", "key": {"customerid": 1}, "row": {"customerid": 1, "email": "…"},
     "lsn": 23849, "at": "2026-03-01T10:00:00.123456Z", "snapshot": "s1", "unavailable": ["notes"]}
    {"kind": "schema", "table": "customers", "lsn": 23840, "at": "…",
     "columns": [{"name": "customerid", "type": "integer", "nullable": false, "key": true}, …]}
    {"kind": "snapshot", "state": "started", "id": "s1", "tables": ["customers"], "lsn": 23840, "at": "…"}

`op` is r (read by a snapshot), c, u, d or t (the table was truncated). `key` holds the primary key, `row` every column (null for
d and t); `lsn` orders the changes of one key, `at` is the moment of the commit, of a snapshot's row the moment of the
snapshot. `snapshot` is there for rows of one, `unavailable` names columns whose value did not change and was not sent. A changed
key is a d of the old one and a c of the new. Values are masked already; decimals are texts, moments ISO texts, null is null.
"""

import re
from typing import Literal

Kind = Literal["change", "schema", "snapshot"]
Op = Literal["r", "c", "u", "d", "t"]

SCHEMA = "landed"

_TYPES: dict[str, str] = {
    "smallint": "SMALLINT", "int2": "SMALLINT", "smallserial": "SMALLINT",
    "integer": "INTEGER", "int": "INTEGER", "int4": "INTEGER", "serial": "INTEGER",
    "bigint": "BIGINT", "int8": "BIGINT", "bigserial": "BIGINT", "oid": "BIGINT",
    "real": "FLOAT", "float4": "FLOAT", "float": "DOUBLE", "double": "DOUBLE", "double precision": "DOUBLE", "float8": "DOUBLE",
    "boolean": "BOOLEAN", "bool": "BOOLEAN",
    "timestamp": "TIMESTAMP", "timestamp without time zone": "TIMESTAMP", "timestamptz": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMP", "datetime": "TIMESTAMP",
    "date": "DATE", "time": "TIME", "time without time zone": "TIME",
    "json": "JSON", "jsonb": "JSON",
}  # fmt: skip
_SHAPE = re.compile(r"^\s*([a-z0-9_ ]+?)\s*(?:\(\s*(\d+)\s*(?:,\s*(\d+)\s*)?\))?\s*(with(?:out)? time zone)?\s*$")


def landed_table(source: str, table: str) -> str:
    """Where the rows of a table stand as they are now: `landed.retail__customers`."""
    return f"{SCHEMA}.{_plain(source)}__{_plain(table)}"


def versions_table(source: str, table: str) -> str:
    """Where every version of them stands: `landed.retail__customers__versions`."""
    return f"{landed_table(source, table)}__versions"


def sql_type(postgres: str) -> str:
    """The warehouse's type for a type as Postgres writes it, or as `columns` declares it; text for what has no better one.

    A numeric without precision is DECIMAL(38,9); a value that does not fit its type is refused, never rounded away.
    """
    found = _SHAPE.match(postgres.lower())
    if found is None:
        return "JSON" if postgres.endswith("[]") else "VARCHAR"
    name, precision, scale, zone = found.groups()
    if name in ("numeric", "decimal"):
        if precision is None:
            return "DECIMAL(38,9)"
        return f"DECIMAL({min(int(precision), 38)},{int(scale or 0)})"
    return _TYPES.get(f"{name} {zone}" if zone else name, "VARCHAR")


def wider(held: str, told: str) -> bool:
    """Whether every value of the type `held` is a value of the type `told` and means the same there (a text sorts otherwise)."""
    if told == held:
        return True
    integers = ("SMALLINT", "INTEGER", "BIGINT")
    if held in integers:
        digits = {"SMALLINT": 5, "INTEGER": 10, "BIGINT": 19}[held]
        if told in integers:
            return integers.index(held) <= integers.index(told)
        return (whole := _decimal(told)) is not None and whole[0] - whole[1] >= digits
    before, after = _decimal(held), _decimal(told)
    if before and after:
        return after[1] >= before[1] and after[0] - after[1] >= before[0] - before[1]
    return (held, told) in {("FLOAT", "DOUBLE"), ("DATE", "TIMESTAMP")}


def _decimal(kind: str) -> tuple[int, int] | None:
    found = re.fullmatch(r"DECIMAL\((\d+),(\d+)\)", kind)
    return (int(found[1]), int(found[2])) if found else None


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9_]", "_", name.lower())
