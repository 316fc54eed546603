"""What one row of the table is, and how its seconds are measured."""

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Measured:
    """What a bench function found. `size` says how much was done, in words.

    `bound` is what the same work costs without Headwater, in seconds, measured beside it; where a row is judged by a rate
    or a limit alone it is the seconds that the bar allows. `ok` is the bench's own judgement against its bar.
    `peak_mb` is megabytes (10^6) of resident memory. `facts`: more figures, for a table of their own on the page.
    """

    size: str
    seconds: float
    peak_mb: float
    bound: float
    ok: bool
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float:
        return self.seconds / self.bound


def peak_mb() -> float:
    """Most memory that this process has held so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000


def children_peak_mb() -> float:
    """Most memory that one child of this process has held, MB."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1_000


def seconds(work: Callable[[], Any]) -> float:
    """How long `work` takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def turns(work: Callable[[], Any], bound: Callable[[], Any], rounds: int = 3) -> tuple[float, float, float]:
    """(seconds, bound, peak_mb): the best of `rounds` turns each, taken in turn, so that a busy moment hits both.

    The peak is taken after the first turn of `work`, before the bound has run.
    """
    found, limits, peak = [], [], 0.0
    for nth in range(rounds):
        found.append(seconds(work))
        if nth == 0:
            peak = peak_mb()
        limits.append(seconds(bound))
    return min(found), min(limits), peak
