"""An engine in a process of its own, to be killed: `python live_child.py FOLDER PROJECT.pickle SECONDS [ROWS]` steps until nothing waits.

ROWS: from so many rows on models are built aside.
"""

import pickle
import sys
from datetime import UTC, timedelta
from pathlib import Path

from headwater.clock import FixedClock
from headwater.live.engine import Engine
from headwater.live.settings import LiveSettings
from headwater.log.sqlite import SqliteLog
from headwater.warehouse import Warehouse


def main(folder: Path, project: Path, seconds: float, rows: int = 10**12) -> None:
    warehouse = Warehouse(folder / "warehouse" / "shop.duckdb")
    with warehouse:
        as_of = warehouse.value("select as_of from headwater.clock")
        clock = FixedClock(as_of.replace(tzinfo=UTC) + timedelta(seconds=seconds))
        settings = LiveSettings(full_share=1.0, full_above=10**9, full_every=0.0, verify_seconds=0, aside_rows=rows)
        engine = Engine(
            warehouse,
            SqliteLog(folder / "warehouse" / "log.sqlite"),
            pickle.loads(project.read_bytes()),
            clock,
            settings,
        )
        while engine.step(limit=4).committed or engine.rebuilding:
            pass
        engine.compact()
        engine.publish()
        engine.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3]), *map(int, sys.argv[4:]))
