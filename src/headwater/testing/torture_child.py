"""The processes that `torture` kills: `python -m headwater.testing.torture_child collector|engine PROJECT`.

Each writes a file when it is ready, in the folder `warehouse`: the collector its address, the engine its process id.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from headwater import config, leash
from headwater.clock import from_environment
from headwater.collect.serve import serve
from headwater.live import project as live_project
from headwater.live.engine import Engine
from headwater.log.sqlite import SqliteLog
from headwater.stack import LOG, Stack, log_to_write

COLLECTING = "warehouse/.torture_collector"
LIVE = "warehouse/.torture_engine"
_IDLE = 0.02


def collect(folder: Path) -> None:
    """The collector, on a free port."""
    settings, clock = config.load(folder), from_environment()
    collector = settings.collect.model_copy(update={"port": 0})
    serve(folder, collector, log_to_write(settings, folder, clock), clock, ready=folder / COLLECTING)


def live(folder: Path) -> None:
    """The engine, batch after batch, until SIGTERM."""
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())
    with Stack(folder) as project, project.locked("headwater torture"), SqliteLog(folder / LOG) as log:
        engine = opened(project, log)
        (folder / LIVE).write_text(str(os.getpid()), encoding="utf-8")
        while not stopping.is_set():
            if not engine.step().committed:
                stopping.wait(_IDLE)
        engine.close()


def opened(project: Stack, log: SqliteLog) -> Engine:
    """The engine of a project, with the models as they were compiled once."""
    if (project.folder / live_project.TARGET / "manifest.json").exists():
        models = live_project.read(project.warehouse, project.folder)
    else:
        models = live_project.load(project.warehouse, project.dbt)
    settings = project.config
    engine = Engine(project.warehouse, log, models, project.clock, settings.live, identity=settings.identity)
    engine.open()
    return engine


if __name__ == "__main__":
    leash.hold()
    {"collector": collect, "engine": live}[sys.argv[1]](Path(sys.argv[2]))
