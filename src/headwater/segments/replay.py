"""Whether memberships are what the recorded scores give: derived again on a copy, and compared.

Two questions, because changes older than the newest baseline (`headwater.segment_baselines`) are not kept:

    the same changes once more   periods since the baseline, change by change, against the table, every column
    the rule once more           everybody's open period against his score as it stands: it would be kept, and says what the
                                 segment model says of its cluster

A customer whose change is not followed yet is late, not wrong. While scores are still to be recomputed the second question
waits. Who calls it: `headwater verify`, and `headwater up` now and then, which also mends.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.segments import hysteresis, memberships
from headwater.segments.hysteresis import MODEL, RELATION
from headwater.segments.memberships import COLUMNS, TABLE
from headwater.segments.registry import KMEANS
from headwater.warehouse.connection import Warehouse

CAP = 20
"""So many differing rows are named; all are counted."""
_AGAIN, _CONCERNED, _WRONG, _BESIDE = "segment_again", "segment_concerned", "segment_wrong", "segment_beside"
_ALL = ", ".join(COLUMNS)


@dataclass(frozen=True)
class Replayed:
    """`rows` periods were looked at, `wrong` of them are not what they should be; `changes` were applied again, those since
    `since`. `late` customers have a change that is not followed yet. `differences`: (customer, live | missing, row); live
    stands in the table and should not. `skipped`: why nothing was compared."""

    rows: int = 0
    changes: int = 0
    since: datetime | None = None
    wrong: int = 0
    late: int = 0
    differences: tuple[tuple[str, str, dict[str, Any]], ...] = ()
    skipped: str | None = None


def check(warehouse: Warehouse) -> Replayed:
    """Derive memberships again and compare; nothing is changed. Not inside a transaction."""
    after = hysteresis.cursor(warehouse)
    baseline = _baseline(warehouse)
    if after is None or baseline is None:
        return Replayed(skipped="nobody was ever assigned: `headwater segment assign`, or `headwater up`")
    with warehouse.rehearsal():
        return _checked(warehouse, after, *baseline)


def mend(warehouse: Warehouse) -> int:
    """Put derived periods in the place of those that differ; of how many customers. What the rule alone finds is mended by
    `hysteresis.settle`, which appends."""
    after = hysteresis.cursor(warehouse)
    baseline = _baseline(warehouse)
    if after is None or baseline is None:
        return 0
    with warehouse.transaction():
        version, _, inertia = baseline
        _derive(warehouse, after, version, inertia)
        warehouse.execute(f"create or replace temp table {_WRONG} as select distinct customer_id from ({_differing()})")
        who = f"customer_id in (select customer_id from {_WRONG})"
        memberships.withdraw(warehouse, f"{TABLE} as held where held.model = '{KMEANS}' and held.{who}")
        warehouse.execute(f"delete from {TABLE} where model = '{KMEANS}' and {who}")
        warehouse.execute(f"insert into {TABLE} ({_ALL}) select {_ALL} from {_AGAIN} where {who}")
        return int(warehouse.value(f"select count(*) from {_WRONG}"))


def _baseline(warehouse: Warehouse) -> tuple[int, datetime | None, float] | None:
    """Version, moment and hysteresis of the newest."""
    row = warehouse.execute(
        "select version, as_of, hysteresis from headwater.segment_baselines order by noted_at desc limit 1"
    ).fetchone()
    return None if row is None else (int(row[0]), row[1], float(row[2]))


def _derive(warehouse: Warehouse, after: int, version: int, inertia: float) -> None:
    """`_AGAIN`: all periods of whoever was touched since the baseline, as they should be."""
    warehouse.execute(
        f"""
        create or replace temp table {_CONCERNED} as
        select key as customer_id from headwater.model_changes where model = '{MODEL}' and version > {version} and version <= {after}
        union select customer_id from {TABLE} where model = '{KMEANS}' and (entered_version > {version} or left_version > {version})
        """
    )
    warehouse.execute(
        f"create or replace temp table {_AGAIN} as select {_ALL} from {TABLE} where model = '{KMEANS}'"
        f" and customer_id in (select customer_id from {_CONCERNED}) and coalesce(entered_version, 0) <= {version}"
    )
    warehouse.execute(f"update {_AGAIN} set valid_to = null, left_version = null where left_version > {version}")
    hysteresis.fold(warehouse, version, after, inertia, _AGAIN)


def _differing() -> str:
    """Rows of the table that should not be there, and rows that should."""
    held = (
        f"select {_ALL} from {TABLE} where model = '{KMEANS}' and customer_id in (select customer_id from {_CONCERNED})"
    )
    again = f"select {_ALL} from {_AGAIN}"
    return (
        f"select 'live' as found, * from (({held}) except all ({again}))"
        f" union all select 'missing', * from (({again}) except all ({held}))"
    )


def _checked(warehouse: Warehouse, after: int, version: int, since: datetime | None, inertia: float) -> Replayed:
    _derive(warehouse, after, version, inertia)
    warehouse.execute(f"create or replace temp table {_WRONG} as {_differing()}")
    late = int(
        warehouse.value(
            f"select count(distinct key) from headwater.model_changes where model = '{MODEL}' and version > {after}"
        )
    )
    if hysteresis.ready(warehouse) and not hysteresis.owed(warehouse):
        _by_the_rule(warehouse, after, inertia)
    changes = int(
        warehouse.value(
            f"select count(*) from headwater.model_changes where model = '{MODEL}' and version > {version} and version <= {after}"
        )
    )
    rows = int(warehouse.value(f"select count(*) from {TABLE} where model = '{KMEANS}'"))
    wrong = int(warehouse.value(f"select count(*) from {_WRONG}"))
    named = warehouse.rows(f"select * from {_WRONG} order by customer_id, found, valid_from limit {CAP}")
    differences = tuple((str(row["customer_id"]), str(row.pop("found")), row) for row in named)
    return Replayed(rows, changes, since, wrong, late, differences)


def _by_the_rule(warehouse: Warehouse, after: int, inertia: float) -> None:
    """Add to what is wrong: the open period that the score as it stands would end, and the one that it would begin."""
    everybody = hysteresis.everybody_sql(RELATION, "timestamp '9999-12-31'", after)
    followed = f"select key from headwater.model_changes where model = '{MODEL}' and version > {after}"
    warehouse.execute(
        f"create or replace temp table segment_steps as select * from ({everybody}) where customer_id not in ({followed})"
    )
    warehouse.execute(
        f"create or replace temp table segment_stated as"
        f" select stated.* replace (coalesce(centroids.segment_id, stated.segment_id) as segment_id,"
        f" coalesce(centroids.segment_name, stated.segment_name) as segment_name)"
        f" from ({hysteresis.chosen_sql('segment_steps', inertia)}) as stated left join headwater.segment_centroids as centroids"
        " on centroids.version = stated.version and centroids.raw_segment_id = stated.raw_segment_id"
    )
    period = ("segment_id", "segment_name", "raw_segment_id", "version", "stability")
    other = " or ".join(f"held.{name} is distinct from stated.{name}" for name in period)
    warehouse.execute(
        f"""
        create or replace temp table {_BESIDE} as
        select stated.customer_id, held.customer_id is not null as is_held, {", ".join(f"stated.{name}" for name in period)}
        from segment_stated as stated left join (select * from {TABLE} where model = '{KMEANS}' and valid_to is null) as held
            on held.customer_id = stated.customer_id
        where stated.customer_id not in (select customer_id from {_WRONG}) and ({other})
        """
    )
    warehouse.execute(
        f"insert into {_WRONG} by name select 'live' as found, held.* from {TABLE} as held"
        f" where model = '{KMEANS}' and valid_to is null and customer_id in (select customer_id from {_BESIDE} where is_held)"
    )
    warehouse.execute(
        f"insert into {_WRONG} by name select 'missing' as found, '{KMEANS}' as model, * exclude (is_held)"
        f" from {_BESIDE} where segment_id is not null"
    )
