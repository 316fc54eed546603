"""The warehouse file: when it has grown far beyond what it holds it is written anew; snapshots are published for readers.

DuckDB never gives freed blocks back to the disk. A copy beside it, swapped in by one rename, is the only way; a kill leaves
the old file or the new one. While the engine has the file open nobody else can read it: readers get a whole copy in
`warehouse/published/`, of the same name because views name the database, which is called after its file.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from headwater.failpoint import failpoint
from headwater.warehouse import Warehouse
from headwater.warehouse.rewrite import rewrite

FREE_SHARE = 0.4
"""A file is written anew when more than this share of its blocks is free."""
SMALLEST = 64 << 20
"""Bytes of a file below which it is never worth it."""
PUBLISHED = "published"


@dataclass(frozen=True)
class Size:
    """What a warehouse file takes, in bytes: in all, and of it free."""

    total: int
    free: int

    @property
    def worth_rewriting(self) -> bool:
        return self.total >= SMALLEST and self.free > FREE_SHARE * self.total


def size(warehouse: Warehouse) -> Size:
    """Of the blocks, without the journal."""
    row = warehouse.execute(
        "select block_size * total_blocks, block_size * free_blocks from pragma_database_size()"
    ).fetchone()
    return Size(int(row[0]), int(row[1])) if row else Size(0, 0)


def compact(warehouse: Warehouse) -> int:
    """Write the file anew and swap it in; its new size. The warehouse is closed meanwhile: only at a batch boundary."""
    failpoint("live.compacting")
    done = rewrite(warehouse)
    failpoint("live.compacted")
    return done


def publish(warehouse: Warehouse) -> Path:
    """Copy all that is committed into `published/<name>` beside the warehouse, swapped in by a rename; the copy's path.

    Readers that have the old copy open keep reading it. Takes about as long as writing the file.
    """
    folder = warehouse.path.parent / PUBLISHED
    aside = folder / ".next"
    aside.mkdir(parents=True, exist_ok=True)
    for left in aside.iterdir():
        left.unlink()
    copy, place = aside / warehouse.path.name, folder / warehouse.path.name
    name = '"' + warehouse.path.stem.replace('"', '""') + '"'
    warehouse.execute("attach '" + str(copy).replace("'", "''") + "' as headwater_published")
    try:
        warehouse.execute(f"copy from database {name} to headwater_published")
    finally:
        warehouse.execute("detach headwater_published")
    with copy.open("rb") as written:
        os.fsync(written.fileno())
    failpoint("live.published")
    copy.replace(place)
    aside.rmdir()
    return place
