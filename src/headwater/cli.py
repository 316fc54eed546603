"""The command line: thin, one command per stage, the same words on the screen and in `--json`.

Exit codes: 0 done · 1 a stage failed · 2 wrong usage · 3 a file of the project is wrong · 4 the data are wrong ·
5 a gate refused · 6 another command holds the project · 130 interrupted.
"""

import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater import __version__
from headwater.errors import HeadwaterError, InvalidValue, UsageError

if TYPE_CHECKING:
    from headwater.records.stage import StageResult
    from headwater.stack import Stack

app = typer.Typer(
    help="Headwater: from your warehouse to guardrailed actions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
segment_app = typer.Typer(help="Segments by model: train, assign, monitor, promote, rollback.", no_args_is_help=True)
app.add_typer(segment_app, name="segment")

Project = Annotated[Path, typer.Option("--project", "-C", envvar="HEADWATER_PROJECT", help="the project's folder")]
Json = Annotated[bool, typer.Option("--json", help="print the result as JSON")]
HERE = Path()


def main() -> None:
    """Entry point: run a command, and turn errors into a sentence and an exit code."""
    try:
        app(standalone_mode=False)
    except HeadwaterError as error:
        _fail(str(error), error.exit_code)
    except typer.Exit as stop:
        sys.exit(stop.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        _fail("interrupted; what was done so far is kept, start the command again to go on", 130)
    except Exception as error:
        # click's own usage errors carry an exit code and a sentence
        show = getattr(error, "show", None)
        if show is None:
            raise
        if "--json" in sys.argv:
            _fail(getattr(error, "message", str(error)), 2)
        show()
        sys.exit(2)


def _fail(sentence: str, code: int) -> None:
    if "--json" in sys.argv:
        print(json.dumps({"ok": False, "error": sentence, "exit_code": code}))
    else:
        from rich.console import Console
        from rich.text import Text

        Console(stderr=True, soft_wrap=True).print(Text("error: ", style="bold red") + Text(sentence))
    sys.exit(code)


def _plain(value: Any) -> Any:
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


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=_plain, ensure_ascii=False))


def _show(results: "Iterable[StageResult]", as_json: bool, before_line: Callable[[], None]) -> None:
    """Print stages as they end; with `--json` one value after the last."""
    collected = []
    for result in results:
        collected.append(result)
        before_line()
        if not as_json:
            _line(result.status, result.stage, result.message, result.warnings)
    if as_json:
        _print_json(collected[0] if len(collected) == 1 else collected)
    if any(result.status == "failed" for result in collected):
        raise typer.Exit(1)


_SIGNS = {
    "ok": ("✓", "green"),
    "skipped": ("–", "yellow"),
    "running": ("…", "cyan"),
    "warn": ("!", "yellow"),
    "interrupted": ("✗", "red"),
    "failed": ("✗", "red"),
    "wrong": ("✗", "red"),
}


