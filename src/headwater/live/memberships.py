"""Who was in which rule segment, and when: `headwater.segment_memberships`, one row per customer and period.

The live model says who is where now; `headwater.model_changes` says what each batch changed. `follow` turns the changes
since its cursor into entries and exits, in a transaction of its own, after the engine has committed. A period begins and
ends at the moment of the data (`as_of`) of the batch; it is half-open: `entered_at <= t < left_at`.

Running it again changes nothing, and following ten batches at once leaves the same rows as following them one by one. What
changed the model without the engine (a batch build) stands in no change: `reconcile` compares the open periods with the
model itself, and belongs after every such command and at the start. The first `follow` of a project is a `reconcile`.

Segments by model keep their history in `headwater.segment_assignments`, with hysteresis (`headwater.segments`).
"""

from dataclasses import dataclass
from datetime import datetime

from headwater.warehouse.connection import Warehouse

MODEL = "mart_marketing__segment_scores"
CONSUMER = "segment_memberships"


@dataclass(frozen=True)
class Moved:
    """`entered` and `left` periods, and the version up to which all is followed."""

    entered: int = 0
    left: int = 0
    version: int = 0


def follow(warehouse: Warehouse, now: datetime, *, model: str = MODEL, relation: str | None = None) -> Moved:
    """Bring the memberships to the newest change. `now` (naive UTC) is noted beside the cursor.

    `relation` is the model's table, `main.<model>` when left out. Costs one look-up when there is nothing new.
    """
    row = warehouse.execute(
        "select version, (select max(version) from headwater.model_changes where model = $model) from headwater.change_cursors "
        "where consumer = $consumer",
        {"model": model, "consumer": CONSUMER},
    ).fetchone()
    if row is None:
        return reconcile(warehouse, now, model=model, relation=relation)
    cursor, newest = int(row[0]), int(row[1] or 0)
    if newest <= cursor:
        return Moved(version=cursor)
    # one row per customer and moment: where he was when the cursor stood still, then each change; equal neighbours fall together
    periods = """
        with changed as (
            select key as customer_id, new->>'$.segment' as segment, as_of, version from headwater.model_changes
            where model = $model and version > $cursor and version <= $newest
        ),
        points as (
            select customer_id, segment, as_of, version, false as is_held from changed
            union all
            select customer_id, segment, null, -1, true from headwater.segment_memberships
            where left_at is null and customer_id in (select customer_id from changed)
        ),
        moves as (
            select *, lag(segment) over (partition by customer_id order by version) as before from points
        )
        select customer_id, segment, as_of, version, is_held,
            lead(as_of) over by_customer as left_at, lead(version) over by_customer as left_version
        from moves where segment is distinct from before
        window by_customer as (partition by customer_id order by version)
    """
    with warehouse.transaction():
        warehouse.execute(
            f"create or replace temp table segment_moves as {periods}",
            {"model": model, "cursor": cursor, "newest": newest},
        )
        moved = _write(warehouse, newest)
        _set_cursor(warehouse, newest, now)
    return moved


def reconcile(warehouse: Warehouse, now: datetime, *, model: str = MODEL, relation: str | None = None) -> Moved:
    """Make the open periods what the model says now, at its moment, and set the cursor to the newest change."""
    newest = int(
        warehouse.value("select coalesce(max(version), 0) from headwater.model_changes where model = ?", [model])
    )
    as_of = warehouse.value("select max(as_of) from headwater.clock") or now
    with warehouse.transaction():
        if warehouse.exists(relation or f"main.{model}"):
            warehouse.execute(
                f"""
                create or replace temp table segment_moves as
                with held as (select customer_id, segment from headwater.segment_memberships where left_at is null),
                live as (select customer_id, segment from {relation or f"main.{model}"} where segment is not null),
                differ as (
                    select coalesce(live.customer_id, held.customer_id) as customer_id, held.segment as was, live.segment as now_in
                    from held full outer join live on held.customer_id = live.customer_id
                    where held.segment is distinct from live.segment
                )
                select customer_id, was as segment, cast(null as timestamp) as as_of, cast(-1 as bigint) as version, true as is_held,
                    cast($as_of as timestamp) as left_at, cast($newest as bigint) as left_version
                from differ where was is not null
                union all
                select customer_id, now_in, $as_of, $newest, false, null, null from differ where now_in is not null
                """,
                {"as_of": as_of, "newest": newest},
            )
            moved = _write(warehouse, newest)
        else:
            moved = Moved(version=newest)
        _set_cursor(warehouse, newest, now)
    return moved


def differences(
    warehouse: Warehouse, *, model: str = MODEL, relation: str | None = None
) -> list[tuple[str, str | None, str | None]]:
    """(customer_id, segment of the open period, segment by the model) wherever the two differ; empty when all is followed."""
    return warehouse.execute(
        f"""
        select coalesce(live.customer_id, held.customer_id) as customer, held.segment, live.segment
        from (select customer_id, segment from headwater.segment_memberships where left_at is null) as held
        full outer join (select customer_id, segment from {relation or f"main.{model}"} where segment is not null) as live
            on held.customer_id = live.customer_id
        where held.segment is distinct from live.segment
        order by customer
        """
    ).fetchall()


def _write(warehouse: Warehouse, version: int) -> Moved:
    left = warehouse.value(
        "update headwater.segment_memberships as held set left_at = moves.left_at, left_version = moves.left_version "
        "from segment_moves as moves where moves.is_held and moves.left_version is not null and held.left_at is null "
        "and held.customer_id = moves.customer_id"
    )
    closed = warehouse.value(
        "select count(*) from segment_moves where not is_held and segment is not null and left_version is not null"
    )
    entered = warehouse.value(
        "insert into headwater.segment_memberships (customer_id, segment, entered_at, left_at, entered_version, left_version) "
        "select customer_id, segment, as_of, left_at, version, left_version from segment_moves where not is_held and segment is not null"
    )
    return Moved(int(entered), int(left) + int(closed), version)


def _set_cursor(warehouse: Warehouse, version: int, now: datetime) -> None:
    warehouse.execute("delete from headwater.change_cursors where consumer = ?", [CONSUMER])
    warehouse.execute("insert into headwater.change_cursors values (?, ?, ?)", [CONSUMER, version, now])
