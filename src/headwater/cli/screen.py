"""How a result is shown: on a terminal, in a pipe, as JSON.

A command that works for somebody else's terminal (`within`) shows things as that terminal wants them: `shown_on` says which.
"""

import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, dataclass, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from headwater.records.counted import counted

if TYPE_CHECKING:
    from rich.console import Console

    from headwater.records.stage import StageResult
    from headwater.up import Said

TERMINAL = "HEADWATER_TERMINAL"
"""Environment variable of a command that works beside the engine: the terminal of whoever typed it, as JSON."""


@dataclass(frozen=True)
class Terminal:
    """Somebody else's screen: its columns, and whether its standard output and standard error are terminals."""

    width: int
    out: bool
    err: bool


_elsewhere: ContextVar[Terminal | None] = ContextVar("terminal", default=None)


@contextmanager
def shown_on(terminal: Terminal) -> Iterator[None]:
    """Inside, everything is shown as this terminal wants it."""
    token = _elsewhere.set(terminal)
    try:
        yield
    finally:
        _elsewhere.reset(token)


def console(*, stderr: bool = False) -> "Console":
    """Where sentences are printed."""
    from rich.console import Console

    terminal = _elsewhere.get()
    if terminal is None and (given := os.environ.get(TERMINAL)):
        terminal = Terminal(**json.loads(given))
    if terminal is None:
        return Console(stderr=stderr, soft_wrap=True)
    forced = terminal.err if stderr else terminal.out
    return Console(stderr=stderr, soft_wrap=True, width=terminal.width, force_terminal=forced)


def plain(value: Any) -> Any:
    """What JSON can hold: dates as ISO 8601, money as text, paths as text."""
    if is_dataclass(value) and not isinstance(value, type):
        return asdict(value)
    if isinstance(value, datetime | date):
        return value.isoformat()
    if isinstance(value, Decimal | Path):
        return str(value)
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    raise TypeError(f"{type(value).__name__} has no JSON form")


def print_json(value: Any) -> None:
    print(json.dumps(value, default=plain, ensure_ascii=False))


def failed(sentence: str, code: int, *, as_json: bool) -> int:
    """Show an error; the answer is its exit code."""
    if as_json:
        print(json.dumps({"ok": False, "error": sentence, "exit_code": code}))
    else:
        from rich.text import Text

        screen = console(stderr=True)
        screen.print(Text("error: ", style="bold red") + Text(sentence), soft_wrap=not screen.is_terminal)
    return code


def show(
    results: "Iterable[StageResult]", as_json: bool, before_line: Callable[[], None], *, only_new: bool = False
) -> None:
    """Print stages as they end; with `--json` one value after the last. `only_new`: of warnings that the stage said when it was
    done last time, only how many they are."""
    collected = []
    for result in results:
        collected.append(result)
        before_line()
        if not as_json:
            line(result.status, result.stage, result.message, _warnings(result) if only_new else result.warnings)
    if as_json:
        print_json(collected[0] if len(collected) == 1 else collected)
    if any(result.status == "failed" for result in collected):
        raise typer.Exit(1)


def _warnings(result: "StageResult") -> list[str]:
    """The new ones, and how many are as before."""
    new = list(result.warnings[: len(result.warnings) - result.repeated])
    if result.repeated:
        what = counted(result.repeated, "warning") if not new else f"{result.repeated:,} more"
        new.append(
            f"{what} as in the last run; `headwater status --warnings` shows {'it' if result.repeated == 1 else 'them'}"
        )
    return new


def table(rows: Sequence[Mapping[str, Any]]) -> None:
    """Rows of a query; where it is no terminal, tab-separated with a head, so that other programs can read them."""
    from rich.table import Table

    screen = console()
    if not rows:
        print("no rows")
    elif screen.is_terminal:
        shown = Table(*rows[0], box=None, header_style="bold", pad_edge=False)
        for row in rows:
            shown.add_row(*("" if value is None else str(value) for value in row.values()))
        screen.print(shown, soft_wrap=False)
    else:
        print("\t".join(rows[0]))
        for row in rows:
            print("\t".join("" if value is None else str(value) for value in row.values()))