def _line(status: str, name: str, sentence: str, warnings: Iterable[str] = ()) -> None:
    """A sign, what it is about, a sentence, and its warnings below it; on a terminal wrapped with a hanging indent."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(soft_wrap=True)
    for mark, about, text in [(status, name, sentence), *(("warn", "", warning) for warning in warnings)]:
        sign, style = _SIGNS[mark]
        if console.is_terminal:
            row = Table.grid(padding=(0, 1))
            row.add_column()
            row.add_column(min_width=26)
            row.add_column()
            row.add_row(Text(sign, style=style), Text(about, style="bold"), Text(text))
            console.print(row, soft_wrap=False)
        elif about:
            console.print(Text(f"{sign} {about:<26} {text}"))
        else:
            console.print(Text(f"    {sign} {text}"))


class _Progress:
    """A bar on the terminal while something works; nothing at all when the output is not a terminal."""

    def __init__(self, as_json: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.table import Column

        console = Console(stderr=True)
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("[bold]{task.fields[stage]}"),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn(
                "{task.description}", style="dim", table_column=Column(no_wrap=True, max_width=36, overflow="ellipsis")
            ),
            console=console,
            transient=True,
            redirect_stdout=False,
            disable=as_json or not console.is_terminal,
        )
        self._task: Any = None

    def __enter__(self) -> "_Progress":
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


def _with_stack(project: Path, as_json: bool, work: "Callable[[Stack], StageResult | Iterable[StageResult]]") -> None:
    from headwater.records.stage import StageResult
    from headwater.stack import Stack

    with _Progress(as_json) as progress, Stack(project, on_progress=progress, exporter=_export) as stack:
        done = work(stack)
        _show([done] if isinstance(done, StageResult) else done, as_json, progress.clear)


def _export(stack: "Stack") -> "StageResult":
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


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="print the version")] = False) -> None:
    if version:
        print(__version__)
        raise typer.Exit


# ---------------------------------------------------------------------- making a project


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder to make")],
    source: Annotated[Path | None, typer.Option("--from", help="folder with the shop's CSV and Parquet files")] = None,
    as_json: Json = False,
) -> None:
    """Make a project; with --from, propose a mapping of your files and say what could not be mapped."""
    from headwater import scaffold

    with _Progress(as_json) as progress:
        made = scaffold.init(folder, source, on_step=lambda text: progress("init", text, 0, 0))
    if as_json:
        _print_json(made)
        return
    _print_made(made)
    print(f"next: cd {folder} && headwater run")


def _print_made(made: Any) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console(soft_wrap=True)
    console.print(Text("✓ ", style="green") + Text(f"project made in {made.folder}", style="bold"))
    for sentence in made.sentences:
        console.print(Text(f"    {sentence}"))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="folder to make")] = Path("shop"),
    customers: Annotated[int, typer.Option(help="customers of the synthetic shop", min=100)] = 2_000,
    seed: Annotated[int, typer.Option(help="seed of the synthetic shop")] = 7,
    as_json: Json = False,
) -> None:
    """Make a synthetic shop and take it through the whole loop: models, segments, decisions, delivery, report."""
    from headwater import scaffold
    from headwater.testing.shop import Shop

    if not (folder / "headwater.yml").exists():
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        with _Progress(as_json) as progress:
            progress("demo", "making a shop", 0, 0)
            Shop(customers=customers, seed=seed).write(data)
            made = scaffold.init(folder, data, on_step=lambda text: progress("demo", text, 0, 0))
        if not as_json:
            _print_made(made)
    _with_stack(folder, as_json, lambda stack: stack.run(deliver=True))
    if not as_json:
        _where_to_look(folder)


def _where_to_look(folder: Path) -> None:
    from rich.console import Console

    console = Console(soft_wrap=True, highlight=False)
    console.print("\nLook at", style="bold")
    for path, text in (
        ("bi/report.html", "the report: segments, retention, decisions, what was delivered"),
        ("outbox/", "what was sent, as files"),
        ("bi/", "every mart as CSV and Parquet"),
        ("warehouse/shop.duckdb", "the warehouse itself"),
        ("headwater.yml", "every setting"),
    ):
        console.print(f"  {folder / path!s:<40} {text}", markup=False)


# ---------------------------------------------------------------------- stages


@app.command()
def run(project: Project = HERE, as_json: Json = False) -> None:
    """All stages in order: seed, build, segment, build, decide, plan, export."""
    _with_stack(project, as_json, lambda stack: stack.run())


@app.command()
def seed(project: Project = HERE, as_json: Json = False) -> None:
    """Load the shop's files into raw tables, set the clock, load dbt's seeds."""
    _with_stack(project, as_json, lambda stack: stack.seed())


@app.command()
def build(
    project: Project = HERE,
    part: Annotated[str, typer.Option(help="all, upstream (of customer_segments) or downstream")] = "all",
    as_json: Json = False,
) -> None:
    """Build and test the dbt models."""
    if part not in ("all", "upstream", "downstream"):
        raise InvalidValue(f"--part: found {part!r}; expected all, upstream or downstream")
    _with_stack(project, as_json, lambda stack: stack.build(part))  # type: ignore[arg-type]


@app.command()
def test(project: Project = HERE, as_json: Json = False) -> None:
    """Run the data-quality tests on the tables as they are."""
    _with_stack(project, as_json, lambda stack: stack.test())


@app.command()
def docs(project: Project = HERE, as_json: Json = False) -> None:
    """Write dbt's documentation."""
    _with_stack(project, as_json, lambda stack: stack.docs())


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


@segment_app.command("train")
def segment_train(project: Project = HERE, as_json: Json = False) -> None:
    """Fit a new version; the promotion gate decides whether it becomes the champion."""
    _with_stack(project, as_json, lambda stack: stack.segment_train())


@segment_app.command("assign")
def segment_assign(
    project: Project = HERE,
    publish: Annotated[bool, typer.Option(help="also write seeds/customer_segments.csv")] = True,
    as_json: Json = False,
) -> None:
    """Score every customer with the champion; keep the history of memberships."""
    _with_stack(project, as_json, lambda stack: stack.segment_assign(publish=publish))


@segment_app.command("monitor")
def segment_monitor(project: Project = HERE, as_json: Json = False) -> None:
    """Measure drift, shares, transitions."""
    _with_stack(project, as_json, lambda stack: stack.segment_monitor())


@segment_app.command("due")
def segment_due(project: Project = HERE, as_json: Json = False) -> None:
    """Say whether a retrain is due, and why."""
    _with_stack(project, as_json, lambda stack: stack.segment_due())


