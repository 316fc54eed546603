"""Alerts: what of the syncs needs somebody's eyes, told once and not again every minute.

    sync_runs, outbox --judge--> what holds now --keep--> headwater.alerts --messages--> apprise

    failed_run       the last run ended with an error, or its process did
    stopped          the last run stopped: a circuit breaker, or the destination cannot be used
    failed_share     more than `failed_share` of the last run's rows failed
    run_time         the last run took longer than `run_seconds`
    count_deviation  the last run had far more or fewer rows than usual (not of live syncs, whose runs have no usual size)
    freshness        no good run for `freshness_hours`, or a row waits for so long, however good the runs were

An alert is open until what it says does not hold any more. It is told when it opens, again after `repeat_hours`, and once
more when it is over. What could not be told is told at the next occasion. Judging reads a few rows and writes only when
something changes; nothing here waits for anybody.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

from headwater.activation.settings import AlertSettings, SyncSettings
from headwater.clock import Clock, naive_utc
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

LEAST_ROWS = 20
"""A share of fewer failures, or a deviation from a smaller median, says nothing."""
RUNS_BEFORE = 10
LEAST_RUNS = 5


@dataclass(frozen=True)
class Alert:
    """Something that holds now."""

    kind: str
    sync: str
    sentence: str


@dataclass(frozen=True)
class Message:
    """What is to be told of one alert. `over`: it does not hold any more."""

    alert_id: str
    title: str
    text: str
    over: bool = False


def judge(warehouse: Warehouse, settings: AlertSettings, syncs: Sequence[SyncSettings], clock: Clock) -> list[Alert]:
    """What holds now of these syncs, of the kinds that the settings want. Reads only."""
    now = naive_utc(clock.now())
    found = [alert for sync in syncs for alert in _of(warehouse, settings, sync, now)]
    return [alert for alert in found if alert.kind in settings.kinds]


def _of(warehouse: Warehouse, settings: AlertSettings, sync: SyncSettings, now: datetime) -> list[Alert]:
    runs = warehouse.rows(
        "select status, planned, confirmed, failed, started_at, ended_at, message from headwater.sync_runs "
        f"where sync = ? and not dry_run and status <> 'running' order by started_at desc, sync_run_id desc limit {RUNS_BEFORE + 1}",
        [sync.name],
    )
    told: list[tuple[str, str]] = []
    if runs:
        last = runs[0]
        if last["status"] in ("failed", "interrupted"):
            told.append(("failed_run", last["message"] or "the run failed"))
        elif last["status"] in ("stopped", "refused"):
            told.append(("stopped", last["message"]))
        tried = last["confirmed"] + last["failed"]
        if last["failed"] and last["failed"] / tried > settings.failed_share:
            rows = counted(tried, "row")
            told.append(
                ("failed_share", f"{last['failed']:,} of {rows} failed; `headwater.sync_rows` says why, and what to do")
            )
        took = (last["ended_at"] - last["started_at"]).total_seconds()
        if took > settings.run_seconds:
            told.append(("run_time", f"the last run took {took:,.0f} s; {settings.run_seconds:,.0f} s are allowed"))
        if not sync.live:
            told += _deviation(settings, [run["planned"] for run in runs])
    told += _stale(warehouse, settings, sync, now)
    return [Alert(kind, sync.name, sentence) for kind, sentence in told]


def _deviation(settings: AlertSettings, planned: Sequence[int]) -> list[tuple[str, str]]:
    last, before = planned[0], [number for number in planned[1:] if number]
    if len(before) < LEAST_RUNS or (usual := median(before)) < LEAST_ROWS or not last:
        return []
    if abs(last - usual) <= settings.count_deviation * usual:
        return []
    return [
        ("count_deviation", f"the last run had {counted(last, 'row')}; usual are {usual:,.0f}. Is the model right?")
    ]


def _stale(warehouse: Warehouse, settings: AlertSettings, sync: SyncSettings, now: datetime) -> list[tuple[str, str]]:
    open_states = ("ready", "claimed", "failed") if sync.live else ("ready", "claimed")
    waits = warehouse.value(
        f"select min(created_at) from headwater.outbox where sync = ? and state in {open_states}", [sync.name]
    )
    good = warehouse.value(
        "select coalesce(max(started_at) filter (status in ('ok', 'nothing', 'partial')), min(started_at)) "
        "from headwater.sync_runs where sync = ? and not dry_run",
        [sync.name],
    )
    told = [("a row waits since", waits)] if sync.live else [("no good run since", good), ("a row waits since", waits)]
    for what, since in told:
        if since is not None and now - since > timedelta(hours=settings.freshness_hours):
            allowed = f"at most {settings.freshness_hours:g} h are allowed"
            return [("freshness", f"{what} {since:%Y-%m-%d %H:%M} UTC; {allowed}")]
    return []


def keep(
    warehouse: Warehouse, settings: AlertSettings, syncs: Sequence[SyncSettings], found: Sequence[Alert], clock: Clock
) -> list[Message]:
    """Write down what opened and what is over; returns what has to be told, also what could not be told before.

    `found` is what `judge` said of these very syncs.
    """
    now = naive_utc(clock.now())
    names = [sync.name for sync in syncs]
    stood = warehouse.rows(
        "select alert_id, kind, sync, sentence, resolved_at, told_at, told_error from headwater.alerts "
        "where sync in (select unnest(?)) and (resolved_at is null or told_error is not null)",
        [names],
    )
    open_now = {(one["kind"], one["sync"]): one for one in stood if one["resolved_at"] is None}
    holds = {(one.kind, one.sync): one for one in found}
    if not stood and not holds:
        return []
    messages = [_over(one, one["resolved_at"]) for one in stood if one["resolved_at"] is not None]
    with warehouse.transaction():
        for key, alert in holds.items():
            if key not in open_now:
                alert_id = f"{alert.kind}-{alert.sync}-{now:%Y%m%dT%H%M%S%f}"
                warehouse.execute(
                    "insert into headwater.alerts values (?, ?, ?, ?, ?, ?, null, null, null)",
                    [alert_id, alert.kind, alert.sync, alert.sentence, now, now],
                )
                messages.append(Message(alert_id, _title(alert.kind, alert.sync), alert.sentence))
                continue
            before = open_now[key]
            if before["sentence"] != alert.sentence:
                warehouse.execute(
                    "update headwater.alerts set sentence = ?, seen_at = ? where alert_id = ?",
                    [alert.sentence, now, before["alert_id"]],
                )
            told = before["told_at"]
            if told is None or now - told >= timedelta(hours=settings.repeat_hours):
                messages.append(Message(before["alert_id"], _title(alert.kind, alert.sync), alert.sentence))
        for key, before in open_now.items():
            if key not in holds:
                warehouse.execute(
                    "update headwater.alerts set resolved_at = ? where alert_id = ?", [now, before["alert_id"]]
                )
                if before["told_at"] is not None:
                    messages.append(_over(before, now))
    return messages


def told(warehouse: Warehouse, alert_ids: Sequence[str], error: str | None, clock: Clock) -> None:
    """What became of telling: told now, or why not (it is told at the next occasion then)."""
    warehouse.execute(
        "update headwater.alerts set told_at = case when ? is null then ? else told_at end, told_error = ? "
        "where alert_id in (select unnest(?))",
        [error, naive_utc(clock.now()), error, list(alert_ids)],
    )


def listed(warehouse: Warehouse, limit: int = 100) -> list[dict[str, object]]:
    """Open alerts first, then the newest that are over."""
    return warehouse.rows(
        "select kind, sync, sentence, raised_at, resolved_at, told_at, told_error from headwater.alerts "
        f"order by resolved_at is not null, coalesce(resolved_at, raised_at) desc limit {limit}"
    )


def _over(one: dict[str, object], at: object) -> Message:
    text = f"over since {at:%Y-%m-%d %H:%M} UTC. It was: {one['sentence']}"
    return Message(str(one["alert_id"]), _title(str(one["kind"]), str(one["sync"])), text, over=True)


def _title(kind: str, sync: str) -> str:
    return f"{sync}: {_TITLES[kind]}"


_TITLES = {
    "failed_run": "the run failed",
    "stopped": "the sync is stopped",
    "failed_share": "many rows fail",
    "run_time": "the run takes long",
    "count_deviation": "an unusual number of rows",
    "freshness": "nothing arrives",
}
