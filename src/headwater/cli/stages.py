"""A command per stage of a run, and those that change what the next run does."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from headwater.cli.apps import app, segment_app
from headwater.cli.learning import show_decision
from headwater.cli.options import HERE, DiscountCap, Goal, Json, Project, Segment, SuppressHours
from headwater.cli.twins import twins_of
from headwater.cli.within import beside, between, stack_of, with_stack
from headwater.errors import InvalidValue, UsageError


@beside(app)
def run(project: Project = HERE, as_json: Json = False) -> None:
    """All stages in order: seed, build, segment, build, decide, plan, export."""
    with_stack(project, as_json, lambda stack: stack.run(), only_new=True)


@beside(app)
def seed(project: Project = HERE, as_json: Json = False) -> None:
    """Load the shop's files into raw tables, set the clock, load dbt's seeds."""
    with_stack(project, as_json, lambda stack: stack.seed())


@beside(app)
def build(
    project: Project = HERE,
    part: Annotated[str, typer.Option(help="all, upstream (of customer_segments) or downstream")] = "all",
    as_json: Json = False,
) -> None:
    """Build and test the dbt models."""
    if part not in ("all", "upstream", "downstream"):
        raise InvalidValue(f"--part: found {part!r}; expected all, upstream or downstream")
    with_stack(project, as_json, lambda stack: stack.build(part))  # type: ignore[arg-type]


@beside(app)
def test(project: Project = HERE, as_json: Json = False) -> None:
    """Run the data-quality tests on the tables as they are."""
    with_stack(project, as_json, lambda stack: stack.test())


@beside(app)
def docs(project: Project = HERE, as_json: Json = False) -> None:
    """Write dbt's documentation."""
    with_stack(project, as_json, lambda stack: stack.docs())


@app.command("serve-docs")
def serve_docs(
    project: Project = HERE, port: Annotated[int, typer.Option(help="port on this machine", min=1, max=65535)] = 8080
) -> None:
    """Serve dbt's documentation on this machine until Ctrl-C."""
    from functools import partial
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    target = project / "target"
    if not (target / "index.html").exists():
        raise UsageError(f"{target / 'index.html'} is not there; run `headwater docs` first")
    try:
        server = ThreadingHTTPServer(("127.0.0.1", port), partial(SimpleHTTPRequestHandler, directory=str(target)))
    except OSError as error:
        raise UsageError(f"port {port} cannot be used: {error.strerror}; choose another with --port") from error
    print(f"documentation at http://localhost:{port}  (Ctrl-C stops)", flush=True)
    with server:
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            print()


@beside(segment_app, "train")
def segment_train(project: Project = HERE, as_json: Json = False) -> None:
    """Fit a new version; the promotion gate decides whether it becomes the champion."""
    with_stack(project, as_json, lambda stack: stack.segment_train())


@beside(segment_app, "assign")
def segment_assign(
    project: Project = HERE,
    publish: Annotated[bool, typer.Option(help="also write seeds/customer_segments.csv")] = True,
    as_json: Json = False,
) -> None:
    """Score every customer with the champion; keep the history of memberships."""
    with_stack(project, as_json, lambda stack: stack.segment_assign(publish=publish))


@beside(segment_app, "monitor")
def segment_monitor(project: Project = HERE, as_json: Json = False) -> None:
    """Measure drift, shares, transitions."""
    with_stack(project, as_json, lambda stack: stack.segment_monitor())


@between(segment_app, "due")
def segment_due(project: Project = HERE, as_json: Json = False) -> None:
    """Say whether a retrain is due, and why."""
    with_stack(project, as_json, lambda stack: stack.segment_due())


