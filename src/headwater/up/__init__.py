"""`headwater up`: the collector in a process of its own, the engine in this one, and whoever types a command meanwhile.

    supervisor    the loop: batches, commands between them, commands beside the engine while it is parked, the end
    life          the engine's batches, and what follows at their boundaries
    children      the processes it starts, and starts again
    databases     those that follow databases, one each

The collector takes events into the log whatever the engine does: builds a project for the first time, is parked for a command,
is behind. It dies with this process (`leash`). The project's lock is held while the engine has the file, so that a command
that does not find the socket is told who has the project.
"""

from headwater.up.life import Batch
from headwater.up.said import Said, State
from headwater.up.supervisor import Commands, Up

__all__ = ["Batch", "Commands", "Said", "State", "Up"]
