"""A server of its own for the row of decisions on demand: `python -m benchmarks.realtime_child FOLDER`.

It opens the warehouse of `candidates_1m`, writes its address to `FOLDER/ready`, and ends at SIGTERM.
"""

import os
import signal
import sys
import threading
from pathlib import Path

from benchmarks.realtime import KEY
from headwater.clock import SystemClock
from headwater.decisions.realtime.serve import DecisionServer
from headwater.decisions.realtime.settings import RealtimeSettings
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import DEFAULT
from headwater.warehouse import Warehouse


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["HEADWATER_DECIDE_KEY"] = KEY
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    settings = DecisionSettings(realtime=RealtimeSettings(port=0))
    with Warehouse(folder / "candidates.duckdb") as warehouse:
        server = DecisionServer(settings, SystemClock(), DEFAULT, lambda *_: None)
        server.start(warehouse)
        aside = folder / "ready.new"
        aside.write_text(server.address)
        aside.replace(folder / "ready")
        stop.wait()
        server.close()


if __name__ == "__main__":
    main()
