"""Commands that make a project."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from headwater.cli.apps import app
from headwater.cli.options import Json
from headwater.cli.screen import Progress, console, print_json
from headwater.cli.twins import SYNTHETIC, twins_of
from headwater.cli.within import with_stack
from headwater.errors import UsageError


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="folder to make")],
    source: Annotated[Path | None, typer.Option("--from", help="folder with the shop's CSV and Parquet files")] = None,
    template: Annotated[
        str | None,
        typer.Option("--template", help="a ready project: online-retailer (a Postgres database to data products)"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Make a project; with --from, propose a mapping of your files and say what could not be mapped."""
    from headwater import scaffold

    if template is not None:
        if source is not None:
            raise UsageError("a template brings its own sources: leave out --from, or leave out --template")
        with Progress(as_json) as progress:
            made = scaffold.init_template(folder, template, on_step=lambda text: progress("init", text, 0, 0))
        if as_json:
            print_json(made)
            return
        _print_made(made)
        print(f"next: cd {folder}, fill in .env.example as .env, then `headwater cdc setup` and `headwater up`")
        return
    with Progress(as_json) as progress:
        made = scaffold.init(folder, source, on_step=lambda text: progress("init", text, 0, 0))
    if as_json:
        print_json(made)
        return
    _print_made(made)
    if source is not None:
        print(f"next: cd {folder} && headwater run")
    print(
        f"{'or:  ' if source else 'next:'} cd {folder} && headwater up     takes events over HTTP and keeps the models live"
    )


def _print_made(made: Any) -> None:
    from rich.text import Text

    screen = console()
    screen.print(Text("✓ ", style="green") + Text(f"project made in {made.folder}", style="bold"))
    for sentence in made.sentences:
        screen.print(Text(f"    {sentence}"))


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
    from headwater.testing.shop_history import earlier_campaign
    from headwater.testing.twins import beside

    mark = folder / SYNTHETIC
    if (folder / "headwater.yml").exists() and not mark.exists():
        raise UsageError(
            f"{folder} holds a project that `demo` did not make, and `demo` delivers; choose another folder, or use `headwater run` in this one"
        )
    if not mark.exists():
        data = folder / "data"
        data.mkdir(parents=True, exist_ok=True)
        with Progress(as_json) as progress:
            progress("demo", "making a shop", 0, 0)
            Shop(customers=customers, seed=seed).write(data)
            made = scaffold.init(folder, data, on_step=lambda text: progress("demo", text, 0, 0))
            beside.add(folder)
        mark.write_text(
            "The files in data/ are made up; `headwater demo` wrote them, and may deliver what comes of them.\n",
            encoding="utf-8",
        )
        if not as_json:
            _print_made(made)
    with twins_of(folder):
        with_stack(folder, as_json, lambda stack: stack.run(deliver=True, history=earlier_campaign))
    if not as_json:
        _where_to_look(folder)


def _where_to_look(folder: Path) -> None:
    screen = console()
    screen.print("\nLook at", style="bold", highlight=False)
    for path, text in (
        ("bi/report.html", "the report: segments, retention, decisions, what was delivered"),
        ("outbox/", "what was sent as files"),
        ("bi/", "every mart as CSV and Parquet"),
        ("warehouse/shop.duckdb", "the warehouse itself"),
        ("headwater.yml", "every setting"),
    ):
        screen.print(f"  {folder / path!s:<40} {text}", markup=False, highlight=False)
    for name, text in (("salesforce", "the leads that arrived there"), ("hubspot", "the contacts that arrived there")):
        screen.print(f"  headwater twin {name + f' -C {folder}':<25} {text}", markup=False, highlight=False)
    if shutil.which("headwater") is None:
        bin_folder = Path(sys.executable).parent
        screen.print(f"\nPut the commands on your path: . {bin_folder / 'activate'}", markup=False, highlight=False)
