"""The local twins of the tools that Headwater delivers to."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal

import typer

from headwater.cli.apps import app
from headwater.cli.options import HERE, Project
from headwater.cli.screen import console

LLM_PORT = 8792
SYNTHETIC = ".synthetic"
"""A file in a project that `demo` made, whose deliveries harm nobody."""


@contextmanager
def twins_of(project: Path) -> Iterator[None]:
    """While inside, the twins of a project that `demo` made answer; every other project has none."""
    if not (project / SYNTHETIC).exists():
        yield
        return
    from headwater.testing.twins import beside

    with beside.standing(project):
        yield


@app.command()
def twin(
    name: Annotated[Literal["salesforce", "hubspot", "llm"], typer.Argument(help="which tool; llm = a language model")],
    port: Annotated[
        int | None,
        typer.Option(
            help="port on this machine; where the project looks for it, else 8790 salesforce, 8791 hubspot, 8792 llm",
            min=0,
        ),
    ] = None,
    project: Project = HERE,
) -> None:
    """A CRM on this machine that answers as the real one does, with a page that shows what arrived; Ctrl-C ends it."""
    import threading

    if name == "llm":
        _llm(port)
        return
    from headwater.testing.twins import beside, serving

    folder = project if (project / "headwater.yml").exists() else None
    made = beside.made(name, folder)
    secrets = " ".join(f"{key}={value}" for key, value in beside.secrets(made).items())
    screen = console()
    with serving.serve(made, port=beside.port(name, folder) if port is None else port) as address:
        screen.print(f"{name} twin on {address} (open it in a browser to see what arrived)", markup=False)
        screen.print(f"  in headwater.yml    options: {{{beside.OPTIONS[name]}: {address}}}", markup=False)
        screen.print(f"  in the environment  {secrets}", markup=False)
        kept = f"records are kept in {project / 'twins'}" if folder else "nothing is kept"
        screen.print(f"Ctrl-C ends it; {kept}", markup=False)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()


def _llm(port: int | None) -> None:
    """The stand-in of a language model's endpoint."""
    import threading

    from headwater.testing import llm

    screen = console()
    with llm.serve(llm.Endpoint(), port=LLM_PORT if port is None else port) as address:
        screen.print(f"llm stand-in on {address} (open it in a browser to see what was sent)", markup=False)
        settings = f"{{llm: {{enabled: true, model: stand-in, base_url: {address}/v1}}}}"
        screen.print(f"  in headwater.yml    decisions: {settings}", markup=False)
        screen.print("  in the environment  HEADWATER_LLM_KEY=none", markup=False)
        screen.print("Ctrl-C ends it; nothing is kept, and no model is in it", markup=False)
        with suppress(KeyboardInterrupt):
            threading.Event().wait()
