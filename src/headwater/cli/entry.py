"""Runs a command line: the only place where an error becomes a sentence and an exit code."""

import json
import sys
from collections.abc import Sequence

import typer

from headwater.cli import live, looking, making, stages  # noqa: F401  (they put their commands into the app)
from headwater.cli.apps import app
from headwater.cli.screen import console
from headwater.errors import HeadwaterError

INTERRUPTED = 130


def main() -> None:
    """Entry point of `headwater`."""
    sys.exit(execute(sys.argv[1:]))


def execute(argv: Sequence[str]) -> int:
    """Run a command line in this process and give its exit code; nothing is raised that a user could have caused."""
    as_json = "--json" in argv
    try:
        code = app(args=list(argv), prog_name="headwater", standalone_mode=False)
    except HeadwaterError as error:
        return _failed(str(error), error.exit_code, as_json)
    except (KeyboardInterrupt, typer.Abort):
        said = "interrupted; what was done so far is kept, start the command again to go on"
        return _failed(said, INTERRUPTED, as_json)
    except Exception as error:
        # click's own usage errors carry a sentence
        show = getattr(error, "show", None)
        if show is None:
            raise
        if as_json:
            return _failed(getattr(error, "message", str(error)), 2, as_json)
        show()
        return 2
    # click gives the code of a typer.Exit back; commands themselves return nothing
    return code if isinstance(code, int) else 0


def _failed(sentence: str, code: int, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"ok": False, "error": sentence, "exit_code": code}))
    else:
        from rich.text import Text

        console(stderr=True).print(Text("error: ", style="bold red") + Text(sentence))
    return code
