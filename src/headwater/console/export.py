"""`bi/`: every mart as CSV and as Parquet, for the tools that people already have.

A mart is a relation of schema `main` whose name says so: it begins with one of `PREFIXES` or is one of `DATA_PRODUCTS`.
A file is written under a temporary name and renamed, so a reader finds the whole old file or the whole new one. The same
tables give the same files: rows are ordered by the first column where that identifies a row, else by all columns.
Memory does not grow with the tables: DuckDB sorts and writes them itself.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from headwater.errors import StageFailed
from headwater.warehouse.connection import Warehouse

PREFIXES = ("dim_", "fct_", "mart_", "user_")
DATA_PRODUCTS = ("enriched_customers", "products_with_pk", "product_sales", "thirty_day_customer_snapshot")

OnProgress = Callable[[str, int, int], None]
"""Called before each relation and once at the end: relation ('' at the end), how many are done, how many there are."""


@dataclass(frozen=True)
class ExportedFile:
    """One mart as written. Both files hold the same `row_count` rows in the same order."""

    relation: str
    row_count: int
    csv: Path
    parquet: Path


@dataclass(frozen=True)
class Exported:
    """What was written; `warnings`: one sentence for each thing that somebody should look at."""

    folder: Path
    files: tuple[ExportedFile, ...]
    warnings: tuple[str, ...] = ()

    @property
    def row_count(self) -> int:
        return sum(file.row_count for file in self.files)


def marts(warehouse: Warehouse) -> list[str]:
    """The names of all marts there are, in the order of the alphabet."""
    rows = warehouse.rows(
        "select table_name as name from information_schema.tables where table_schema = 'main' order by table_name"
    )
    return [row["name"] for row in rows if is_mart(row["name"])]


def is_mart(name: str) -> bool:
    """Whether a relation of this name is for people outside."""
    return name.startswith(PREFIXES) or name in DATA_PRODUCTS


def export(warehouse: Warehouse, folder: Path, *, on_progress: OnProgress | None = None) -> Exported:
    """Write every mart to `folder` as `<mart>.csv` (UTF-8, header, comma) and `<mart>.parquet`.

    Nothing in the warehouse changes. A file that an earlier export left for a mart that is gone stays, and is named in
    `warnings`: it may be somebody's. Raises StageFailed when a mart cannot be read or written; the files written so far are whole and the rest is as before.
    """
    tell = on_progress or (lambda *_: None)
    folder.mkdir(parents=True, exist_ok=True)
    names = marts(warehouse)
    written = []
    for done, name in enumerate(names):
        tell(name, done, len(names))
        written.append(_write(warehouse, name, folder))
    tell("", len(names), len(names))
    warnings = [
        f"{path.name} is from an earlier export: there is no mart of that name now; delete the file if nobody reads it"
        for path in sorted(folder.iterdir())
        if path.suffix in (".csv", ".parquet") and is_mart(path.stem) and path.stem not in names
    ]
    if not names:
        warnings.append("there are no marts to export yet: run `headwater build` first")
    return Exported(folder, tuple(written), tuple(warnings))


def _write(warehouse: Warehouse, name: str, folder: Path) -> ExportedFile:
    csv, parquet = folder / f"{name}.csv", folder / f"{name}.parquet"
    new_csv, new_parquet = (path.with_name(f".{path.name}.{os.getpid()}.unfinished") for path in (csv, parquet))
    try:
        rows = warehouse.value(
            f"copy (select * from main.{_identifier(name)} order by {_order(warehouse, name)}) "
            f"to {_literal(new_parquet)} (format parquet, compression zstd)"
        )
        # the text file is made of the other one: a view that changes meanwhile cannot make them differ
        warehouse.execute(
            f"copy (select * from read_parquet({_literal(new_parquet)})) to {_literal(new_csv)} (format csv, header true)"
        )
        new_parquet.replace(parquet)
        new_csv.replace(csv)
    except Exception as error:
        raise StageFailed(
            f"the mart {name} cannot be written to {folder} ({str(error).splitlines()[0]}); its files are as before."
            " Mend what the sentence says, or build the models again: `headwater build`"
        ) from error
    finally:
        new_parquet.unlink(missing_ok=True)
        new_csv.unlink(missing_ok=True)
    return ExportedFile(name, int(rows or 0), csv, parquet)


def _order(warehouse: Warehouse, name: str) -> str:
    """What makes the order of rows certain; sorting by one column is several times faster than by all."""
    first = warehouse.value(
        "select column_name from information_schema.columns where table_schema = 'main' and table_name = ? order by ordinal_position",
        [name],
    )
    column = _identifier(first)
    unique = warehouse.value(f"select count(distinct {column}) = count(*) from main.{_identifier(name)}")
    return column if unique else "all"


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _literal(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
