"""The command line's groups; the modules beside this one put commands into them."""

from typing import Annotated

import typer

from headwater import __version__

app = typer.Typer(
    help="Headwater: from your warehouse to guardrailed actions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
segment_app = typer.Typer(help="Segments by model: train, assign, monitor, promote, rollback.", no_args_is_help=True)
app.add_typer(segment_app, name="segment")
identity_app = typer.Typer(help="Which ids are one person: undo a link.", no_args_is_help=True)
app.add_typer(identity_app, name="identity")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
