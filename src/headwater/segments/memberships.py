"""Who was in which segment, and when: `headwater.segment_assignments`, one row per customer and period (SCD2).

A period ends, and another begins, when the segment, its name, the version of the model or its stability changes. Periods are
half-open: `valid_from <= t < valid_to`. `put` states where customers are from a moment on; stating the same again changes
nothing, and stating something else for the same moment replaces what was stated for it, as if the first had never been (but
for a note of whom it put where in `headwater.segments_withdrawn`: it may have been published).
Beyond that nothing that was written is ever changed.

Who calls it: hysteresis.py, with what it has chosen for each customer. `reason` of a period:

    entered   the customer was in no segment before
    moved     another cluster of the same version has taken him
    version   another version of the model has (a promotion, a rollback)
    verdict   the same version is judged otherwise, or its segments have other names
"""

from dataclasses import dataclass
from datetime import datetime

from headwater.warehouse.connection import Warehouse

TABLE = "headwater.segment_assignments"
WITHDRAWN = "headwater.segments_withdrawn"
DIFFERING = "segment_differing"
"""The temporary table that `put` leaves: one row for each customer whose periods it has changed."""

COLUMNS = (
    "customer_id",
    "segment_id",
    "segment_name",
    "raw_segment_id",
    "margin",
    "model",
    "version",
    "stability",
    "valid_from",
    "valid_to",
    "reason",
    "entered_version",
    "left_version",
)
_SAME = ("segment_id", "segment_name", "version", "stability")


@dataclass(frozen=True)
class Written:
    """`opened` periods, customers who `left` for no other segment, and how many customers were `touched` at all."""

    opened: int = 0
    left: int = 0
    touched: int = 0


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


def members_sql(model: str) -> str:
    """A query of (customer_id, segment_id, segment_name) as it is now."""
    return f"select customer_id, segment_id, segment_name from {TABLE} where model = '{model}' and valid_to is null"


def put(warehouse: Warehouse, stated: str, model: str, *, table: str = TABLE) -> Written:
    """Make the open periods of some customers what the relation `stated` says, in the caller's transaction.

    `stated`: one row per customer of (customer_id, moment, change, segment_id, segment_name, raw_segment_id, margin, version,
    stability); segment_id null = in no segment from `moment` on. `change` is noted as the version that began or ended a period.
    Customers who are not in it stay as they are.
    """
    other = " or ".join(f"held.{name} is distinct from stated.{name}" for name in _SAME)
    touched = _count(
        warehouse,
        f"create or replace temp table {DIFFERING} as select stated.* from {stated} as stated left join {table} as held"
        f" on held.customer_id = stated.customer_id and held.model = '{model}' and held.valid_to is null"
        f" where case when stated.segment_id is null then held.customer_id is not null else held.customer_id is null or {other} end",
    )
    if not touched:
        return Written()
    own = f"held.model = '{model}' and held.customer_id = stated.customer_id"
    if table == TABLE:
        withdraw(warehouse, f"{TABLE} as held, {DIFFERING} as stated where {own} and held.valid_from >= stated.moment")
    warehouse.execute(
        f"delete from {table} as held using {DIFFERING} as stated where {own} and held.valid_from >= stated.moment"
    )
    warehouse.execute(
        f"update {table} as held set valid_to = null, left_version = null from {DIFFERING} as stated"
        f" where {own} and held.valid_to >= stated.moment"
    )
    warehouse.execute(
        f"update {table} as held set valid_to = stated.moment, left_version = stated.change from {DIFFERING} as stated"
        f" where {own} and held.valid_to is null and (stated.segment_id is null or {other})"
    )
    opened = _count(
        warehouse,
        f"""
        insert into {table} ({", ".join(COLUMNS)})
        select stated.customer_id, stated.segment_id, stated.segment_name, stated.raw_segment_id, stated.margin, '{model}',
            stated.version, stated.stability, stated.moment, null,
            case when held.customer_id is null then 'entered' when held.version <> stated.version then 'version'
                when held.segment_id <> stated.segment_id then 'moved' else 'verdict' end,
            stated.change, null
        from {DIFFERING} as stated left join {table} as held on {own} and held.valid_to = stated.moment
        where stated.segment_id is not null
            and not exists (select 1 from {table} as held where {own} and held.valid_to is null)
        """,
    )
    left = int(warehouse.value(f"select count(*) from {DIFFERING} where segment_id is null"))
    return Written(opened, left, touched)


def withdraw(warehouse: Warehouse, replaced: str) -> None:
    """Note periods that are about to be deleted, in the caller's transaction: they may have been published, and are ours.

    `replaced`: what follows `from` in a query of `held`, the rows of `TABLE`.
    """
    rows = "select distinct held.customer_id, held.segment_id, held.segment_name"
    warehouse.execute(f"insert into {WITHDRAWN} ({rows} from {replaced}) except select * from {WITHDRAWN}")


def _count(warehouse: Warehouse, sql: str) -> int:
    """Run a statement; how many rows it wrote."""
    row = warehouse.execute(sql).fetchone()
    return int(row[0]) if row else 0
