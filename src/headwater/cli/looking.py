"""Commands that look and change nothing."""

from dataclasses import asdict

import typer

from headwater.cli.apps import app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import line, print_json
from headwater.cli.within import between, stack_of


@between(app)
def status(project: Project = HERE, as_json: Json = False) -> None:
    """The last run of each stage: when, how long, how many rows, as of when, and what it warned of."""
    with stack_of(project) as stack:
        stages = stack.status()
    if as_json:
        print_json(stages)
        return
    if not stages:
        print("no stage has run yet; `headwater run` runs them all")
    for row in stages:
        ended = row["ended_at"]
        when = (
            f"{ended:%Y-%m-%d %H:%M:%S} UTC, {row['seconds']:.1f} s"
            if ended
            else f"since {row['started_at']:%Y-%m-%d %H:%M:%S} UTC"
        )
        line(row["status"], row["stage"], f"{when}: {row['message'] or row['status']}", row["warnings"])
    as_of = {row["as_of"] for row in stages if row["as_of"]}
    if as_of:
        print(f"as of {max(as_of):%Y-%m-%d %H:%M} UTC")


@between(app)
def syncs(project: Project = HERE, as_json: Json = False) -> None:
    """Each sync: its last run, rows by state, how fresh it is."""
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
        line(status, one.sync, f"to {one.destination}, {when}: {counts}; {one.message or 'nothing was sent yet'}", ())


@app.command()
def doctor(project: Project = HERE, as_json: Json = False) -> None:
    """Look at all that a run needs: Python, disk, settings, mapping, lock, warehouse, destinations, secrets."""
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
