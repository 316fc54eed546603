"""From raw scores to memberships, with inertia: the one rule, whether for everybody at once or change by change.

A customer who has a segment of the same version keeps it until another cluster is nearer by more than `segments.ml.hysteresis`
(standard deviations). One without a score is in no segment. The state is the table of periods itself (memberships.py), so
a score needs no more than what it says and the period before it.

    settle   everybody, by the scores as they stand at a moment: the batch stage, and whatever was changed without the engine
    follow   each change of the live model `int_segment_scores` since the cursor, in its order, by what
             `headwater.model_changes` recorded of it
    replay   the same changes once more on a copy, from the newest baseline on: what memberships are verified by

Each works in one transaction of its own, with the cursor (`headwater.change_cursors`). Running it again changes nothing, and
ten changes followed at once leave the same rows as followed one by one. A baseline is noted in
`headwater.segment_baselines` whenever rows were written that no recorded change explains.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from headwater.failpoint import failpoint
from headwater.segments import memberships
from headwater.segments.memberships import TABLE, Written
from headwater.segments.registry import KMEANS
from headwater.warehouse.connection import Warehouse

MODEL = "int_segment_scores"
RELATION = f"main.{MODEL}"
CONSUMER = "segment_assignments"

_FIELDS = ("version", "raw_segment_id", "segment_id", "segment_name", "stability", "margin", "gaps")
_SHAPE = (
    '{"version": "BIGINT", "raw_segment_id": "BIGINT", "segment_id": "BIGINT", "segment_name": "VARCHAR", '
    '"stability": "VARCHAR", "margin": "DOUBLE", "gaps": ["DOUBLE"]}'
)
_STEPS, _STATED, _CHANGES = "segment_steps", "segment_stated", "segment_changes"

Publish = Callable[[], None]
"""Called inside the transaction after periods were written; `memberships.DIFFERING` says whose."""


@dataclass(frozen=True)
class Followed:
    """`opened` periods and customers who `left` for no other segment; `version`: the change up to which all is followed.
    `held`: customers who would have moved without hysteresis, where everybody was looked at."""

    opened: int = 0
    left: int = 0
    version: int = 0
    held: int = 0
    changed: bool = False


def ready(warehouse: Warehouse) -> bool:
    """Whether the live model is there, with what memberships need of it."""
    return bool(
        warehouse.value(
            "select count(*) from information_schema.columns where table_schema = 'main' and table_name = ? and column_name = 'gaps'",
            [MODEL],
        )
    )


def owed(warehouse: Warehouse) -> bool:
    """Whether the engine has still to recompute scores: they are not yet what everybody may be settled by."""
    return bool(warehouse.value("select count(*) from headwater.due_keys where model = ?", [MODEL]))


def cursor(warehouse: Warehouse) -> int | None:
    """The change up to which all is followed; None before the first `settle`."""
    found = warehouse.value("select version from headwater.change_cursors where consumer = ?", [CONSUMER])
    return None if found is None else int(found)


def newest(warehouse: Warehouse) -> int:
    """The newest change of the scores."""
    return int(
        warehouse.value("select coalesce(max(version), 0) from headwater.model_changes where model = ?", [MODEL])
    )


def follow(
    warehouse: Warehouse, hysteresis: float, now: datetime, *, publish: Publish | None = None, upto: int | None = None
) -> Followed:
    """Bring the periods to the newest change, or to change `upto`; `now` (naive UTC) is noted beside the cursor.

    Needs a cursor: `settle` comes first. Costs one look-up when there is nothing new.
    """
    after = cursor(warehouse)
    if after is None:
        raise RuntimeError("memberships follow changes only after everybody was settled once")
    last = newest(warehouse) if upto is None else min(upto, newest(warehouse))
    if last <= after:
        return Followed(version=after)
    with warehouse.transaction():
        written = _follow(warehouse, after, last, hysteresis, now, publish)
        _set_cursor(warehouse, last, now)
        failpoint("memberships.following")
    failpoint("memberships.followed")
    return Followed(written.opened, written.left, last, changed=bool(written.touched))


def settle(
    warehouse: Warehouse,
    scores: str,
    moment: datetime,
    hysteresis: float,
    now: datetime,
    *,
    publish: Publish | None = None,
) -> Followed:
    """Make everybody's period what the relation `scores` (columns as `int_segment_scores`, one row per customer) says at
    `moment`; whoever is not in it leaves. Changes that were recorded and not followed yet are followed first."""
    with warehouse.transaction():
        after, last = cursor(warehouse), newest(warehouse)
        before = (
            Written() if after is None or last <= after else _follow(warehouse, after, last, hysteresis, now, publish)
        )
        at = f"timestamp '{memberships.moment_for(warehouse, KMEANS, moment)}'"
        warehouse.execute(f"create or replace temp table {_STEPS} as {everybody_sql(scores, at, last)}")
        written = _put(warehouse, hysteresis, TABLE, publish)
        held = int(warehouse.value(f"select count(*) from {_STATED} where was_held"))
        if written.touched or _baseline(warehouse) != hysteresis:
            _note(warehouse, last, hysteresis, "batch", now)
        _set_cursor(warehouse, last, now)
        failpoint("segment.settled")
    opened, left = before.opened + written.opened, before.left + written.left
    return Followed(opened, left, last, held, changed=bool(before.touched or written.touched))


def forget_changes(warehouse: Warehouse, keep: timedelta, now: datetime, *, followed: bool = True) -> int:
    """Drop changes of scores that are followed and older than `keep`; how many. Memberships can be replayed from there on.

    `followed` False: nothing is followed now, so they do not wait for it; whoever begins again settles everybody first. The
    newest change of all stays: the engine counts on from it.
    """
    after = cursor(warehouse)
    if after is None and followed:
        return 0
    limit = warehouse.value(
        "select max(version) from headwater.model_changes where model = $model and ($after is null or version <= $after)"
        " and version < (select max(version) from headwater.model_changes)"
        " and as_of < (select max(as_of) from headwater.clock) - to_microseconds($keep)",
        {"model": MODEL, "after": after if followed else None, "keep": int(keep.total_seconds() * 1_000_000)},
    )
    if limit is None:
        return 0
    with warehouse.transaction():
        known = warehouse.value("select max_by(version, noted_at) from headwater.segment_baselines")
        if after is not None and (known is None or known < limit):
            _note(warehouse, int(limit), _baseline(warehouse) or 0.0, "retention", now)
        gone = warehouse.execute(
            "delete from headwater.model_changes where model = ? and version <= ?", [MODEL, limit]
        ).fetchone()
    return int(gone[0]) if gone else 0


def _follow(
    warehouse: Warehouse, after: int, last: int, hysteresis: float, now: datetime, publish: Publish | None
) -> Written:
    if _baseline(warehouse) != hysteresis:
        _note(warehouse, after, hysteresis, "hysteresis", now)
    return fold(warehouse, after, last, hysteresis, TABLE, publish)


def fold(
    warehouse: Warehouse, after: int, last: int, hysteresis: float, table: str, publish: Publish | None = None
) -> Written:
    """Apply the changes (after, last] to `table`: everybody's first change, then everybody's second, and so on."""
    fields = ", ".join(f"score.{name}" for name in _FIELDS)
    warehouse.execute(
        f"""
        create or replace temp table {_CHANGES} as
        select customer_id, as_of, change, nth, {fields}
        from (
            select key as customer_id, as_of, version as change, from_json(new, '{_SHAPE}') as score,
                row_number() over (partition by key order by version) as nth
            from headwater.model_changes where model = '{MODEL}' and version > {after} and version <= {last}
        )
        """
    )
    rounds = int(warehouse.value(f"select coalesce(max(nth), 0) from {_CHANGES}"))
    total = Written()
    for nth in range(1, rounds + 1):
        warehouse.execute(
            f"""
            create or replace temp table {_STEPS} as
            with mine as (select * from {_CHANGES} where nth = {nth}),
            known as (
                select customer_id, max(greatest(valid_from, coalesce(valid_to, valid_from))) as moment from {table}
                where model = '{KMEANS}' and customer_id in (select customer_id from mine) group by customer_id
            )
            select mine.customer_id, greatest(mine.as_of, coalesce(known.moment, mine.as_of)) as moment, mine.change,
                {", ".join(f"mine.{name}" for name in _FIELDS)}
            from mine left join known on known.customer_id = mine.customer_id
            """
        )
        written = _put(warehouse, hysteresis, table, publish)
        total = Written(total.opened + written.opened, total.left + written.left, total.touched + written.touched)
    return total


def _put(warehouse: Warehouse, hysteresis: float, table: str, publish: Publish | None) -> Written:
    """Choose for each row of the steps, and write what differs."""
    warehouse.execute(f"create or replace temp table {_STATED} as {chosen_sql(_STEPS, hysteresis, table)}")
    written = memberships.put(warehouse, _STATED, KMEANS, table=table)
    if written.touched and publish is not None:
        publish()
    return written


def everybody_sql(scores: str, moment: str, change: int) -> str:
    """A step for everybody who has a score in the relation `scores` or is in a segment; `moment` is SQL."""
    return (
        f"select coalesce(scores.customer_id, held.customer_id) as customer_id, {moment} as moment, cast({change} as bigint) as change,"
        f" {', '.join(f'scores.{name}' for name in _FIELDS)} from {scores} as scores"
        f" full outer join ({memberships.members_sql(KMEANS)}) as held on held.customer_id = scores.customer_id"
    )


def chosen_sql(steps: str, hysteresis: float, table: str = TABLE) -> str:
    """The rule. `steps`: (customer_id, moment, change) and the columns of a score, null for a customer who has none.

    One row per row of `steps`, as `memberships.put` takes it, and `was_held`. The margin of a customer who is held back is
    negative: by so much another cluster is nearer.
    """
    return f"""
    with periods as materialized (
        select held.customer_id, held.version, held.raw_segment_id, held.segment_id, held.segment_name, held.valid_from, held.valid_to, steps.moment
        from {table} as held inner join {steps} as steps on held.customer_id = steps.customer_id where held.model = '{KMEANS}'
    ),
    before as materialized (
        select * from periods where valid_from < moment and coalesce(valid_to, moment) >= moment
    ),
    beside as (
        select steps.*, held.raw_segment_id as held_raw, held.segment_id as held_id, held.segment_name as held_name,
            coalesce(steps.gaps[held.raw_segment_id + 1] <= {hysteresis!r}::double, false) as stays
        from {steps} as steps left join before as held on held.customer_id = steps.customer_id and held.version = steps.version
    )
    select customer_id, moment, change, version, stability,
        case when stays then held_raw else raw_segment_id end as raw_segment_id,
        case when stays then held_id else segment_id end as segment_id,
        case when stays then held_name else segment_name end as segment_name,
        case when stays and held_raw <> raw_segment_id then -gaps[held_raw + 1] else margin end as margin,
        stays and held_raw <> raw_segment_id as was_held
    from beside
    """


def _baseline(warehouse: Warehouse) -> float | None:
    """The hysteresis of the newest baseline; None before the first."""
    return warehouse.value("select max_by(hysteresis, noted_at) from headwater.segment_baselines")


def _note(warehouse: Warehouse, version: int, hysteresis: float, because: str, now: datetime) -> None:
    after = warehouse.value("select max(noted_at) from headwater.segment_baselines")
    at = max(now, after + timedelta(microseconds=1)) if after else now
    warehouse.execute(
        "insert into headwater.segment_baselines select ?, (select max(as_of) from headwater.clock), ?, ?, ?",
        [version, hysteresis, because, at],
    )


def _set_cursor(warehouse: Warehouse, version: int, now: datetime) -> None:
    warehouse.execute("delete from headwater.change_cursors where consumer = ?", [CONSUMER])
    warehouse.execute("insert into headwater.change_cursors values (?, ?, ?)", [CONSUMER, version, now])
