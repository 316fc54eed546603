"""Commands of the live engine."""

import typer

from headwater.cli.apps import app
from headwater.cli.options import HERE, Json, Project
from headwater.cli.screen import Stages
from headwater.cli.within import Commands


@app.command()
def up(project: Project = HERE, as_json: Json = False) -> None:
    """Take events and keep the models live: collector, engine, and the commands you type meanwhile; Ctrl-C stops all."""
    from headwater.cli.entry import execute
    from headwater.up import Up

    with Stages(as_json) as stages:
        commands = Commands(project, typer.main.get_command(app), execute)
        Up(project, commands, stages.say).run()


@app.command(hidden=True)
def collector(project: Project = HERE) -> None:
    """The collector alone; `up` starts it."""
    from headwater import config
    from headwater.clock import from_environment
    from headwater.collect.serve import serve
    from headwater.stack import LOG
    from headwater.up.children import READY

    serve(project, config.load(project).collect, project / LOG, from_environment(), ready=project / READY)
