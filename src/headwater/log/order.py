"""One order for the records of several partitions, for one reader.

A partition numbers its own records from 0, and between partitions there is no order. A reader needs one number that says
how far it is, so it counts: a place is the next offset of every partition, and its number is their sum. Reading one record
moves one partition, so numbers grow, and with one partition the number is Kafka's offset plus one. The same number may mean
another place to another reader, or after a restart; therefore whoever keeps a number keeps its place beside it.
"""

import bisect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Place = Mapping[int, int]
"""Next offset to read, by partition."""
Bounds = Mapping[int, tuple[int, int]]
"""First offset that is there and the offset after the newest, by partition."""


def number_of(place: Place) -> int:
    """How many records are before a place."""
    return sum(place.values())


def kept(place: Place, bounds: Bounds) -> dict[int, int]:
    """The place, moved on to what is still there."""
    return {number: max(low, place.get(number, 0)) for number, (low, _) in bounds.items()}


def somewhere(number: int, bounds: Bounds) -> dict[int, int]:
    """Some place with this number: the end of the topic, taken back evenly. The only one where there is one partition."""
    if len(bounds) == 1:
        return dict.fromkeys(bounds, number)
    place, left = {}, number
    by_size = sorted(bounds.items(), key=lambda one: one[1][1])
    for rest, (partition, (_, high)) in zip(range(len(bounds), 0, -1), by_size, strict=True):
        place[partition] = min(high, left // rest)
        left -= place[partition]
    return place


@dataclass
class _Run:
    """Records of one partition that were read one after the other. `begin`: the number before the first."""

    begin: int
    partition: int
    first: int
    next: int


class Order:
    """The order in which one reader had the records of a topic, as far back as `keep` changes of partition."""

    def __init__(self, start: Place, *, keep: int = 20_000) -> None:
        self._keep = keep
        self._start = dict(start)
        self._end = dict(start)
        self._runs: list[_Run] = []

    @property
    def begin(self) -> int:
        """The smallest number of which the place is known."""
        return sum(self._start.values())

    @property
    def end(self) -> int:
        """The number of the newest record that was read."""
        return sum(self._end.values())

    @property
    def newest(self) -> Place:
        """The place of `end`."""
        return dict(self._end)

    def add(self, partition: int, offset: int) -> int:
        """The record of this partition was read next, after whatever has gone before it; its number."""
        run = self._runs[-1] if self._runs else None
        before = self._end.get(partition, 0)
        if run is None or run.partition != partition or run.next != offset or before != offset:
            run = _Run(self.end, partition, before, before)
            self._runs.append(run)
            self._forget()
        run.next = offset + 1
        self._end[partition] = offset + 1
        return run.begin + run.next - run.first

    def extend(self, partition: int, end: int) -> None:
        """The records of the newest run up to before `end` were read too, one after the other."""
        run = self._runs[-1]
        assert run.partition == partition and run.next <= end, "only the newest run grows"
        run.next = self._end[partition] = end

    def place(self, number: int) -> Place | None:
        """Where the reader was when it had the record `number`; None when that is not known."""
        if number == self.end:
            return dict(self._end)
        if not self.begin <= number < self.end:
            return None
        place = dict(self._start)
        for run in self._runs:
            if run.begin >= number:
                break
            place[run.partition] = min(run.next, run.first + number - run.begin)
        return place

    def after(self, number: int) -> Iterator[tuple[int, int, int]]:
        """What was read after `number`, in its order: partition, first offset, the offset where it ends (exclusive)."""
        start = max(0, bisect.bisect_right(self._runs, number, key=lambda run: run.begin) - 1)
        for run in self._runs[start:]:
            first = run.first + max(0, number - run.begin)
            if first < run.next:
                yield run.partition, first, run.next

    def number(self, partition: int, offset: int) -> int | None:
        """The number that this record had; None when that is not known."""
        for run in reversed(self._runs):
            if run.partition == partition and run.first <= offset < run.next:
                return run.begin + offset + 1 - run.first
        return None

    def _forget(self) -> None:
        if len(self._runs) > 2 * self._keep:
            for run in self._runs[: self._keep]:
                self._start[run.partition] = run.next
            del self._runs[: self._keep]
