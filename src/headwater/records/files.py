"""What is known of a user's file before and after it is loaded.

`warehouse.files.profile` makes the profiles, `collect.recognise` reads them: everything that recognition may know about
the data stands here, so that it needs no data itself. `warehouse.files.load` takes a `FileSource` and answers a `FileLoad`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Seen = Literal["empty", "integer", "decimal", "boolean", "date", "timestamp", "text"]
Mask = Literal["hash", "constant", "drop"]
MASKS: tuple[Mask, ...] = ("hash", "constant", "drop")


@dataclass(frozen=True)
class ColumnProfile:
    """One column of a file. Shares are of the rows looked at, between 0 and 1; counts are of rows unless they say else.

    `kind` is what the values look like, `sql_type` how the raw table holds them (always VARCHAR for CSV). `distinct` counts
    different non-null values among the rows looked at.
    Up to one value in ten may not fit `kind`; `misfits` counts them. `formats` are the strptime patterns that
    read the values, best first; two of them mean that day and month cannot be told apart. `null_words` are texts such as NA that stand for nothing and make up at most half of a column of another kind.
    `values` are all different values of a text with few of them, each with its rows, most frequent first.
    """

    name: str
    sql_type: str
    kind: Seen
    null_share: float
    distinct: int
    unique: bool
    samples: tuple[str, ...] = ()
    minimum: str | None = None
    maximum: str | None = None
    misfits: int = 0
    negative_share: float = 0.0
    formats: tuple[str, ...] = ()
    null_words: tuple[str, ...] = ()
    email_share: float = 0.0
    leading_zero: bool = False
    decimal_comma: bool = False
    trailing_point_zero: bool = False
    two_valued: bool = False
    values: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True)
class Dependency:
    """How far `column` decides `other`: of `groups` different values of `column`, `mixed` come with several values of `other`."""

    column: str
    other: str
    groups: int
    mixed: int

    @property
    def holds(self) -> bool:
        return self.mixed == 0


@dataclass(frozen=True)
class Reference:
    """Of the different values of `column`, the share that is found in `other_column` of the raw table `other_table`."""

    column: str
    other_table: str
    other_column: str
    share: float


@dataclass(frozen=True)
class FileProfile:
    """One file of the folder. `problem` is a sentence when it cannot be read; then there are no columns.

    `table` is the raw table that the file will fill. `unique_pairs` are pairs of columns that are a key only together.
    `sums` are the sums of number columns where a column has a value: (column, value) to number column to sum, for columns with `values`.
    `whole_row_duplicates` counts rows that equal an earlier row in every column. `sampled`: only the first `row_count` rows were
    looked at.
    """

    file: str
    table: str
    format: Literal["csv", "parquet", "other"]
    row_count: int = 0
    size_bytes: int = 0
    encoding: str = "utf-8"
    delimiter: str = ","
    columns: tuple[ColumnProfile, ...] = ()
    dependencies: tuple[Dependency, ...] = ()
    unique_pairs: tuple[tuple[str, str], ...] = ()
    references: tuple[Reference, ...] = ()
    sums: Mapping[tuple[str, str], Mapping[str, float]] = field(default_factory=dict)
    whole_row_duplicates: int = 0
    sampled: bool = False
    problem: str | None = None
    warnings: tuple[str, ...] = ()

    def column(self, name: str) -> ColumnProfile:
        """The column of that name, spelled exactly. Raises KeyError."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    def decides(self, column: str, other: str) -> bool | None:
        """Whether one value of `column` always comes with one value of `other`; None where it was not looked at."""
        for dependency in self.dependencies:
            if (dependency.column, dependency.other) == (column, other):
                return dependency.holds
        return None


@dataclass(frozen=True)
class FileSource:
    """A file to load into a raw table.

    `file` is the name by which rows, rejects and messages call it. `mask` maps a column to hash, constant or drop.
    `columns` are those that the mapping uses: one that the file lacks is added as nulls and warned of. `needed` are those of
    them without which no row could be read rightly: that the file lacks one is an error.
    """

    path: Path
    file: str
    mask: Mapping[str, Mask] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    delimiter: str | None = None
    encoding: str | None = None
    needed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FileLoad:
    """What became of one file. `read_rows == loaded_rows + rejected_rows`, always.

    outcome  loaded     the raw table holds the file's rows
             unchanged  it already did: same bytes, same masks
             empty      there is no row in the file; the raw table is there, without rows
             missing    there is no such file; the raw table keeps what it held before (or is made, empty)
             failed     the file cannot be read at all; the raw table keeps what it held before (or is made, empty)
    `repaired_rows` counts rows whose text had to be read as latin-1. `warnings` are sentences for the screen.
    """

    file: str
    raw_table: str
    outcome: Literal["loaded", "unchanged", "empty", "missing", "failed"]
    read_rows: int = 0
    loaded_rows: int = 0
    rejected_rows: int = 0
    repaired_rows: int = 0
    encoding: str = "utf-8"
    warnings: tuple[str, ...] = ()
