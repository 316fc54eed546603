"""Commands that look and change nothing."""

import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from headwater.cli.apps import app
from headwater.cli.databases import database_notes, described
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import line, print_json, table
from headwater.cli.within import anytime, aside, between, host, stack_of, stopped
from headwater.records.counted import counted

if TYPE_CHECKING:
    from headwater.activation.runs import SyncStatus
    from headwater.stack import Report
    from headwater.up import State


@anytime(app)
def status(
    warnings: Annotated[
        bool, typer.Option("--warnings", help="every warning of the last run of each stage, not one of many")
    ] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """The engine, each source, each live model (freshness, lag, mode, what is due, last check), the last run of each stage."""
    from headwater import relay

    state: State | None = None
    report: Report | None = None
    ended: tuple[int, datetime] | None = None
    if (engine := host()) is not None:
        state, report = engine.report()
    else:
        ended = relay.left_over(project / "warehouse")
        with stack_of(project) as stack:
            report = stack.report()
    databases = database_notes(project if engine is None else engine.folder)
    if as_json:
        followed = {name: asdict(note) if note else None for name, note in databases}
        broken = {"pid": ended[0], "since": ended[1]} if ended else None
        told = {"engine": asdict(state) if state else None, "engine_ended_unexpectedly": broken, "databases": followed}
        print_json({**told, **(asdict(report) if report else {})})
        return
    if state is not None:
        _print_state(state)
    elif report is not None and (said := _no_engine(report, ended)):
        line("warn" if ended else "skipped", "engine", said)
    for name, note in databases:
        line(*described(name, note))
    if report is not None:
        _print_report(report, live=state is not None, every=warnings)


def _print_state(state: "State") -> None:
    words = {
        "building": "the project is built for the first time; events are taken meanwhile",
        "reading models": "reads the models; events wait in the log",
        "live": "follows the log",
        "stopped": "the models cannot be read, `headwater build` says why; events wait in the log",
        "parked": f"parked for `{state.busy_with}`; events wait in the log",
    }
    ok = {"live": "ok", "stopped": "failed"}.get(state.state, "running")
    line(ok, "engine", f"{words[state.state]} (process {state.pid}, since {state.since:%Y-%m-%d %H:%M:%S} UTC)")
    restarts = f", started again {state.collector_restarts} time(s)" if state.collector_restarts else ""
    if state.address is None:
        line("failed", "collector", f"does not listen{restarts}; senders try again")
    else:
        line("ok", "collector", f"takes events at {state.address}{restarts}")


def _no_engine(report: "Report", ended: "tuple[int, datetime] | None") -> str:
    """That nobody follows the log of a project that has been live, how the last engine ended, and what it did last."""
    if ended is None:
        return "no engine runs; `headwater up` goes on" if report.models else ""
    last = f", after its last committed batch, of {report.as_of:%Y-%m-%d %H:%M:%S} UTC" if report.models else ""
    return (
        f"no engine runs; the last one (process {ended[0]}, since {ended[1]:%Y-%m-%d %H:%M:%S} UTC) ended unexpectedly{last}:"
        " `headwater up` goes on where it was"
    )


def _print_report(report: "Report", *, live: bool, every: bool) -> None:
    from headwater.live.edited import sentence

    if report.waiting:
        what = "" if live else "; `headwater up` follows it"
        waits = counted(report.waiting, "record waits", "records wait")
        line("warn" if not live else "running", "log", f"{waits} to be read{what}")
    if report.edited:
        line("warn", "models", sentence(report.edited))
    for source in report.sources:
        if not (live or source.accepted or source.rejected):
            continue
        if not source.source and source.seconds_since_received is not None:
            text = f"{counted(source.rejected, 'call')} without a write key or with one that nobody has, the newest {_ago(source.seconds_since_received)}"
            line(
                "warn",
                "no source",
                f"{text}; see headwater.rejected_events, and mend the key of the sender or `collect.sources`",
            )
            continue
        if source.seconds_since_received is None:
            none = "nothing has landed yet; what waits in the log may be its" if report.waiting else "nothing came yet"
            line("skipped", f"source {source.source}", none)
            continue
        rejected = f"; {source.rejected:,} rejected, see headwater.rejected_events" if source.rejected else ""
        gone = "" if source.has_settings else "; headwater.yml has no such source any more"
        text = f"{source.accepted:,} calls, the newest {_ago(source.seconds_since_received)}{rejected}{gone}"
        line("warn" if source.rejected or gone else "ok", f"source {source.source}", text)
    for model in report.models:
        line(*_model(model))
    for one in report.followers:
        line(*_follower(one))
    if not report.stages:
        print("no stage has run yet; `headwater run` runs them all, `headwater up` goes live")
    for row in report.stages:
        ended = row["ended_at"]
        when = (
            f"{ended:%Y-%m-%d %H:%M:%S} UTC, {row['seconds']:.1f} s"
            if ended
            else f"since {row['started_at']:%Y-%m-%d %H:%M:%S} UTC"
        )
        line(
            row["status"],
            row["stage"],
            f"{when}: {row['message'] or row['status']}",
            row["warnings"] if every else _few(row["warnings"]),
        )
    if report.as_of:
        print(f"as of {report.as_of:{'%Y-%m-%d %H:%M:%S' if live else '%Y-%m-%d %H:%M'}} UTC")


def _few(warnings: Sequence[str]) -> Sequence[str]:
    """One of many stands for all: whoever looks how things are has seen them when the stage ran."""
    if len(warnings) <= 2:
        return warnings
    return [f"{warnings[0]} (and {len(warnings) - 1} more; `headwater status --warnings` shows them all)"]


def _model(model: Any) -> tuple[str, str, str]:
    parts = [model.mode]
    if model.refreshed_at:
        work = f" ({model.touched_keys:,} keys, {model.seconds * 1000:.0f} ms)" if model.seconds is not None else ""
        parts.append(f"moved {model.refreshed_at:%m-%d %H:%M:%S}{work}")
    if model.fresh_seconds is not None:
        parts.append(f"knows what was {_ago(model.fresh_seconds)}")
    if model.late_keys:
        parts.append(counted(model.late_keys, "key is due", "keys are due"))
    if model.owed_whole:
        parts.append(f"all of it is to be computed: {model.owed_whole}")
    if model.next_due_at:
        parts.append(f"next due {model.next_due_at:%m-%d %H:%M:%S}")
    if model.stale_keys:
        kept = counted(model.stale_keys, "key keeps older rows", "keys keep older rows")
        parts.append(f"{kept}, see headwater.stale_keys")
    if model.verified_at:
        wrong = f", {model.wrong_rows:,} WRONG" if model.wrong_rows else ""
        parts.append(f"checked {model.verified_at:%m-%d %H:%M:%S}: {model.verified_rows:,} rows{wrong}")
    if model.message:
        parts.append(model.message)
    bad = model.wrong_rows or model.state == "stopped"
    sign = "wrong" if bad else "warn" if model.stale_keys or model.state != "live" else "ok"
    return sign, model.model, ", ".join(parts)


def _follower(one: Any) -> tuple[str, str, str]:
    parts = [f"{counted(one.members, 'customer is', 'customers are')} in one"]
    if one.followed_at:
        parts.append(f"followed {one.model} {one.followed_at:%m-%d %H:%M:%S}")
    if one.waiting:
        parts.append(f"{counted(one.waiting, 'change waits', 'changes wait')}, the oldest of {_ago(one.late_seconds)}")
    else:
        parts.append("nothing waits")
    return "warn" if one.waiting else "ok", one.follower, ", ".join(parts)


def _ago(seconds: float) -> str:
    """A length of time in the largest unit that leaves two digits or so."""
    if seconds < 0:
        return f"{_ago(-seconds).removesuffix(' ago')} ahead"
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


@between(app)
def syncs(project: Project = HERE, as_json: Json = False) -> None:
    """Each sync: its last run, rows by state, how fresh it is, when it runs next."""
    with stack_of(project) as stack:
        found = stack.syncs()
    if as_json:
        print_json([asdict(one) for one in found])
        return
    if not found:
        print("headwater.yml declares no sync")
    for one in found:
        when = f"{one.last_run_at:%Y-%m-%d %H:%M:%S} UTC" if one.last_run_at else "never ran"
        counts = f"{one.confirmed:,} confirmed, {one.ready:,} ready, {one.held:,} held, {one.failed:,} failed"
        status = "failed" if one.status in ("failed", "stopped", "partial") else "ok" if one.last_run_at else "skipped"
        said = f"; {one.message}" if one.message else "" if one.confirmed else "; nothing was sent yet"
        line(status, one.sync, f"to {one.destination}, {when}: {counts}{said}{_next(one)}", ())


def _next(sync: "SyncStatus") -> str:
    """How far a live sync is behind; when another is due."""
    due = f"{sync.next_run_at:%Y-%m-%d %H:%M:%S} UTC" if sync.next_run_at else ""
    if not sync.live:
        waits = f"tries again at {due}" if sync.ready else f"at this pace the next run is about {due}"
        return f"; {waits}" if due else ""
    behind = f"live, {sync.lag_seconds:,.0f} s behind" if sync.lag_seconds else "live, nothing waits"
    return f"; {behind}" + (f", tries again at {due}" if due else "")


@between(app)
def alerts(
    project: Project = HERE,
    check: Annotated[
        bool, typer.Option("--check", help="judge all syncs first, and tell whoever listens what is new")
    ] = False,
    as_json: Json = False,
) -> None:
    """What of the syncs needs somebody's eyes; exit code 1 while an alert is open."""
    with stack_of(project) as stack:
        found = stack.alerts(check=check)
    open_now = [one for one in found if one["resolved_at"] is None]
    if as_json:
        print_json({"ok": not open_now, "alerts": found})
    else:
        for one in found:
            told = (
                "told"
                if one["told_at"]
                else f"not told: {one['told_error']}"
                if one["told_error"]
                else "told to nobody"
            )
            over = f", over since {one['resolved_at']:%Y-%m-%d %H:%M} UTC" if one["resolved_at"] else ""
            said = f"{one['kind']} since {one['raised_at']:%Y-%m-%d %H:%M} UTC{over} ({told}): {one['sentence']}"
            line("ok" if one["resolved_at"] else "wrong", one["sync"], said)
        if not found:
            print("no alert was ever raised")
    if open_now:
        raise typer.Exit(1)


@app.command()
def doctor(project: Project = HERE, as_json: Json = False) -> None:
    """Look at all that a run needs: Python, disk, settings, mapping, lock, warehouse, log, port, clock, destinations, secrets."""
    from headwater.doctor import examine

    checks = examine(project)
    wrong = any(check.status == "wrong" for check in checks)
    if as_json:
        print_json({"ok": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            line(check.status, check.name, check.sentence)
    if wrong:
        raise typer.Exit(1)


@between(app)
def query(
    sql: Annotated[str, typer.Argument(help='one SELECT over the warehouse, e.g. "from user_alerts"')],
    limit: Annotated[int, typer.Option(help="most rows to show", min=1)] = 20,
    seconds: Annotated[float, typer.Option(help="longest that it may take; an engine waits meanwhile", min=0.1)] = 10,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Ask the warehouse something; also while the engine has the file."""
    with stack_of(project) as stack:
        rows, more = stack.query(sql, limit, seconds)
    if as_json:
        print_json(rows)
        return
    table(rows)
    if more:
        print(f"the first {limit} rows; --limit shows more")


@between(app)
def explain(
    model: Annotated[str, typer.Argument(help="a live model")],
    sql: Annotated[bool, typer.Option("--sql", help="also show the SQL that a batch runs")] = False,
    target: Annotated[
        Literal["engine", "flink"],
        typer.Option("--target", help="flink: where its answer is another one than the engine's"),
    ] = "engine",
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """How a model is kept live: its key, the way from each source to it, its windows, and what it costs."""
    if target == "flink":
        from headwater.warehouse.flink import differences

        told = differences.of(model)
        if as_json:
            print_json({"model": model, "target": target, "differences": [asdict(one) for one in told]})
        for one in () if as_json else told:
            line("note", one.title, one.sentence)
        return
    with stack_of(project) as stack:
        found = stack.explain(model)
    if as_json:
        print_json(asdict(found))
        return
    if found.mode == "delta":
        said = f"is kept by adding what came and taking away what went; it has {found.keys:,} values of {found.key}"
        line("ok", found.model, said)
    elif found.mode == "keyed":
        line("ok", found.model, f"is refreshed for touched values of {found.key}; it has {found.keys:,} of them")
    else:
        line("warn", found.model, "is recomputed whole whenever something that it reads has changed", found.why_full)
    whole = set(found.read_whole)
    for source, text in found.paths:
        line("note", source, text)
    for source, rows in found.reads.items():
        how = "read in full" if source in whole or found.mode == "full" else "read for the touched keys"
        if found.mode == "delta":
            how = "of which only changed rows are read"
        line("note", f"reads {source}", f"about {counted(rows, 'row')}, {how}")
    for text in found.windows:
        line("note", "window", text)
    if found.why_not_delta:
        line("note", "not delta", found.why_not_delta)
    if found.status is not None and found.status.seconds is not None:
        cost = f"{found.status.seconds * 1000:.0f} ms for {found.status.touched_keys:,} keys when it last moved"
        line("note", "cost", cost)
    if found.max_every is not None:
        line("note", "at most", f"every {found.max_every:g} s")
    if found.changes:
        line("note", "followed", "each changed row is recorded in headwater.model_changes")
    if sql:
        print(found.sql)


@between(app)
def why(
    customer: Annotated[str, typer.Argument(help="a customer id, a visitor id, an e-mail address or a person_id")],
    events: Annotated[int, typer.Option(help="how many of the newest events are told one by one", min=0)] = 10,
    decisions: Annotated[int, typer.Option(help="how many of the newest decisions are told one by one", min=0)] = 3,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Events → identity links → model rows → segments → decisions → deliveries of one customer."""
    with stack_of(project) as stack:
        chain = stack.why(customer, events=events, decisions=decisions)
    if as_json:
        print_json(asdict(chain))
    elif not chain.steps:
        line("skipped", customer, "nobody has this id")
    else:
        ids = ", ".join(f"{kind} {name}" for kind, name in chain.ids)
        line("ok", chain.person_id or customer, f"known as {ids}" if ids else "linked to no other id")
        stage = ""
        for _, alike in groupby(chain.steps, key=lambda step: (step.stage, step.sentence)):
            step, *more = alike
            when = f"{step.when:%Y-%m-%d %H:%M:%S}  " if step.when else ""
            moments = sorted(one.when for one in more if one.when)
            first = (
                f", the first {moments[0]:%Y-%m-%d %H:%M:%S}"
                if moments and step.when and moments[0] < step.when
                else ""
            )
            times = f" ({len(more) + 1} times{first})" if more else ""
            line("note", "" if step.stage == stage else step.stage, when + step.sentence + times)
            stage = step.stage
    if not chain.steps:
        raise typer.Exit(1)


@between(app, "verify")
def verify_(
    models: Annotated[
        list[str] | None, typer.Argument(help="live models to check whole; none = random keys of all")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="check every row of every live model")] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Live rows against the same SQL in full at the same moment; exit code 1, and the rows, on any difference."""
    from headwater.live.edited import changed, sentence

    with stack_of(project) as stack:
        checked = stack.verify(models or [], every=every)
        edited = changed(stack.folder)
    wrong = sum(one.wrong for one in checked)
    if as_json:
        found = [asdict(one) for one in checked]
        print_json({"ok": not wrong, "wrong_rows": wrong, "models": found, "edited": edited})
    else:
        if edited:
            line("warn", "models", sentence(edited))
        for one in checked:
            late = "".join(
                [
                    f", {counted(one.late, 'key is due', 'keys are due')}" * bool(one.late),
                    f", {one.stale:,} stale" * bool(one.stale),
                ]
            )
            if one.skipped:
                line("skipped", one.model, f"not compared, {one.skipped}")
            else:
                said = f"{one.rows:,} rows compared, {one.wrong:,} differ{late}"
                line("wrong" if one.wrong else "ok", one.model, said)
            for row in one.differences:
                words = "should not be there" if row.found == "live" else "is missing"
                line("warn", "", f"{row.key}: {words}: {row.row}")
    if wrong:
        raise typer.Exit(1)


@aside(app)
def tail(
    last: Annotated[int, typer.Option("--last", "-n", help="begin with so many of the newest events", min=0)] = 10,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Events as they arrive, with the models that each batch moved; Ctrl-C ends. With --json a line per event and batch."""
    engine = host()
    with suppress(KeyboardInterrupt):  # its normal end
        _tell(_heard(project if engine is None else engine.stack().folder, engine, last), as_json)


def _tell(everything: Iterable[dict[str, Any]], as_json: bool) -> None:
    for heard in everything:
        if as_json:
            print_json(heard)
            sys.stdout.flush()
        elif "moved" in heard:
            moved = ", ".join(f"{model} {rows:,}" for model, rows in heard["moved"].items()) or "no model moved"
            line("ok", "", f"{heard['landed']:,} landed in {heard['seconds'] * 1000:.0f} ms: {moved}")
        elif "said" in heard:
            line("note", "", heard["said"])
        else:
            who = heard["user_id"] or heard["anonymous_id"] or ""
            line("note", heard["source"], f"{heard['received_at'][11:23]} {heard['type']} {heard['name']}  {who}")


def _from_the_newest(log: Any, last: int) -> tuple[int, int]:
    """The offset after which the newest `last` events come, and how many of them the log still holds.

    Offsets have gaps where records were removed, so it looks further back until it has found as many.
    """
    end, back = log.end("events"), last
    while last:
        after = max(0, end - back)
        found = log.read("events", after, back)
        if len(found) >= last or not after:
            return (found[-last].offset - 1, last) if len(found) >= last else (after, len(found))
        back *= 4
    return end, 0


def _heard(folder: Any, engine: Any, last: int) -> Iterable[dict[str, Any]]:
    """Events of the log, and the engine's batches, in the order in which they are seen here."""
    import json
    from datetime import UTC, datetime

    from headwater import config
    from headwater.errors import UsageError
    from headwater.log.opening import begun, opened

    settings = config.load(folder).log
    if not begun(settings, folder):
        raise UsageError("there is no log yet: no event was ever taken; `headwater up` begins to")
    log = opened(settings, folder)
    try:
        seen, kept = _from_the_newest(log, last)
        if kept < last and log.end("events") > kept:
            yield {
                "said": f"the log still holds {kept:,} of the {last:,} newest events (older ones are kept for collect.log_keep_hours, those"
                ' of forgotten people are removed); `headwater query "from collected.events order by received_at desc"` shows what landed'
            }
        known = engine.batches(0)[-1].number if engine is not None and engine.batches(0) else 0
        while not stopped():
            records = log.read("events", seen, 500)
            for record in records:
                seen = record.offset
                said = json.loads(record.payload)
                at = datetime.fromtimestamp(record.received_at / 1e6, UTC)
                yield {
                    "source": record.source,
                    "received_at": at.isoformat(timespec="milliseconds"),
                    "type": said.get("type"),
                    "name": said.get("event") or said.get("name") or "",
                    "user_id": said.get("userId"),
                    "anonymous_id": said.get("anonymousId"),
                    "message_id": record.message_id,
                }
            batches = engine.batches(known) if engine is not None else []
            for batch in batches:
                known = batch.number
                if batch.landed:
                    yield {"landed": batch.landed, "seconds": batch.seconds, "moved": batch.moved}
            if not (records or batches):
                time.sleep(0.1)
    finally:
        log.close()
