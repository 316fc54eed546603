"""The reads of what was planned, sent and confirmed; the rules are those of `queries`."""

from headwater.console.queries import Row, _read
from headwater.warehouse.connection import Warehouse

NEWEST_RUNS = """(
    select *, count(*) over (partition by sync) as runs,
           coalesce(sum(confirmed) over (partition by sync), 0)::bigint as confirmed_ever
    from headwater.sync_runs
    qualify row_number() over (
        partition by sync
        order by coalesce(dry_run or status = 'nothing' or (status = 'ok' and sent = 0), false), started_at desc, sync_run_id desc
    ) = 1
)"""
"""One run of each sync: the newest in which something could be sent. A dry run, a run that found nothing to do and one in
which all rows were held back come last: they stand here only where a sync has no other. One that was stopped, broke off or
failed before its first row is news and counts."""


def syncs(warehouse: Warehouse) -> list[Row]:
    """One row per sync, its newest run in which something could be sent (else its newest): sync, status, dry_run, planned,
    sent, confirmed, failed, held, started_at, ended_at, message, runs and confirmed_ever (over all its runs)."""
    return _read(
        warehouse,
        f"""
        select sync, status, dry_run, planned, sent, confirmed, failed, held, started_at, ended_at, message, runs, confirmed_ever
        from {NEWEST_RUNS} order by sync
        """,
    )


def outbox(warehouse: Warehouse) -> list[Row]:
    """One row per sync and state of the outbox now: sync, state (ready | claimed | done | failed | held | superseded), operations."""
    return _read(
        warehouse,
        "select sync, state, count(*) as operations from headwater.outbox group by all order by sync, state",
    )


def held(warehouse: Warehouse) -> list[Row]:
    """One row per sync and reason for which operations are held back or failed for good: sync, state, reason, operations. The 20 largest."""
    return _read(
        warehouse,
        """select sync, state, coalesce(reason, 'no reason given') as reason, count(*) as operations
           from headwater.outbox where state in ('held', 'failed')
           group by all order by operations desc, sync, state, reason limit 20""",
    )


def delivery_failures(warehouse: Warehouse) -> list[Row]:
    """One row per sync, code and message of rows that failed in the run of their sync that `syncs` shows: sync, code, message,
    advice, rows. The 20 largest."""
    return _read(
        warehouse,
        f"""
        select sync, code, message, max(advice) as advice, count(*) as rows
        from headwater.sync_rows where status = 'failed' and sync_run_id in (select sync_run_id from {NEWEST_RUNS})
        group by sync, code, message order by rows desc, sync, code, message limit 20
        """,
    )


def activation_by_day(warehouse: Warehouse) -> list[Row]:
    """One row per day with deliveries, over all syncs, the last 14: day, confirmed, held, failed. From mart_marketing__activation_metrics."""
    return _read(
        warehouse,
        """
        select day, sum(confirmed)::bigint as confirmed, sum(held)::bigint as held, sum(failed)::bigint as failed
        from main.mart_marketing__activation_metrics group by all order by day desc limit 14
        """,
    )[::-1]
