"""The warehouse file written anew, so that nothing of what was deleted stays in it.

DuckDB frees the blocks of deleted rows and does not overwrite them: after a delete, a commit and a CHECKPOINT the bytes of
the rows are still in the file. Copying the database into a new file takes along only what is there.
"""

import os
from pathlib import Path

import duckdb

from headwater.errors import Busy, DataError
from headwater.warehouse.connection import Warehouse


def rewrite(warehouse: Warehouse) -> int:
    """Close the warehouse, copy it into a new file of the same name, swap the two; the answer is the new size in bytes.

    Needs the file's size again on the disk while it runs. A kill leaves either the old file or the new one, whole; the
    unfinished copy is removed by the next run. The warehouse opens again by itself. Raises Busy when somebody else in this
    process still has it open, DataError when there is no room; the file is then as it was.
    """
    path = warehouse.path
    if warehouse.connection.execute("select count(*) from duckdb_databases() where path is not null").fetchone() == (
        0,
    ):
        return 0  # in memory: nothing is on a disk
    warehouse.execute("checkpoint")
    warehouse.close()
    if path.with_name(f"{path.name}.wal").exists():  # it would be played into the copy
        raise Busy(f"the warehouse {path} is still open in this process: close every cursor on it, then run this again")
    aside = path.parent / ".rewrite"
    aside.mkdir(exist_ok=True)
    for left in aside.iterdir():
        left.unlink()
    copy = aside / path.name  # views name the database, which is called after its file
    try:
        with duckdb.connect(":memory:") as connection:
            connection.execute(f"attach {_text(path)} as headwater_old (read_only)")
            connection.execute(f"attach {_text(copy)} as {_name(path.stem)}")
            connection.execute(f"copy from database headwater_old to {_name(path.stem)}")
            connection.execute(f"checkpoint {_name(path.stem)}")
    except duckdb.Error as error:
        for left in aside.iterdir():
            left.unlink()
        raise DataError(
            f"the warehouse {path} could not be copied: {error}. It is as it was; make room ({path.stat().st_size:,} bytes) and run again"
        ) from error
    with copy.open("rb") as written:
        os.fsync(written.fileno())
    copy.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    aside.rmdir()
    return path.stat().st_size


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
