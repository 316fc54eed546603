"""The command line's groups; the modules beside this one put commands into them."""

from collections.abc import Iterator
from typing import Annotated

import typer
from typer.models import CommandInfo, TyperInfo

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
outcomes_app = typer.Typer(help="What customers did after a decision: import, attribute.", no_args_is_help=True)
app.add_typer(outcomes_app, name="outcomes")
policy_app = typer.Typer(help="Policies that learn: train, evaluate, promote, rollback, list.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")
experiment_app = typer.Typer(help="What deciding brought, against those who were held out.", no_args_is_help=True)
app.add_typer(experiment_app, name="experiment")
messages_app = typer.Typer(help="Texts by a language model: preview, list, approve, reject.", no_args_is_help=True)
app.add_typer(messages_app, name="messages")
risk_app = typer.Typer(help="Churn risk by a language model: ask, calibrate, show.", no_args_is_help=True)
app.add_typer(risk_app, name="risk")
cdc_app = typer.Typer(help="Changes of databases: set up, status, read all rows again.", no_args_is_help=True)
app.add_typer(cdc_app, name="cdc")
log_app = typer.Typer(help="The log: move it from the file to Kafka.", no_args_is_help=True)
app.add_typer(log_app, name="log")
flink_app = typer.Typer(help="The data products on Flink: their SQL, and the job.", no_args_is_help=True)
app.add_typer(flink_app, name="flink")


PANELS = {
    "Start": ("init", "demo", "run", "doctor"),
    "Models": ("seed", "build", "test", "verify", "explain", "docs", "serve-docs"),
    "Segments and decisions": ("segment", "decide", "outcomes", "policy", "experiment", "messages", "risk", "llm"),
    "Activation": ("plan", "activate", "syncs", "retry", "alerts", "kill-switch", "twin"),
    "Live": ("up", "down", "tail", "redrive", "identity", "cdc", "log", "kafka", "feed", "flink", "torture"),
    "Look": ("status", "query", "why", "export"),
    "More": ("forget",),
}
"""The commands and groups as `--help` shows them."""


def arrange() -> None:
    """Put every command and group into its panel, in the order of PANELS. Call it once, when all are there."""
    place = {name: (number, panel) for number, (panel, name) in enumerate(_placed())}

    def number(one: CommandInfo) -> int:
        return place.get(name_of(one), (len(place), ""))[0]

    app.registered_commands.sort(key=number)
    for one in (*app.registered_commands, *app.registered_groups):
        one.rich_help_panel = place.get(name_of(one), (0, "More"))[1]


def name_of(one: CommandInfo | TyperInfo) -> str:
    """What is typed for it."""
    return str(one.name or getattr(one.callback, "__name__", ""))


def _placed() -> Iterator[tuple[str, str]]:
    for panel, names in PANELS.items():
        for name in names:
            yield panel, name


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit
