"""Where a command works.

    no engine            in this process, which opens the warehouse itself
    an engine runs       the command line is sent to it (relay), and there it works
        between          in the engine's process, between two batches, on its own connection: for what is quick
        beside           in a process of its own, while the engine is parked and has given the file away: for builds and training
        aside            in a thread of its own, at once: for what only listens

A command says with its decorator which of the three it is; nothing else in it knows. Commands with the plain decorator of
typer (`init`, `doctor`, `up` …) always work where they were typed.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import typer
from typer.core import TyperCommand

from headwater import relay
from headwater.cli.screen import Progress, show

if TYPE_CHECKING:
    from headwater.records.stage import StageResult
    from headwater.stack import Stack

BESIDE = "HEADWATER_BESIDE"
"""Environment variable: this process works beside the engine that started it, so nothing is sent to the engine again."""

PASSED_ON = (
    "SEGMENT",
    "DRY_RUN",
    "GOAL",
    "DISCOUNT_CAP",
    "SUPPRESS_HOURS",
    "USER",
    "TERM",
    "COLORTERM",
    "NO_COLOR",
    "HEADWATER_MASK_KEY",
)
"""Environment variables that mean for a relayed command what they mean where it was typed, set or not; beside these, the
names of secrets that `headwater.yml` mentions (`…_env: NAME`)."""


class Host(Protocol):
    """The engine's process, as a command inside it sees it."""

    def stack(self) -> "Stack":
        """A stack on the engine's own connection; closing it leaves that open."""
        ...


_host: ContextVar[Host | None] = ContextVar("host", default=None)


@contextmanager
def hosted(host: Host) -> Iterator[None]:
    """Inside, commands work on the engine's connection."""
    token = _host.set(host)
    try:
        yield
    finally:
        _host.reset(token)


class Relayed(TyperCommand):
    """A command that goes to the engine when one runs for its project."""

    def invoke(self, ctx: Any) -> Any:
        folder = ctx.params.get("project")
        if folder is None or _host.get() is not None or os.environ.get(BESIDE):
            return super().invoke(ctx)
        code = relay.forward(folder / "warehouse", sys.argv[1:], passed_on(folder))
        if code is None:
            return super().invoke(ctx)
        raise typer.Exit(code)


class Between(Relayed):
    """Works in the engine's process, between two batches."""


class Beside(Relayed):
    """Works in a process of its own, while the engine is parked."""


class Aside(Relayed):
    """Works in a thread of its own in the engine's process, while the engine goes on."""


def between(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a quick command."""
    return group.command(name, cls=Between)


def beside(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a command that builds, trains or sends."""
    return group.command(name, cls=Beside)


def aside(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a command that only listens."""
    return group.command(name, cls=Aside)


def kind(root: Any, argv: Sequence[str]) -> type[Relayed] | None:
    """Which of the three the command line `argv` is; None when it is none of them, or no command at all."""
    command = root
    for word in argv:
        if word.startswith("-") or not hasattr(command, "commands"):
            break
        command = command.commands.get(word)
    return type(command) if isinstance(command, Relayed) else None


def passed_on(folder: Path) -> Mapping[str, str]:
    """The environment variables that go with a command."""
    from headwater import config

    wanted = {*PASSED_ON, *config.secret_names(folder)}
    return {name: value for name, value in os.environ.items() if name in wanted}


def stack_of(project: Path) -> "Stack":
    """The stack that a command works with: the engine's own inside the engine, else one that opens the file."""
    from headwater.stack import Stack

    host = _host.get()
    return Stack(project) if host is None else host.stack()


def with_stack(project: Path, as_json: bool, work: "Callable[[Stack], StageResult | Iterable[StageResult]]") -> None:
    """Do the work of a command on its project and show what it says."""
    from headwater.records.stage import StageResult

    with Progress(as_json) as progress, stack_of(project) as stack:
        stack.on_progress, stack.exporter = progress, export_all
        done = work(stack)
        show([done] if isinstance(done, StageResult) else done, as_json, progress.clear)


def export_all(stack: "Stack") -> "StageResult":
    """What `export` writes: the marts for BI tools and the report."""
    from headwater.console.export import export
    from headwater.console.report import write
    from headwater.records.stage import StageResult

    folder = stack.folder / "bi"
    tables = export(
        stack.warehouse, folder, on_progress=lambda what, done, of: stack.on_progress("export", what, done, of)
    )
    report = write(stack.warehouse, folder / "report.html", name=stack.config.name, currency=stack.config.currency)
    text = f"{len(tables.files)} marts, {tables.row_count:,} rows in bi/; report in bi/report.html"
    details = {
        "files": [file.relation for file in tables.files],
        "report": report.path,
        "empty_sections": report.empty_sections,
    }
    return StageResult("export", "ok", tables.row_count, text, details, (*tables.warnings, *report.warnings))
