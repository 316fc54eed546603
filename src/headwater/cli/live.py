"""Commands of the live engine."""

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from headwater import relay
from headwater.cli.apps import app, identity_app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import Stages, line, print_json
from headwater.cli.twins import twins_of
from headwater.cli.within import Commands, beside, between, with_stack
from headwater.errors import InvalidValue, UsageError


@app.command()
def up(project: Project = HERE, as_json: Json = False) -> None:
    """Take events and keep the models live: collector, engine, and the commands you type meanwhile; Ctrl-C stops all."""
    from headwater.cli.entry import execute
    from headwater.up import Up

    with twins_of(project), Stages(as_json) as stages:
        commands = Commands(project, typer.main.get_command(app), execute)
        Up(project, commands, stages.say).run()


@app.command(hidden=True)
def collector(project: Project = HERE) -> None:
    """The collector alone; `up` starts it."""
    from headwater import config
    from headwater.clock import from_environment
    from headwater.collect.serve import serve
    from headwater.stack import log_to_write
    from headwater.up.children import READY

    settings, clock = config.load(project), from_environment()
    serve(project, settings.collect, log_to_write(settings, project, clock), clock, ready=project / READY)


@app.command()
def down(project: Project = HERE, as_json: Json = False) -> None:
    """Stop the engine that runs for this project, as Ctrl-C where it runs would; returns when it has ended."""
    warehouse = project / "warehouse"
    engine = relay.holder(warehouse)
    if engine is None:
        raise UsageError("no engine runs for this project")
    os.kill(engine, signal.SIGTERM)
    while relay.holder(warehouse) is not None or _lives(engine):
        time.sleep(0.05)
    if as_json:
        print_json({"ok": True, "pid": engine})
    else:
        line("ok", "engine", f"process {engine} has stopped")


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


Kind = Annotated[
    str | None, typer.Option(help="what the id is: user, anonymous, email or device; without it, any of these")
]


@beside(app)
def forget(
    person: Annotated[str, typer.Argument(help="a customer id, an anonymous id, an e-mail address or a device id")],
    kind: Kind = None,
    unseen: Annotated[bool, typer.Option("--unseen", help="suppress the id although nobody has it")] = False,
    lift: Annotated[
        bool, typer.Option("--lift", help="delete nothing: take the person's ids off the list of suppressed ones again")
    ] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Delete a person everywhere, with a receipt; the ids are suppressed from then on, replays included."""
    if unseen and lift:
        raise InvalidValue(
            "forget: found --unseen and --lift; expected one of them: the first suppresses, the second ends that"
        )
    with_stack(
        project,
        as_json,
        lambda stack: stack.lift(person, kind) if lift else stack.forget(person, kind, unseen=unseen),
    )


@beside(identity_app, "undo")
def identity_undo(
    link: Annotated[str, typer.Argument(help="link_id of headwater.identity_links; `headwater why` names it")],
    because: Annotated[str, typer.Option(help="why, for those who come after")] = "undone by hand",
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Tell two ids apart again that were taken for one person; everything downstream follows."""
    with_stack(project, as_json, lambda stack: stack.undo_link(link, because))


@between(app)
def redrive(
    where: Annotated[
        str | None, typer.Option(help="SQL condition on headwater.rejected_events, e.g. \"reason = 'no_event'\"")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only say what would pass")] = False,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Cure rejected events: those that pass now, after a plan or a setting was mended, go through again, in their order."""
    with_stack(project, as_json, lambda stack: stack.redrive(where, dry_run=dry_run))


@app.command()
def torture(
    kills: Annotated[int, typer.Option(help="how often something is killed", min=0)] = 20,
    seed: Annotated[int, typer.Option(help="seed of the order and the moments")] = 1,
    folder: Annotated[Path | None, typer.Option(help="where to work; kept afterwards")] = None,
    as_json: Json = False,
) -> None:
    """Kill a live project of its own again and again, fill its disk, hold its reader; exit code 1 unless nothing was lost."""
    from headwater.testing.torture import torture as work

    outcome = work(kills, seed=seed, folder=folder, say=(lambda _: None) if as_json else print)
    if as_json:
        print_json({"ok": outcome.clean, **asdict(outcome)})
    else:
        print(outcome)
    if not outcome.clean:
        raise typer.Exit(1)
