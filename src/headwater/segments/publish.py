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
    has more than `seed_limit` rows. Publishing the same again leaves the file untouched."""
    rows = int(warehouse.value(f"select count(*) from {target}") or 0)
    as_table = rows > seed_limit
    aside = seed.with_name(f".{seed.name}.{os.getpid()}")
    seed.parent.mkdir(parents=True, exist_ok=True)
    limit = "limit 0" if as_table else ""
    quoted = str(aside).replace("'", "''")
    warehouse.execute(
        f"copy (select customer_id, segment_id, segment_name from {target} order by customer_id {limit}) to '{quoted}' (format csv, header, delimiter ',')"
    )
    changed = not (seed.is_file() and seed.read_bytes() == aside.read_bytes())
    if changed:
        with aside.open("rb") as file:
            os.fsync(file.fileno())
        aside.replace(seed)
    else:
        aside.unlink()
    with warehouse.transaction():
        warehouse.execute(f"delete from {TABLE}")
        if as_table:
            warehouse.execute(
                f"insert into {TABLE} select customer_id, segment_id, segment_name from {target} order by customer_id"
            )
    return Published(TABLE if as_table else str(seed), rows, changed or as_table)