@segment_app.command("promote")
def segment_promote(
    version: Annotated[int, typer.Argument(help="version to make the champion")],
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Make a version the champion, if the gate lets it pass."""
    _with_stack(project, as_json, lambda stack: stack.segment_promote(version))


@segment_app.command("rollback")
def segment_rollback(project: Project = HERE, as_json: Json = False) -> None:
    """Make the champion before this one the champion again."""
    _with_stack(project, as_json, lambda stack: stack.segment_rollback())


Segment = Annotated[str, typer.Option(envvar="SEGMENT", help="a segment, or all")]
Goal = Annotated[str | None, typer.Option(envvar="GOAL", help="90d_clv, engagement, conversion or retention")]
DiscountCap = Annotated[float | None, typer.Option(envvar="DISCOUNT_CAP", help="largest discount, percent (0 to 100)")]
SuppressHours = Annotated[float | None, typer.Option(envvar="SUPPRESS_HOURS", help="hours of silence after a contact")]


@app.command()
def decide(
    project: Project = HERE,
    segment: Segment = "all",
    goal: Goal = None,
    discount_cap: DiscountCap = None,
    suppress_hours: SuppressHours = None,
    as_json: Json = False,
) -> None:
    """Choose the next best action for every customer, inside the guardrails, and log it."""
    _with_stack(
        project,
        as_json,
        lambda stack: stack.decide(segment, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours),
    )


@app.command()
def plan(
    sync: Annotated[str | None, typer.Argument(help="a sync; none = all of them")] = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Write what each sync would send: row by row, old → new, and who is held back by which rule."""
    _with_stack(project, as_json, lambda stack: stack.plan(sync))


@app.command()
def activate(
    project: Project = HERE,
    sync: Annotated[list[str] | None, typer.Option(help="only these syncs")] = None,
    plan_file: Annotated[Path | None, typer.Option("--plan", help="send exactly this plan, or refuse")] = None,
    segment: Segment = "all",
    dry_run: Annotated[bool, typer.Option(envvar="DRY_RUN", help="show what would be sent, call nobody")] = True,
    goal: Goal = None,
    discount_cap: DiscountCap = None,
    suppress_hours: SuppressHours = None,
    as_json: Json = False,
) -> None:
    """Decide for a segment, plan, and deliver; a dry run (the default) calls no destination."""
    _with_stack(
        project,
        as_json,
        lambda stack: stack.activate(
            segment,
            plan_file=plan_file,
            syncs=sync,
            dry_run=dry_run,
            goal=goal,
            discount_cap=discount_cap,
            suppress_hours=suppress_hours,
        ),
    )


@app.command()
def export(project: Project = HERE, as_json: Json = False) -> None:
    """Write bi/*.csv, bi/*.parquet and bi/report.html."""
    _with_stack(project, as_json, lambda stack: stack.export())


@app.command()
def retry(
    sync: Annotated[str, typer.Argument(help="a sync")],
    where: Annotated[str | None, typer.Option(help="SQL condition on headwater.outbox, e.g. \"code = '503'\"")] = None,
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Let failed and held rows of a sync go out again with its next run."""
    _with_stack(project, as_json, lambda stack: stack.retry(sync, where))


@app.command("kill-switch")
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
    _with_stack(project, as_json, lambda stack: stack.kill_switch(state, scope, reason))


@app.command()
def status(project: Project = HERE, as_json: Json = False) -> None:
    """The last run of each stage: when, how long, how many rows, as of when, and what it warned of."""
    from headwater.stack import Stack

    with Stack(project) as stack:
        stages = stack.status()
    if as_json:
        _print_json(stages)
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
        _line(row["status"], row["stage"], f"{when}: {row['message'] or row['status']}", row["warnings"])
    as_of = {row["as_of"] for row in stages if row["as_of"]}
    if as_of:
        print(f"as of {max(as_of):%Y-%m-%d %H:%M} UTC")


@app.command()
def syncs(project: Project = HERE, as_json: Json = False) -> None:
    """Each sync: its last run, rows by state, how fresh it is."""
    from headwater.stack import Stack

    with Stack(project) as stack:
        found = stack.syncs()
    if as_json:
        _print_json([asdict(one) for one in found])
        return
    if not found:
        print("headwater.yml declares no sync")
    for one in found:
        when = f"{one.last_run_at:%Y-%m-%d %H:%M:%S} UTC" if one.last_run_at else "never ran"
        counts = f"{one.confirmed:,} confirmed, {one.ready:,} ready, {one.held:,} held, {one.failed:,} failed"
        status = "failed" if one.status in ("failed", "stopped", "partial") else "ok" if one.last_run_at else "skipped"
        _line(status, one.sync, f"to {one.destination}, {when}: {counts}; {one.message or 'nothing was sent yet'}", ())


@app.command()
def doctor(project: Project = HERE, as_json: Json = False) -> None:
    """Look at all that a run needs: Python, disk, settings, mapping, lock, warehouse, destinations, secrets."""
    from headwater.doctor import examine

    checks = examine(project)
    wrong = any(check.status == "wrong" for check in checks)
    if as_json:
        _print_json({"ok": not wrong, "checks": [asdict(check) for check in checks]})
    else:
        for check in checks:
            _line(check.status, check.name, check.sentence)
    if wrong:
        raise typer.Exit(1)
