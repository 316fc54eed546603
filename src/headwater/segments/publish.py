"""`customer_segments`: what dbt reads of the segments. One row per segmented customer.

Up to `segments.ml.seed_limit` customers it is the dbt seed `seeds/customer_segments.csv` (customer_id, segment_id,
segment_name; sorted by customer_id, line ends LF), good for git; above, the table `headwater.customer_segments` of the same
columns. Exactly one of the two has rows. The file is replaced by a rename: a reader sees the old one or the new one.
"""

import os
from dataclasses import dataclass
from pathlib import Path

from headwater.warehouse.connection import Warehouse

HEADER = "customer_id,segment_id,segment_name"
TABLE = "headwater.customer_segments"


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
    everybody = f"select customer_id, segment_id, segment_name from {target}"
    if rows > seed_limit:  # the new place first: in between, readers see the old segments or the new ones, never none
        changed = _write_table(warehouse, everybody)
        changed |= _write_file(warehouse, f"{everybody} limit 0", seed)
        return Published(TABLE, rows, changed)
    changed = _write_file(warehouse, everybody, seed)
    changed |= _write_table(warehouse, f"{everybody} limit 0")
    return Published(str(seed), rows, changed)


def _write_table(warehouse: Warehouse, query: str) -> bool:
    """Replace the rows of the table when they would change; whether they did."""
    now = f"select customer_id, segment_id, segment_name from {TABLE}"
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
    quoted = str(aside).replace("'", "''")
    warehouse.execute(
        f"copy (select * from ({query}) order by customer_id) to '{quoted}' (format csv, header, delimiter ',')"
    )
    if seed.is_file() and seed.read_bytes() == aside.read_bytes():
        aside.unlink()
        return False
    with aside.open("rb") as file:
        os.fsync(file.fileno())
    aside.replace(seed)
    return True