@beside(segment_app, "promote")
def segment_promote(
    version: Annotated[int, typer.Argument(help="version to make the champion")],
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Make a version the champion, if the gate lets it pass."""
    with_stack(project, as_json, lambda stack: stack.segment_promote(version))


@beside(segment_app, "rollback")
def segment_rollback(project: Project = HERE, as_json: Json = False) -> None:
    """Make the champion before this one the champion again."""
    with_stack(project, as_json, lambda stack: stack.segment_rollback())


@beside(app)
def decide(
    project: Project = HERE,
    segment: Segment = "all",
    goal: Goal = None,
    discount_cap: DiscountCap = None,
    suppress_hours: SuppressHours = None,
    explain: Annotated[
        str | None, typer.Option(metavar="CUSTOMER", help="one customer, step by step, and why; nothing is written")
    ] = None,
    as_json: Json = False,
) -> None:
    """Choose the next best action for every customer, inside the guardrails, and log it."""
    if explain is not None:
        with stack_of(project) as stack:
            found = stack.explain_decision(explain, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        show_decision(found, as_json)
        return
    with_stack(
        project,
        as_json,
        lambda stack: stack.decide(segment, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours),
    )


@beside(app)
def plan(
    sync: Annotated[str | None, typer.Argument(help="a sync; none = all of them")] = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Write what each sync would send: row by row, old → new, and who is held back by which rule."""
    with_stack(project, as_json, lambda stack: stack.plan(sync))


@beside(app)
def activate(
    project: Project = HERE,
    sync: Annotated[list[str] | None, typer.Option(help="only these syncs")] = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="send exactly this plan, or refuse")] = None,
    segment: Segment = "all",
    dry_run: Annotated[bool, typer.Option(envvar="DRY_RUN", help="show what would be sent, call nobody")] = True,
    allow: Annotated[
        list[str] | None, typer.Option(help="open a circuit breaker for this once: removals, rows or moved")
    ] = None,
    goal: Goal = None,
    discount_cap: DiscountCap = None,
    suppress_hours: SuppressHours = None,
    as_json: Json = False,
) -> None:
    """Decide for a segment, plan, and deliver; a dry run (the default) calls no destination."""
    if unknown := set(allow or ()) - {"removals", "rows", "moved"}:
        raise InvalidValue(f"--allow: found {', '.join(sorted(unknown))!r}; expected removals, rows or moved")
    with nullcontext() if dry_run else twins_of(project):
        with_stack(
            project,
            as_json,
            lambda stack: stack.activate(
                segment,
                plan_file=plan_file,
                syncs=sync,
                dry_run=dry_run,
                allow=allow or (),
                goal=goal,
                discount_cap=discount_cap,
                suppress_hours=suppress_hours,
            ),
        )


@beside(app)
def export(project: Project = HERE, as_json: Json = False) -> None:
    """Write bi/*.csv, bi/*.parquet and bi/report.html."""
    with_stack(project, as_json, lambda stack: stack.export())


@between(app)
def retry(
    sync: Annotated[str, typer.Argument(help="a sync")],
    where: Annotated[str | None, typer.Option(help="SQL condition on headwater.outbox, e.g. \"code = '503'\"")] = None,
    confirmed: Annotated[
        bool,
        typer.Option(
            "--confirmed", help="also all rows that are confirmed: the destination has lost them, or is another one"
        ),
    ] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Let failed and held rows of a sync go out again with its next run."""
    if confirmed and where:
        raise InvalidValue("--where and --confirmed: expected one of them; --confirmed means every row of the sync")
    with_stack(project, as_json, lambda stack: stack.retry(sync, where, confirmed=confirmed))


@between(app, "kill-switch")
def kill_switch(
    state: Annotated[str | None, typer.Argument(help="on or off; nothing = show the switches")] = None,
    scope: Annotated[str, typer.Option(help="global, channel:<name> or campaign:<name>")] = "global",
    reason: Annotated[str, typer.Option(help="why, for those who come after")] = "",
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Stop everything, a channel or a campaign at once; no decision and no delivery passes a switch that is on."""
    if state not in (None, "on", "off"):
        raise InvalidValue(f"kill-switch: found {state!r}; expected on or off")
    with_stack(project, as_json, lambda stack: stack.kill_switch(state, scope, reason))
