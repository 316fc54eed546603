"""Which tables of operational databases land here, and with which columns: `landed.<source>__<table>` and its versions.

    <source>__<table>             one row per row of the source as it is now: its columns, and
        _at        when it last changed, by the source's clock
        _lsn       the source's position of that change; what is not above it is older and ignored
        _snapshot  the last snapshot that saw the row
    <source>__<table>__versions   one row per row of the source and moment at which it changed: its columns then, and
        _valid_from  the moment, unique within a key
        _seq         the position (`lsn`); of two changes of one moment the later counts
        _op          r (as a snapshot found it), c, u, d, t
        _deleted     true for the version that says that the row is gone; its columns but the key are null

Models may read all of these but `_lsn` and `_snapshot`, which move without anything having changed.

A table is made from what the settings declare, from what its source tells (a record of kind schema), or else from its first row.
When the source tells of other columns: a new one is null in older rows; one whose type has grown is converted; one that is gone
or has become something else is put aside under another name, so that a model that uses it stops with its last good rows
instead of going on with nulls. `headwater.landed_columns` notes each of these.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from headwater.live.deltas import quoted
from headwater.records.changed import landed_table, sql_type, versions_table, wider
from headwater.warehouse import Warehouse

HELD = {"_at": "TIMESTAMP", "_lsn": "BIGINT", "_snapshot": "VARCHAR"}
VERSION = {"_valid_from": "TIMESTAMP", "_seq": "BIGINT", "_op": "VARCHAR", "_deleted": "BOOLEAN"}


@dataclass(frozen=True)
class Column:
    """A column of the source: its name there, its name and type here."""

    name: str
    landed: str
    kind: str
    is_key: bool = False


@dataclass(frozen=True)
class Shape:
    """One table. `told`: the source itself has said its columns. `floor`: changes up to there were emptied by a TRUNCATE."""

    source: str
    table: str
    columns: tuple[Column, ...]
    told: bool = False
    floor: int | None = None

    @property
    def relation(self) -> str:
        return landed_table(self.source, self.table)

    @property
    def versions(self) -> str:
        return versions_table(self.source, self.table)

    @property
    def key(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if column.is_key)

    @property
    def data(self) -> tuple[Column, ...]:
        return tuple(column for column in self.columns if not column.is_key)


Declared = Mapping[tuple[str, str], Mapping[str, str]]
"""By (source, table), what the settings say of its columns: name to type, as Postgres or the warehouse writes it."""


@dataclass
class Shapes:
    """All tables that are known, by (source, table). One engine's; read it anew when the file was open elsewhere.

    A type that is declared holds, whatever the source tells.
    """

    warehouse: Warehouse
    declared: Declared = field(default_factory=dict)
    known: dict[tuple[str, str], Shape] = field(default_factory=dict)
    altered: bool = False
    """A table was made or its columns changed since somebody set this to False."""

    def read(self) -> None:
        """What the ledgers say."""
        self.known = {}
        columns: dict[str, list[Column]] = {}
        for relation, name, landed, kind, is_key in self.warehouse.execute(
            "select relation, column_name, landed_as, sql_type, is_key from headwater.landed_columns"
            " where landed_as is not null order by relation, place"
        ).fetchall():
            columns.setdefault(relation, []).append(Column(name, landed, kind, bool(is_key)))
        for relation, source, table, floor, told_at in self.warehouse.execute(
            "select relation, source, table_name, floor_lsn, told_at from headwater.landed_tables"
        ).fetchall():
            self.known[source, table] = Shape(
                source, table, tuple(columns.get(relation, ())), told_at is not None, floor
            )

    def make_declared(self, at: datetime) -> None:
        """Make the tables that the settings declare and that are not there, so that models build before their first row."""
        self.read()
        for (source, table), columns in self.declared.items():
            if columns and (source, table) not in self.known:
                with self.warehouse.transaction():
                    self._make(
                        source, table, [Column(name, name, sql_type(kind)) for name, kind in columns.items()], at
                    )

    def fits(self, source: str, told: Mapping[str, Any]) -> bool:
        """Whether a record of kind schema tells nothing new."""
        shape = self.known.get((source, str(told.get("table"))))
        return (
            shape is not None
            and shape.told
            and self._wanted(source, told) == {c.name: (c.kind, c.is_key) for c in shape.columns}
        )

    def tell(self, source: str, told: Mapping[str, Any], at: datetime) -> list[str]:
        """Follow a record of kind schema, in the caller's transaction; what was done to columns that were there, as sentences."""
        table, wanted = str(told["table"]), self._wanted(source, told)
        shape = self.known.get((source, table))
        w = self.warehouse
        if shape is None:
            self._make(
                source, table, [Column(name, name, kind, key) for name, (kind, key) in wanted.items()], at, told=True
            )
            return []
        said: list[str] = []
        held = {column.name: column for column in shape.columns}
        for name, column in held.items():
            if name not in wanted:
                said.append(self._aside(shape, column, "the source has it no more", at))
            elif column.kind != wanted[name][0]:
                kind = wanted[name][0]
                if wider(column.kind, kind):
                    self.altered = True
                    for relation in (shape.relation, shape.versions):
                        w.execute(f"alter table {relation} alter {quoted(column.landed)} set data type {kind}")
                    self._note(shape, name, f"was {column.kind}, is {kind}: converted", at, sql_type=kind)
                else:
                    said.append(self._aside(shape, column, f"it was {column.kind} and is {kind} now", at))
                    self._add(shape, name, kind, at, f"{name}__{kind.split('(')[0].lower()}", "has another type now")
        for name, (kind, _) in wanted.items():
            if name not in held:
                self._add(shape, name, kind, at, name, "new: null in older rows" if shape.told else "")
        for name, (_, is_key) in wanted.items():
            w.execute(
                "update headwater.landed_columns set is_key = ? where relation = ? and column_name = ? and landed_as is not null",
                [is_key, shape.relation, name],
            )
        w.execute("update headwater.landed_tables set told_at = ? where relation = ?", [at, shape.relation])
        self.read()
        return said

    def infer(self, source: str, table: str, key: Mapping[str, Any], row: Mapping[str, Any], at: datetime) -> bool:
        """Make or widen a table of which nobody has told the columns, from one of its rows; whether anything was done."""
        shape = self.known.get((source, table))
        values = {**row, **key}
        if shape is None:
            columns = [Column(name, name, _kind_of(value), name in key) for name, value in values.items()]
            self._make(source, table, columns, at)
            return True
        missing = [name for name in values if name not in {column.name for column in shape.columns}]
        keys = [name for name in key if not shape.key]
        if not missing and not keys:
            return False
        for name in missing:
            self._add(shape, name, _kind_of(values[name]), at, name, "new: null in older rows")
        for name in keys:
            self.warehouse.execute(
                "update headwater.landed_columns set is_key = true where relation = ? and column_name = ?",
                [shape.relation, name],
            )
        self.read()
        return True

    def raise_floor(self, shape: Shape, lsn: int) -> None:
        """Everything up to `lsn` was emptied."""
        self.warehouse.execute(
            "update headwater.landed_tables set floor_lsn = ? where relation = ?", [lsn, shape.relation]
        )
        self.read()

    # ------------------------------------------------------------------ steps

    def _wanted(self, source: str, told: Mapping[str, Any]) -> dict[str, tuple[str, bool]]:
        """Column to (type here, whether it is part of the key)."""
        declared = self.declared.get((source, str(told.get("table"))), {})
        return {
            name: (sql_type(declared.get(name, str(column["type"]))), bool(column.get("key")))
            for column in told.get("columns") or ()
            for name in [str(column["name"])]
        }

    def _make(self, source: str, table: str, columns: Sequence[Column], at: datetime, *, told: bool = False) -> None:
        self.altered = True
        relation, versions = landed_table(source, table), versions_table(source, table)
        own = [f"{quoted(column.landed)} {column.kind}" for column in columns]
        for name, further in ((relation, HELD), (versions, VERSION)):
            listed = ", ".join([*own, *(f"{column} {kind}" for column, kind in further.items())])
            self.warehouse.execute(f"create table if not exists {name} ({listed})")
        self.warehouse.execute(
            "insert into headwater.landed_tables values (?, ?, ?, null, ?)",
            [relation, source, table, at if told else None],
        )
        for place, column in enumerate(columns):
            self.warehouse.execute(
                "insert into headwater.landed_columns values (?, ?, ?, ?, ?, ?, null, ?)",
                [relation, column.name, column.landed, column.kind, column.is_key, place, at],
            )
        self.read()

    def _add(self, shape: Shape, name: str, kind: str, at: datetime, landed: str, note: str) -> None:
        self.altered, w = True, self.warehouse
        for relation in (shape.relation, shape.versions):
            w.execute(f"alter table {relation} add column if not exists {quoted(landed)} {kind}")
        w.execute(
            "insert into headwater.landed_columns select ?, ?, ?, ?, false,"
            " (select coalesce(max(place), 0) + 1 from headwater.landed_columns where relation = ?), ?, ?",
            [shape.relation, name, landed, kind, shape.relation, note or None, at],
        )

    def _aside(self, shape: Shape, column: Column, because: str, at: datetime) -> str:
        """Keep what a column held under a name that no model knows."""
        self.altered, w = True, self.warehouse
        number = w.value("select count(*) from headwater.landed_columns where relation = ?", [shape.relation])
        kept = f"_was_{column.landed}_{number}"
        for relation in (shape.relation, shape.versions):
            w.execute(f"alter table {relation} rename column {quoted(column.landed)} to {quoted(kept)}")
        sentence = f"column {column.landed} of {shape.relation}: {because}; what it held is in {kept}, and models that used it have stopped"
        self._note(shape, column.name, sentence, at)
        w.execute(
            "update headwater.landed_columns set landed_as = null where relation = ? and column_name = ? and landed_as = ?",
            [shape.relation, column.name, column.landed],
        )
        return sentence

    def _note(self, shape: Shape, name: str, note: str, at: datetime, *, sql_type: str | None = None) -> None:
        self.warehouse.execute(
            "update headwater.landed_columns set note = ?, changed_at = ?, sql_type = coalesce(?, sql_type)"
            " where relation = ? and column_name = ? and landed_as is not null",
            [note, at, sql_type, shape.relation, name],
        )


def _kind_of(value: Any) -> str:
    """The type of a column of which one value is known. bool is an int to Python, so it comes first."""
    if isinstance(value, bool):
        return "BOOLEAN"
    if isinstance(value, int):
        return "BIGINT"
    if isinstance(value, float):
        return "DOUBLE"
    return "JSON" if isinstance(value, (dict, list)) else "VARCHAR"
