"""Who was in which segment, and when: `headwater.segment_assignments`, one row per customer and period (SCD2).

A period ends, and another begins, when the segment, its name, the version of the model or its stability changes. Periods are
half-open: `valid_from <= t < valid_to`. `write` states who is where from a moment on; stating the same again changes nothing,
and stating something else for the same moment replaces what was stated for it, as if the first had never been.
"""

from dataclasses import dataclass
from datetime import datetime

from headwater.warehouse.connection import Warehouse

_SAME = "segment_id, segment_name, model, version, stability"


@dataclass(frozen=True)
class Written:
    """`opened` and `closed` periods; `moved` customers who changed from one segment to another."""

    moment: datetime
    opened: int
    closed: int
    moved: int


def moment_for(warehouse: Warehouse, model: str, as_of: datetime) -> datetime:
    """`as_of`, or the newest moment in the table when that is later: history is never written behind itself."""
    newest = warehouse.value(
        "select max(greatest(valid_from, coalesce(valid_to, valid_from))) from headwater.segment_assignments where model = ?",
        [model],
    )
    return max(as_of, newest) if newest else as_of


def before_sql(model: str, moment: datetime) -> str:
    """A query of (customer_id, segment_id, segment_name, version) as it stood just before `moment` (naive UTC)."""
    return f"""
    select customer_id, segment_id, segment_name, version from headwater.segment_assignments
    where model = '{model}' and valid_from < timestamp '{moment}' and coalesce(valid_to, timestamp '{moment}') >= timestamp '{moment}'
    """


def write(warehouse: Warehouse, target: str, model: str, moment: datetime) -> Written:
    """Make the open periods equal to the relation `target` from `moment` on, in one transaction.

    `target` has the columns of the table up to `stability`, one row per customer; whoever is not in it leaves.
    """
    at = f"timestamp '{moment}'"
    now = (
        f"(select customer_id, {_SAME} from headwater.segment_assignments where model = '{model}' and valid_to is null)"
    )
    wanted = f"(select customer_id, {_SAME} from {target})"
    differ = warehouse.value(
        f"select count(*) from ((from {now} except from {wanted}) union all (from {wanted} except from {now}))"
    )
    moved = warehouse.value(
        f"select count(*) from {target} as new join ({before_sql(model, moment)}) as old on old.customer_id = new.customer_id where old.segment_id <> new.segment_id"
    )
    if differ:
        with warehouse.transaction():
            warehouse.execute(
                f"delete from headwater.segment_assignments where model = '{model}' and valid_from >= {at}"
            )
            warehouse.execute(
                f"update headwater.segment_assignments set valid_to = null where model = '{model}' and valid_to >= {at}"
            )
            warehouse.execute(
                f"update headwater.segment_assignments as held set valid_to = {at} where model = '{model}' and valid_to is null and not exists "
                f"(select 1 from {target} as new where new.customer_id = held.customer_id and new.segment_id = held.segment_id "
                "and new.segment_name = held.segment_name and new.version = held.version and new.stability = held.stability)"
            )
            warehouse.execute(
                f"insert into headwater.segment_assignments (customer_id, segment_id, segment_name, raw_segment_id, margin, model, version, stability, valid_from, valid_to) "
                f"select customer_id, segment_id, segment_name, raw_segment_id, margin, model, version, stability, {at}, null from {target} as new where not exists "
                f"(select 1 from headwater.segment_assignments as held where held.model = '{model}' and held.valid_to is null and held.customer_id = new.customer_id)"
            )
    counts = warehouse.execute(
        f"select count(*) filter (where valid_from = {at}), count(*) filter (where valid_to = {at}) from headwater.segment_assignments where model = '{model}'"
    ).fetchone() or (0, 0)
    return Written(moment, int(counts[0]), int(counts[1]), int(moved or 0))
