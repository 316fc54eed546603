"""The command line: thin, one command per stage, the same words on the screen and in `--json`.

    entry      runs a command; errors become a sentence and an exit code
    apps       the groups of commands        options    what several of them take        screen     how a result is shown
    within     where a command works: in this process, or, while an engine runs, in or beside the engine's
    making, stages, learning, looking, live, twins     the commands

Exit codes: 0 done · 1 a stage failed · 2 wrong usage · 3 a file of the project is wrong · 4 the data are wrong ·
5 a gate refused · 6 another command holds the project · 7 the log cannot be used · 130 interrupted.
"""

from headwater.cli.entry import app, main

__all__ = ["app", "main"]
