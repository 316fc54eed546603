"""Pathway, in an environment of its own (requirements/peers.in): `python -m benchmarks.peers.pathway_child INPUT OUTPUT`.

Its own operators for this query: `forget` takes an event out again once the newest event is 30 days younger, and `groupby` with
`reduce` keeps the sums. A connector reads the lines and commits every 100 ms; while 10,000 events wait for the engine the
reading waits too, so that a result is there in time. Results are taken by `subscribe`, as an application would, into a
dictionary; nothing is written to a disk and no state is persisted. Events of a batch with one time of the engine share a result.
The clock of the stream is its newest event. It takes effect with the batch after the one that moved it, so a reader is one batch
behind with what has expired. One worker thread: with two (`PATHWAY_THREADS=2`) most of what had expired stayed, and it was no faster.
"""

import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

# pyrefly: ignore [missing-import]  (an environment of its own)
import pathway as pw

from benchmarks.peers.pace import LIMIT, begun, ended, leave

WAITING = 10_000
PROBE = 1_000
"""Of every so many events the time until its customer's result is measured."""


class Event(pw.Schema):
    customer_id: str
    amount_cents: int
    ts: pw.DateTimeNaive


class Lines(pw.io.python.ConnectorSubject):
    """The file, line by line; then, when all results of it are there, the heartbeat."""

    deletions_enabled = False

    def __init__(self, given: Path, output: Path) -> None:
        super().__init__()
        self.given, self.output = given, output
        self.seen: dict[str, tuple[int, int]] = {}
        self.probes: dict[str, float] = {}
        self.spent: list[float] = []
        self.changed = time.perf_counter()

    def run(self) -> None:
        begun()
        since = time.perf_counter()
        with (self.given / "events.csv").open() as file:
            next(file)
            for number, line in enumerate(file):
                customer = self._hand_over(line)
                if number % PROBE == 0:
                    self.probes.setdefault(customer, time.perf_counter())
        self.commit()
        while time.perf_counter() - self.changed < 2.0:  # nothing has changed for two seconds: all of it is there
            time.sleep(0.05)
        spent = sorted(self.spent)
        late = sum(one > LIMIT for one in spent) * PROBE
        ended(self.changed - since, p99_ms=spent[int(len(spent) * 0.99)] * 1_000, late=late)
        self._leave("end.csv")
        for number, line in enumerate((self.given / "silent.csv").read_text().splitlines()[1:], 1):
            self._hand_over(line)
            self.commit()
            while self.seen.get("HEARTBEAT") != (number, number) or time.perf_counter() - self.changed < 2.0:
                time.sleep(0.05)
        self._leave("silent.csv")

    def _hand_over(self, line: str) -> str:
        _, customer, amount, moment = line.rstrip().split(",")
        self.next(customer_id=customer, amount_cents=int(amount), ts=datetime.fromisoformat(moment))
        return customer

    def take(self, key: object, row: dict[str, object], time: int, is_addition: bool) -> None:
        """One changed result."""
        customer = str(row["customer_id"])
        if is_addition:
            self.seen[customer] = (int(str(row["amount_cents"])), int(str(row["events"])))
        elif self.seen.get(customer) == (row["amount_cents"], row["events"]):
            del self.seen[customer]
        self.changed = _now()
        if is_addition and (since := self.probes.pop(customer, None)) is not None:
            self.spent.append(self.changed - since)

    def _leave(self, name: str) -> None:
        leave(self.output / name, [(customer, *row) for customer, row in list(self.seen.items())])


_now = time.perf_counter


def main() -> None:
    subject = Lines(Path(sys.argv[1]), Path(sys.argv[2]))
    events = pw.io.python.read(subject, schema=Event, autocommit_duration_ms=100, max_backlog_size=WAITING)
    totals = (
        events.forget(pw.this.ts, timedelta(days=30))
        .groupby(pw.this.customer_id)
        .reduce(pw.this.customer_id, amount_cents=pw.reducers.sum(pw.this.amount_cents), events=pw.reducers.count())
    )
    pw.io.subscribe(totals, subject.take)
    pw.run(monitoring_level=pw.MonitoringLevel.NONE)


if __name__ == "__main__":
    main()
