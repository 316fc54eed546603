"""What becomes of a masked column of a database, and the test at the start that refuses to begin when a mask leaks.

drop        the column is never read: it is not in Debezium's list
constant    Debezium replaces the value; what arrives as anything else stops us
hash        HMAC-SHA256 of the normalised value, made here; equal values stay equal, so joins work
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from headwater.collect import column_masks, mask
from headwater.collect.column_masks import CONSTANT
from headwater.collect.databases.postgres import Table
from headwater.collect.databases.settings import DatabaseSettings
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError, StageFailed
from headwater.records.logged import Entry

TEXTS = frozenset({"varchar", "bpchar", "text"})
"""Types that Debezium itself can mask; a constant of another type is made here."""


class MaskBroken(StageFailed):
    """A masked value arrived, or would leave, as it is: nothing of it was stored, and nothing goes on."""


class Masks:
    """The masks of one database: table -> column -> kind."""

    def __init__(self, settings: DatabaseSettings, key: bytes | None, version: int = 1) -> None:
        self.by_table: Mapping[str, Mapping[str, str]] = {
            name: dict(table.masked) for name, table in settings.tables.items() if table.masked
        }
        self._name = settings.name
        self.hashed = mask.Mask({}, key, version).hash
        """The hash of a value that is not null; null for texts that stand for nobody, whose hash would make one of all."""

    def __bool__(self) -> bool:
        return bool(self.by_table)

    def of(self, table: str) -> Mapping[str, str]:
        """The masks of a table, by column."""
        return self.by_table.get(table, {})

    def check(self, tables: Mapping[str, Table]) -> None:
        """Raise ConfigError, with every problem, when a masked column is not there, or is a key that a mask would make one of."""
        problems = []
        for name, columns in self.by_table.items():
            table = tables.get(name)
            if table is None:
                continue  # nothing can come from it
            known = {column.name for column in table.columns}
            for column, kind in columns.items():
                if column not in known:
                    problems.append(
                        f"{name} has no column {column!r}, which is to be masked; it has {', '.join(sorted(known))}. Was it renamed?"
                    )
                elif column in table.key and kind != "hash":
                    problems.append(
                        f"{name}.{column} is part of the primary key; mask it with `hash`, which keeps keys apart"
                    )
        if problems:
            raise ConfigError(f"database {self._name}: its masks cannot hold. " + "; ".join(problems))


def load(collect: CollectSettings, database: DatabaseSettings) -> Masks:
    """The masks of a database. Raises ConfigError when something is to be hashed and there is no key."""
    hashed = column_masks.hashed((table, given.mask) for table, given in database.tables.items())
    key = mask.key_for(hashed, collect, f"database {database.name}", os.environ)
    return Masks(database, key, collect.mask_key_version)


def prove(masks: Masks, tables: Mapping[str, Table], say: Callable[[Sequence[dict[str, Any]]], Iterable[Entry]]) -> int:
    """Send planted values of every masked column through `say`, which makes entries of what Debezium would say, and look for
    them in all that comes out; how many columns were tried. Raises MaskBroken, naming the column.

    Each is tried in every kind of change, in both images of a row, in a row that is refused, and in the key.
    """
    tried = 0
    for name, columns in masks.by_table.items():
        table = tables.get(name)
        if table is None:
            continue
        for column, kind in columns.items():
            planted = column_masks.planted(tried)
            tried += 1
            arrives = CONSTANT if kind == "constant" else planted
            row: dict[str, Any] = {one.name: _plain(one.base) for one in table.columns}
            row |= dict.fromkeys((other for other, what in columns.items() if what == "constant"), CONSTANT)
            row[column] = arrives
            row = {other: value for other, value in row.items() if columns.get(other) != "drop"}
            source = {"table": name, "lsn": 1, "ts_us": 0, "txId": 1}
            said = [
                {"op": op, "before": before, "after": after, "source": source}
                for op, before, after in (
                    ("r", None, row), ("c", None, row), ("u", row, row), ("d", row, None), ("z", row, {**row, column: planted}),
                )
            ]  # fmt: skip
            entries = list(say(said))
            if len(entries) < len(said):
                raise MaskBroken(
                    f"the test of the masks lost a change of {name}.{column}; this must not be, nothing was started"
                )
            for entry in entries:
                if column_masks.carries((entry.payload, entry.key.encode(), entry.message_id.encode()), planted):
                    raise MaskBroken(
                        f"the mask of {name}.{column} ({kind}) lets a planted value through; nothing was started"
                    )
    return tried


def _plain(base: str) -> Any:
    """Some value of a type."""
    if base in ("int2", "int4", "int8", "oid"):
        return 1
    if base in ("date", "timestamp", "timestamptz"):
        return "2000-01-01T00:00:00Z" if base != "date" else "2000-01-01Z"
    return {"bool": True, "numeric": "1", "time": "00:00:00Z", "float4": 1.0, "float8": 1.0}.get(base, "x")
