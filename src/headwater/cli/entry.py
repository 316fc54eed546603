"""Runs a command line: the only place where an error becomes a sentence and an exit code."""

import sys
from collections.abc import Sequence
from importlib import import_module

import typer

from headwater import leash
from headwater.cli.apps import app, arrange
from headwater.cli.screen import failed
from headwater.errors import HeadwaterError

for _name in (
    "making",
    "stages",
    "learning",
    "speaking",
    "looking",
    "live",
    "twins",
    "databases",
    "flink",
    "log",
):  # in the order of --help
    import_module(f"headwater.cli.{_name}")

arrange()

INTERRUPTED = 130
_NO_BOOLEAN = "Input should be a valid boolean, unable to interpret input"
_BOOLEAN = "expected true or false (or 1, yes, on and 0, no, off)"
_INTERRUPTED = "interrupted; what was done so far is kept, start the command again to go on"


def main() -> None:
    """Entry point of `headwater`."""
    leash.hold()
    sys.exit(execute(sys.argv[1:]))


def execute(argv: Sequence[str]) -> int:
    """Run a command line in this process and give its exit code; nothing is raised that a user could have caused."""
    as_json = "--json" in argv
    try:
        code = app(args=list(argv), prog_name="headwater", standalone_mode=False)
    except (KeyboardInterrupt, typer.Abort):
        return failed(_INTERRUPTED, INTERRUPTED, as_json=as_json)
    except Exception as error:
        if _comes_of_an_interrupt(error):
            return failed(_INTERRUPTED, INTERRUPTED, as_json=as_json)
        if isinstance(error, HeadwaterError):
            return failed(str(error), error.exit_code, as_json=as_json)
        # click's own usage errors carry a sentence
        show = getattr(error, "show", None)
        if show is None:
            raise
        if as_json:
            said = str(getattr(error, "message", error)).replace(_NO_BOOLEAN, _BOOLEAN)
            return failed(said, 2, as_json=as_json)
        error.message = str(getattr(error, "message", "")).replace(_NO_BOOLEAN, _BOOLEAN)  # type: ignore[attr-defined]
        show()
        return 2
    if code == INTERRUPTED:  # typer has made one of a KeyboardInterrupt
        return failed(_INTERRUPTED, INTERRUPTED, as_json=as_json)
    # the code of a typer.Exit is given back; commands themselves return nothing
    return code if isinstance(code, int) else 0


def _comes_of_an_interrupt(error: BaseException | None) -> bool:
    """Whether Ctrl-C is at the root of an error: DuckDB and dbt make errors of their own of it."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False
