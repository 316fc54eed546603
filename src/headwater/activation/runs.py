"""`sync_runs` and `sync_rows`: what was done, for SQL, BI and the screen to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from headwater.activation import delivered, exact
from headwater.activation.handing import put
from headwater.activation.mapping import literal
from headwater.activation.plan import Plan
from headwater.activation.send import Try
from headwater.activation.settings import SyncSettings
from headwater.clock import Clock, naive_utc
from headwater.warehouse import Warehouse

_TRIES = "activation_tries"
KEEP_BODIES = 100
"""Requests and answers of the last so many rows of a sync are kept; those of failures always."""


@dataclass(frozen=True)
class SyncStatus:
    """One sync, as `headwater syncs` shows it.

    `status`, `message`, `last_run_at`: of its last run that was not a dry run (None: never ran). `confirmed` keys are at the
    destination; `ready`, `held` and `failed` rows are open. `age_seconds` since the destination last confirmed a row.
    `next_run_at`: when rows that wait for their time may go; else, of a sync that is not live, when it is due by the pace of its
    last runs (whoever starts them: cron, Airflow, a person), null before there are three. `lag_seconds`: of a live sync, how
    long the oldest change is not at the destination yet, 0 when all are.
    """

    sync: str
    model: str
    destination: str
    mode: str
    runs: int
    last_run_at: datetime | None
    status: str | None
    message: str | None
    confirmed: int
    ready: int
    held: int
    failed: int
    age_seconds: float | None
    live: bool
    next_run_at: datetime | None
    lag_seconds: float | None


def start(warehouse: Warehouse, plan: Plan, clock: Clock, *, run_id: str | None, dry_run: bool) -> str:
    """A row for the run that begins, after closing runs that a crash left open; returns its id.

    Ids of one sync sort by time: moment of the start, UTC, and number of the run.
    """
    now = naive_utc(clock.now())
    with warehouse.transaction():
        warehouse.execute(
            "update headwater.sync_runs set status = 'interrupted', ended_at = ?, message = 'the process ended before the run did; a later run goes on' "
            "where sync = ? and status = 'running'",
            [now, plan.sync],
        )
        number = warehouse.value("select count(*) from headwater.sync_runs where sync = ?", [plan.sync]) + 1
        sync_run_id = f"{plan.sync}-{now:%Y%m%dT%H%M%S}-{number:05d}"
        warehouse.execute(
            "insert into headwater.sync_runs values (?, ?, ?, ?, ?, 'running', ?, 0, 0, 0, 0, ?, null, null)",
            [sync_run_id, plan.sync, plan.plan_id, run_id, dry_run, plan.counts.planned, now],
        )
    return sync_run_id


def log(warehouse: Warehouse, sync_run_id: str, sync: str, tries: Sequence[Try], clock: Clock) -> None:
    """One row per try; call inside the transaction that records the answers."""
    if not tries:
        return
    first_kept = len(tries) - KEEP_BODIES
    rows = [
        (
            one.operation.operation_id,
            one.operation.key,
            one.operation.operation,
            one.attempt,
            one.result.status,
            one.result.code,
            one.result.message,
            one.result.advice,
            _request(one) if one.result.status != "done" or number >= first_kept else "",
            _response(one) if one.result.status != "done" or number >= first_kept else "",
        )
        for number, one in enumerate(tries)
    ]
    names = (
        "operation_id",
        "key",
        "operation",
        "attempt",
        "status",
        "code",
        "message",
        "advice",
        "request",
        "response",
    )
    put(warehouse, _TRIES, {name: "bigint" if name == "attempt" else "varchar" for name in names}, rows)
    warehouse.execute(
        f"insert into headwater.sync_rows select {literal(sync_run_id)}, {literal(sync)}, operation_id, key, operation, attempt, status, nullif(code, ''), nullif(message, ''), "
        f"nullif(advice, ''), try_cast(nullif(request, '') as json), try_cast(nullif(response, '') as json), "
        f"timestamp '{naive_utc(clock.now())}' from {_TRIES}"
    )


def _request(one: Try) -> str:
    return exact.dumps({"operation": one.operation.operation, "key": one.operation.key, "fields": one.operation.fields})


def _response(one: Try) -> str:
    if one.result.response is None:
        return ""
    try:
        return exact.dumps(one.result.response)
    except TypeError:
        return exact.dumps(str(one.result.response))


def forget_bodies(warehouse: Warehouse, sync: str) -> None:
    """Drop what was sent and answered of confirmed rows but the last `KEEP_BODIES` of the sync."""
    kept = f"from headwater.sync_rows where sync = {literal(sync)} and status = 'done' and request is not null"
    if warehouse.value(f"select count(*) {kept}") > KEEP_BODIES:
        warehouse.execute(
            f"update headwater.sync_rows set request = null, response = null where rowid in "
            f"(select rowid {kept} order by rowid desc offset {KEEP_BODIES})"
        )


def add(warehouse: Warehouse, sync_run_id: str, *, sent: int, confirmed: int, failed: int, held: int) -> None:
    """Count on; call inside the transaction that records the answers."""
    warehouse.execute(
        f"update headwater.sync_runs set sent = sent + {sent}, confirmed = confirmed + {confirmed}, failed = failed + {failed}, "
        f"held = held + {held} where sync_run_id = {literal(sync_run_id)}"
    )


def finish(warehouse: Warehouse, sync_run_id: str, status: str, message: str, clock: Clock) -> None:
    """The run is over."""
    warehouse.execute(
        "update headwater.sync_runs set status = ?, message = ?, ended_at = ? where sync_run_id = ?",
        [status, message, naive_utc(clock.now()), sync_run_id],
    )


def syncs(warehouse: Warehouse, settings: Sequence[SyncSettings], clock: Clock) -> list[SyncStatus]:
    """Where each sync stands, in the order of the settings."""
    return [_status(warehouse, sync, clock) for sync in settings]


def _status(warehouse: Warehouse, sync: SyncSettings, clock: Clock) -> SyncStatus:
    now = naive_utc(clock.now())
    ran = warehouse.rows(
        "select started_at, status, message, count(*) over () as runs from headwater.sync_runs where sync = ? and not dry_run "
        "order by started_at desc, ended_at desc nulls first limit 1",
        [sync.name],
    )
    last = ran[0] if ran else {}
    states = dict(
        warehouse.execute(
            "select state, count(*) from headwater.outbox where sync = ? group by 1", [sync.name]
        ).fetchall()
    )
    confirmed, newest = 0, None
    if delivered.exists(warehouse, sync.name):
        confirmed, newest = warehouse.execute(
            f"select count(*), max(_headwater_confirmed_at) from {delivered.table(sync.name)}"
        ).fetchall()[0]
    return SyncStatus(
        sync=sync.name,
        model=sync.model,
        destination=sync.destination,
        mode=sync.mode,
        runs=last.get("runs", 0),
        last_run_at=last.get("started_at"),
        status=last.get("status"),
        message=last.get("message"),
        confirmed=confirmed,
        ready=states.get("ready", 0) + states.get("claimed", 0),
        held=states.get("held", 0),
        failed=states.get("failed", 0),
        age_seconds=None if newest is None else (now - newest).total_seconds(),
        live=sync.live,
        next_run_at=_next_run(warehouse, sync),
        lag_seconds=_lag(warehouse, sync, last.get("started_at"), now) if sync.live else None,
    )


def _next_run(warehouse: Warehouse, sync: SyncSettings) -> datetime | None:
    """When rows may go that were told to wait; else, of at least four runs that come about regularly, when the next is due.

    Regularly: of the last ten runs no time between two is further than a quarter from the usual one.
    """
    waits = warehouse.value(
        "select min(available_at) from headwater.outbox where sync = ? and state = 'ready' "
        "having count(*) = count(available_at)",
        [sync.name],
    )
    if waits is not None or sync.live:
        return waits
    return warehouse.value(
        "select case when count(gap) >= 3 and min(gap) >= 0.75 * median(gap) and max(gap) <= 1.25 * median(gap) "
        "then max(started_at) + to_seconds(median(gap)) end from ("
        "select started_at, epoch(started_at - lag(started_at) over (order by started_at)) as gap from ("
        "select started_at from headwater.sync_runs where sync = ? and not dry_run order by started_at desc limit 10))",
        [sync.name],
    )


def _lag(warehouse: Warehouse, sync: SyncSettings, last_run: datetime | None, now: datetime) -> float:
    """Seconds since the oldest row began to wait, or since the model moved after the last look at it."""
    since = warehouse.rows(
        "select min(created_at) as at from headwater.outbox where sync = ? and state in ('ready', 'claimed') "
        "union all select refreshed_at from headwater.live_models where model = ? and (? is null or refreshed_at > ?)",
        [sync.name, sync.model, last_run, last_run],
    )
    return max([0.0, *((now - row["at"]).total_seconds() for row in since if row["at"] is not None)])
