"""How large a batch may be for its results to be there in time. Nothing but the standard library: every environment runs it."""

import csv
import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

LIMIT = 0.25
"""Seconds from handing an event over until its result is emitted."""
AIM = 0.2
"""Seconds that a batch should take: below the limit, because batches vary."""
LEAST, MOST = 2_000, 100_000
"""Events of a batch. On a machine so busy that the least are late, smaller ones would only be slower."""


@dataclass
class Pace:
    """Finds the size of the next batch from how long the last ones took. `least`: events of the smallest batch."""

    least: int = LEAST
    size: int = 2_000
    late: int = 0
    events: int = 0
    spent: list[tuple[float, int]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.size = max(self.size, self.least)

    def took(self, seconds: float, events: int) -> None:
        """One batch of so many events was emitted so many seconds after it was handed over."""
        self.spent.append((seconds, events))
        self.events += events
        self.late += events if seconds > LIMIT else 0
        wanted = self.size * min(1.25, max(0.5, AIM / seconds))
        self.size = int(min(MOST, max(self.least, wanted)))

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 events were emitted."""
        left = self.events / 100
        for seconds, events in sorted(self.spent, reverse=True):
            left -= events
            if left < 0:
                return seconds
        return 0.0


def batches(path: Path, pace: Pace) -> Iterator[list[bytes]]:
    """The lines of a file without its header, as many at a time as `pace` says then."""
    with path.open("rb") as file:
        next(file)
        while part := list(islice(file, pace.size)):
            yield part


def run(path: Path, pace: Pace, emit: Callable[[list[bytes]], None]) -> float:
    """Hand all of a file over, batch after batch; `emit` returns when the results are there. Seconds of all of it."""
    since = time.perf_counter()
    for part in batches(path, pace):
        at = time.perf_counter()
        emit(part)
        pace.took(time.perf_counter() - at, len(part))
    return time.perf_counter() - since


def newest(part: Iterable[bytes], so_far: str = "") -> str:
    """The greatest time of a batch's lines (it stands last in a line), as text."""
    return max(so_far, max(line[line.rindex(b",") + 1 :] for line in part).decode().strip())


def leave(path: Path, rows: Iterable[tuple[str, int, int]]) -> None:
    """Write what a reader sees: customer, sum, number."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("customer_id", "amount_cents", "events"))
        writer.writerows(rows)


def begun() -> None:
    """Tell whoever runs this child that the measured part begins now."""
    _say(phase="begun")


def ended(seconds: float, pace: Pace | None = None, **more: float) -> None:
    """That it has ended, and what the child measured of itself."""
    own = {"p99_ms": pace.p99 * 1_000, "late": pace.late, "batches": len(pace.spent)} if pace else {}
    _say(phase="ended", seconds=seconds, **own, **more)


def _say(**said: object) -> None:
    sys.stdout.write("\n" + json.dumps(said) + "\n")
    sys.stdout.flush()
