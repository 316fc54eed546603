"""`sync_runs` and `sync_rows`: what was done, for SQL, BI and the screen to read."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from headwater.activation import delivered, exact
from headwater.activation.handing import put
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
        f"insert into headwater.sync_rows select ?, ?, operation_id, key, operation, attempt, status, nullif(code, ''), nullif(message, ''), "
        f"nullif(advice, ''), try_cast(nullif(request, '') as json), try_cast(nullif(response, '') as json), ? from {_TRIES}",
        [sync_run_id, sync, naive_utc(clock.now())],
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


def add(warehouse: Warehouse, sync_run_id: str, *, sent: int, confirmed: int, failed: int, held: int) -> None:
    """Count on; call inside the transaction that records the answers."""
    warehouse.execute(
        "update headwater.sync_runs set sent = sent + ?, confirmed = confirmed + ?, failed = failed + ?, held = held + ? where sync_run_id = ?",
        [sent, confirmed, failed, held, sync_run_id],
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
        age_seconds=None if newest is None else (naive_utc(clock.now()) - newest).total_seconds(),
    )
