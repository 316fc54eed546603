"""Writes into a log on a disk that loses its power, and tells what was acknowledged and what was left: run by test_power_loss."""

import json
import random
import sqlite3
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import power

from headwater.log import file
from headwater.log.sqlite import SqliteLog
from headwater.testing.log_checks import entry


def main() -> None:
    folder, synchronous, seed = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    library = power.library()
    if library is None:
        print(json.dumps({"skipped": "this Python's SQLite cannot be reached through ctypes"}))
        return
    disk = power.install(library)
    if synchronous != "full":  # what the guard is shown to be good for
        whole = sqlite3.connect

        class Careless(sqlite3.Connection):
            def execute(self, sql: str, *rest: object) -> sqlite3.Cursor:
                return super().execute(
                    f"pragma synchronous={synchronous}" if sql == "pragma synchronous=full" else sql, *rest
                )

        file.sqlite3.connect = lambda *a, **k: whole(*a, factory=Careless, **k)
    draw = random.Random(seed)
    log = SqliteLog(folder / "disk" / "log.sqlite")
    found = []
    number = 0
    for outage in range(12):
        for _ in range(draw.randint(1, 12)):
            size = draw.choice((1, 3, 40, 700))
            log.append([entry(number + n) for n in range(size)])
            number += size
            if draw.random() < 0.2:
                log.acknowledge("engine", "events", draw.randint(0, number))
        if outage % 3 == 1:
            log._ask_for_checkpoint()
        left = folder / f"left{outage}"
        disk.lose_power(left, draw if outage % 2 else None)
        found.append({"acknowledged": number, "folder": str(left)})
    print(json.dumps({"syncs": disk.syncs, "outages": found}))
    sys.stdout.flush()
    log.close()


if __name__ == "__main__":
    main()
