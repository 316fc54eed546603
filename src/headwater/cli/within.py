"""Where a command works.

    no engine            in this process, which opens the warehouse itself
    an engine runs       the command line is sent to it (relay), and there it works
        between          in the engine's process, between two batches, on its own connection: for what is quick
        anytime          the same, and also while the engine is parked: for what asks the engine alone
        beside           in a process of its own, while the engine is parked and has given the file away: for builds and training
        aside            in a thread of its own, at once: for what only listens

A command says with its decorator which of these it is; nothing else in it knows. Commands with the plain decorator of
typer (`init`, `doctor`, `up` …) always work where they were typed.
"""

import io
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

import typer
from typer.core import TyperCommand

from headwater import relay
from headwater.cli.screen import TERMINAL, Progress, Terminal, failed, show, shown_on
from headwater.errors import HeadwaterError

if TYPE_CHECKING:
    from headwater.live.engine import Engine
    from headwater.records.stage import StageResult
    from headwater.stack import Report, Stack
    from headwater.up import Batch, State

Place = Literal["between", "anytime", "beside", "aside"]

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
    "HEADWATER_LLM_KEY",
)
"""Environment variables that mean for a relayed command what they mean where it was typed, set or not; beside these, the
names of secrets that `headwater.yml` mentions (`…_env: NAME`)."""


class Host(Protocol):
    """The engine's process, as a command inside it sees it."""

    folder: Path
    """The project's."""

    def stack(self) -> "Stack":
        """A stack on the engine's own connection; closing it leaves that open."""
        ...

    def engine(self) -> "Engine | None":
        """The engine; None while there is none yet."""
        ...

    def report(self) -> "tuple[State, Report | None]":
        """How the process fares, and the project as it stands."""
        ...

    def batches(self, after: int) -> "list[Batch]":
        """What was committed after batch number `after`."""
        ...


_host: ContextVar[Host | None] = ContextVar("host", default=None)


def host() -> Host | None:
    """The engine's process, when the command works in it."""
    return _host.get()


def stopped() -> bool:
    """Whether whoever typed the command has had enough of it."""
    call = _speaking.get()
    return call is not None and call.cancelled.is_set()


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


class Anytime(Relayed):
    """As between, and also while the engine is parked: for what asks the engine and needs no file."""


class Beside(Relayed):
    """Works in a process of its own, while the engine is parked."""


class Aside(Relayed):
    """Works in a thread of its own in the engine's process, while the engine goes on."""


def between(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a quick command."""
    return group.command(name, cls=Between)


def anytime(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a quick command that a parked engine answers too."""
    return group.command(name, cls=Anytime)


def beside(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a command that builds, trains or sends."""
    return group.command(name, cls=Beside)


def aside(group: typer.Typer, name: str | None = None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Declares a command that only listens."""
    return group.command(name, cls=Aside)


class Commands:
    """Command lines that came to the engine, as its process handles them. `execute` runs one and gives its exit code."""

    def __init__(self, folder: Path, root: Any, execute: Callable[[Sequence[str]], int]) -> None:
        self._folder = folder
        self._root = root
        self._execute = execute
        sys.stdout, sys.stderr = _Routed(sys.stdout, "out"), _Routed(sys.stderr, "err")

    def place(self, argv: Sequence[str]) -> Place | None:
        """Where a command line works; None when it is not a command for the engine."""
        command = self._root
        for word in argv:
            if word.startswith("-") or not hasattr(command, "commands"):
                break
            command = command.commands.get(word)
        places: dict[type, Place] = {Between: "between", Anytime: "anytime", Beside: "beside", Aside: "aside"}
        return places.get(type(command))

    def work(self, call: relay.Call, host: Host) -> None:
        """Do a command in the calling thread, and end its call."""
        request = call.request
        speaking = _speaking.set(call)
        hosting = _host.set(host)
        try:
            with shown_on(Terminal(request.width, request.out, request.err)):
                call.end(self._execute(request.argv))
        except Exception:
            call.err(traceback.format_exc())
            call.end(1)
        finally:
            _host.reset(hosting)
            _speaking.reset(speaking)

    def fail(self, call: relay.Call, error: HeadwaterError) -> None:
        """End a call with an error, as the command itself would show it."""
        speaking = _speaking.set(call)
        try:
            with shown_on(Terminal(call.request.width, call.request.out, call.request.err)):
                call.end(failed(str(error), error.exit_code, as_json="--json" in call.request.argv))
        finally:
            _speaking.reset(speaking)

    def environment(self, call: relay.Call) -> dict[str, str]:
        """The environment of a command beside the engine: ours, but what is passed on means what it means where it was typed."""
        request = call.request
        typed = {*PASSED_ON, *secret_names(self._folder)}
        ours = {name: value for name, value in os.environ.items() if name not in typed}
        screen = json.dumps({"width": request.width, "out": request.out, "err": request.err})
        return {**ours, **request.env, BESIDE: "1", TERMINAL: screen}


_speaking: ContextVar[relay.Call | None] = ContextVar("call", default=None)


class _Routed(io.TextIOBase):
    """Standard output or error of the engine's process: what a command says goes to whoever typed it."""

    def __init__(self, own: TextIO, name: Literal["out", "err"]) -> None:
        self._own = own
        self._name = name

    def write(self, text: str) -> int:
        call = _speaking.get()
        if call is None:
            return self._own.write(text)
        (call.out if self._name == "out" else call.err)(text)
        return len(text)

    def flush(self) -> None:
        self._own.flush()

    def isatty(self) -> bool:
        call = _speaking.get()
        return self._own.isatty() if call is None else bool(getattr(call.request, self._name))

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return "utf-8"


def passed_on(folder: Path) -> Mapping[str, str]:
    """The environment variables that go with a command."""
    wanted = {*PASSED_ON, *secret_names(folder)}
    return {name: value for name, value in os.environ.items() if name in wanted}


def secret_names(folder: Path) -> set[str]:
    """Names of environment variables that the settings mention, whether or not the settings are valid otherwise."""
    try:
        text = (folder / "headwater.yml").read_text(encoding="utf-8")
    except OSError:
        return set()
    return set(re.findall(r"\b\w+_env:\s*[\"']?([A-Za-z_][A-Za-z0-9_]*)", text))


def stack_of(project: Path) -> "Stack":
    """The stack that a command works with: the engine's own inside the engine, else one that opens the file."""
    from headwater.stack import Stack

    engine = _host.get()
    return Stack(project) if engine is None else engine.stack()


def with_stack(
    project: Path,
    as_json: bool,
    work: "Callable[[Stack], StageResult | Iterable[StageResult]]",
    *,
    only_new: bool = False,
) -> None:
    """Do the work of a command on its project and show what it says; `only_new`: of its warnings those that are new."""
    from headwater.records.stage import StageResult

    with Progress(as_json) as progress, stack_of(project) as stack:
        stack.on_progress, stack.exporter = progress, export_all
        done = work(stack)
        show([done] if isinstance(done, StageResult) else done, as_json, progress.clear, only_new=only_new)


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
