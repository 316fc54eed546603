"""`customer_segments`: what dbt reads of the segments. One row per segmented customer.

Up to `segments.ml.seed_limit` customers it is the dbt seed `seeds/customer_segments.csv` (customer_id, segment_id,
segment_name; sorted by customer_id, line ends LF), good for git; above, the table `headwater.customer_segments` of the same
columns. Exactly one of the two has rows. The file is replaced by a rename: a reader sees the old one or the new one.

The stage publishes everybody (`publish_segments`). While memberships are followed live the published relation is kept in
step in the transaction that moves them (`keep_step`), the file when somebody may read it: before dbt loads it, and when the
warehouse is given away (`keep_file`). Segments that somebody else made, a notebook for example, are never written over by
the latter two: rows that are neither a membership of ours, now or once, nor one that was stated otherwise later, are somebody
else's.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from headwater.failpoint import failpoint
from headwater.segments import memberships
from headwater.segments.registry import KMEANS
from headwater.warehouse.connection import Warehouse

HEADER = "customer_id,segment_id,segment_name"
TABLE = "headwater.customer_segments"
SEED_FILE = "seeds/customer_segments.csv"
SEED_TABLE = "main.customer_segments"
"""What dbt makes of the file."""
_COLUMNS = "customer_id, segment_id, segment_name"
_MEMBERS = memberships.members_sql(KMEANS)


@dataclass(frozen=True)
class Published:
    """Where the rows are now: a path or a table's name, and how many."""

    place: str
    rows: int
    changed: bool


def publish_segments(warehouse: Warehouse, target: str, seed: Path, seed_limit: int) -> Published:
    """Publish the relation `target` (customer_id, segment_id, segment_name) as the file `seed`, or as the table when it
    has more than `seed_limit` rows. Publishing the same again changes neither."""
    rows = int(warehouse.value(f"select count(*) from {target}") or 0)
    everybody = f"select {_COLUMNS} from {target}"
    if rows > seed_limit:  # the new place first: in between, readers see the old segments or the new ones, never none
        changed = _write_table(warehouse, everybody)
        changed |= _write_file(warehouse, f"{everybody} limit 0", seed)
        return Published(TABLE, rows, changed)
    changed = _write_file(warehouse, everybody, seed)
    changed |= _write_table(warehouse, f"{everybody} limit 0")
    return Published(str(seed), rows, changed)


def place(warehouse: Warehouse, seed_limit: int) -> str | None:
    """The relation that memberships are published in now; None when that holds segments of somebody else's, or is not there.

    Where nothing is published yet, what memberships there are now decide."""
    if warehouse.value(f"select exists (select 1 from {TABLE})"):
        return TABLE
    if not warehouse.exists(SEED_TABLE) or _strange(warehouse, f"select {_COLUMNS} from {SEED_TABLE}"):
        return None
    if warehouse.value(f"select exists (select 1 from {SEED_TABLE})"):
        return SEED_TABLE
    return TABLE if int(warehouse.value(f"select count(*) from ({_MEMBERS})")) > seed_limit else SEED_TABLE


def keep_step(warehouse: Warehouse, published: str, touched: str | None = None) -> bool:
    """Make the relation `published` hold the memberships as they are; in the caller's transaction. Whether it has changed.

    `touched`: a relation of those customers (customer_id) who can differ; everybody when left out.
    """
    who = f" where customer_id in (select customer_id from {touched})" if touched else ""
    now, wanted = f"select {_COLUMNS} from {published}{who}", f"select * from ({_MEMBERS}){who}"
    warehouse.execute(
        f"create or replace temp table segment_unpublished as select distinct customer_id from"
        f" ((({now}) except all ({wanted})) union all (({wanted}) except all ({now})))"
    )
    if not warehouse.value("select exists (select 1 from segment_unpublished)"):
        return False
    differing = "customer_id in (select customer_id from segment_unpublished)"
    warehouse.execute(f"delete from {published} where {differing}")
    warehouse.execute(
        f"insert into {published} ({_COLUMNS}) select * from ({_MEMBERS}) where {differing} order by customer_id"
    )
    return True


def keep_file(warehouse: Warehouse, seed: Path) -> bool:
    """Write the file anew when memberships have moved since; whether it is ours to keep.

    A file is left as it is when the table has its place, and when somebody else wrote it."""
    if not seed.is_file() or warehouse.value(f"select exists (select 1 from {TABLE})"):
        return False
    read = f"read_csv({_text(seed)}, header = true, all_varchar = true)"
    columns = [row[0] for row in warehouse.execute(f"describe select * from {read}").fetchall()]
    if columns != HEADER.split(","):
        return False
    if _strange(
        warehouse, f"select customer_id, try_cast(segment_id as bigint) as segment_id, segment_name from {read}"
    ):
        return False
    if warehouse.value("select exists (select 1 from headwater.segment_assignments)"):
        _write_file(warehouse, _MEMBERS, seed)
    return True


def _strange(warehouse: Warehouse, rows: str) -> bool:
    """Whether some of these rows were at no time a membership of ours."""
    ours = f"select {_COLUMNS} from {memberships.TABLE} union all select {_COLUMNS} from {memberships.WITHDRAWN}"
    return bool(warehouse.value(f"select exists (select 1 from (({rows}) except ({ours})))"))


def _write_table(warehouse: Warehouse, query: str) -> bool:
    """Replace the rows of the table when they would change; whether they did."""
    now = f"select {_COLUMNS} from {TABLE}"
    if not warehouse.value(
        f"select count(*) from ((({now}) except all ({query})) union all (({query}) except all ({now})))"
    ):
        return False
    with warehouse.transaction():
        warehouse.execute(f"delete from {TABLE}")
        warehouse.execute(f"insert into {TABLE} select * from ({query}) order by customer_id")
    return True


def _write_file(warehouse: Warehouse, query: str, seed: Path) -> bool:
    """Replace the file when its bytes would change; whether it did."""
    seed.parent.mkdir(parents=True, exist_ok=True)
    aside = seed.with_name(f".{seed.name}.part")
    warehouse.execute(
        f"copy (select * from ({query}) order by customer_id) to {_text(aside)} (format csv, header, delimiter ',')"
    )
    if seed.is_file() and seed.read_bytes() == aside.read_bytes():
        aside.unlink()
        return False
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    failpoint("segment.file_written")
    aside.replace(seed)
    return True


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"
