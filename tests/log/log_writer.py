"""Appends to a log and prints the number of the last acknowledged entry: killed by test_log_kill."""

import sys
import threading
from datetime import timedelta
from pathlib import Path

from headwater.clock import FixedClock
from headwater.log import sqlite
from headwater.log.sqlite import SqliteLog
from headwater.testing.log_checks import NOW, entry


def main() -> None:
    path, start = Path(sys.argv[1]), int(sys.argv[2])
    sqlite.CHECKPOINT_BYTES = 30_000
    clock = FixedClock(NOW + timedelta(days=1))
    log = SqliteLog(path, max_age=timedelta(hours=1), clock=clock)
    said = threading.Lock()

    def work(lane: int) -> None:
        number = first = start + lane * 1_000_000
        while True:
            log.append([entry(number + n, key=f"lane{lane}") for n in range(3)])
            number += 3
            with said:
                print(f"{lane} {number}", flush=True)
            if lane == 0 and (number - first) % 30 == 0:
                log.acknowledge("engine", "rejected", log.end("rejected"))
                log.trim()
            if lane == 1 and (number - first) % 60 == 0:
                log.remove("events", lambda record: False, holding=[b"nobody"])
                log.append([entry(number, "rejected", key="goes")])
                log.remove("rejected", lambda record: record.key == "goes", holding=[b"goes"])
            if lane == 2:
                log.append([entry(number, "rejected")])

    for lane in range(1, 4):
        threading.Thread(target=work, args=(lane,), daemon=True).start()
    work(0)


if __name__ == "__main__":
    main()