_SIGNS = {
    "ok": ("✓", "green"),
    "skipped": ("–", "yellow"),
    "running": ("…", "cyan"),
    "note": ("·", "dim"),
    "warn": ("!", "yellow"),
    "refused": ("!", "yellow"),
    "interrupted": ("✗", "red"),
    "failed": ("✗", "red"),
    "wrong": ("✗", "red"),
}


def line(status: str, name: str, sentence: str, warnings: Iterable[str] = ()) -> None:
    """A sign, what it is about, a sentence, and its warnings below it; on a terminal wrapped with a hanging indent."""
    from rich.table import Table
    from rich.text import Text

    screen = console()
    for mark, about, text in [(status, name, sentence), *(("warn", "", warning) for warning in warnings)]:
        sign, style = _SIGNS[mark]
        if screen.is_terminal:
            row = Table.grid(padding=(0, 1))
            row.add_column()
            row.add_column(min_width=26)
            row.add_column()
            row.add_row(Text(sign, style=style), Text(about, style="bold"), Text(text))
            screen.print(row, soft_wrap=False)
        elif about:
            screen.print(Text(f"{sign} {about:<26} {text}"))
        else:
            screen.print(Text(f"    {sign} {text}"))


class Progress:
    """A bar on the terminal while something works; nothing at all when the output is not a terminal."""

    def __init__(self, as_json: bool) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        screen = console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[stage]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn(
                "{task.description}", style="dim", table_column=Column(no_wrap=True, max_width=36, overflow="ellipsis")
            ),
            console=screen,
            transient=True,
            redirect_stdout=False,
            disable=as_json or not screen.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def clear(self) -> None:
        """Take the bar away, so that a line can be printed; the next call brings a new one."""
        self._bar.stop()
        if self._task is not None:
            self._bar.remove_task(self._task)
            self._task = None

    def __call__(self, stage: str, text: str, done: int, total: int) -> None:
        if self._task is None or self._bar.tasks[0].fields["kind"] != (stage, total):
            self.clear()
            self._bar.start()
            self._task = self._bar.add_task(text, stage=stage, total=total or None, kind=(stage, total))
        self._bar.update(self._task, description=text, completed=done)


class Stages:
    """The lines of `headwater up`: on a terminal one per stage, each kept up to date in its place; else a line per event."""

    def __init__(self, as_json: bool) -> None:
        from rich.live import Live

        self._as_json = as_json
        self._screen = console()
        self._said: dict[str, Said] = {}
        self._lock = threading.Lock()
        self._live = Live(console=self._screen, auto_refresh=False, redirect_stdout=False, redirect_stderr=False)

    def __enter__(self) -> "Stages":
        if self._in_place:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    @property
    def _in_place(self) -> bool:
        return self._screen.is_terminal and not self._as_json

    def say(self, said: "Said") -> None:
        """Show what is new; from any thread."""
        with self._lock:
            self._show(said)

    def _show(self, said: "Said") -> None:
        if self._as_json:
            print(json.dumps(asdict(said), default=plain, ensure_ascii=False), flush=True)
        elif self._in_place:
            self._said[said.stage] = said
            self._live.update(self._table(), refresh=True)
        elif not said.passing:
            line(said.status, said.stage, said.sentence, said.warnings)

    def _table(self) -> Any:
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 1))
        grid.add_column()
        grid.add_column(min_width=12)
        grid.add_column()
        for said in self._said.values():
            sign, style = _SIGNS[said.status]
            text = Text(said.sentence)
            for warning in said.warnings:
                text.append(f"\n! {warning}", style="yellow")
            grid.add_row(Text(sign, style=style), Text(said.stage, style="bold"), text)
        return grid
