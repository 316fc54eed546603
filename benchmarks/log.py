"""The log: appends in blocks of a thousand, by callers that each wait until theirs is durable."""

import json
import threading
import uuid
from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry

EVENTS, BLOCK, CALLERS = 1_000_000, 1_000, 4
RATE = 270_000


def append(work: Path) -> Measured:
    """Four callers; every call is answered after the fsync."""
    work = work / "append"
    with SqliteLog(work / "log.sqlite") as log:
        took = min(seconds(lambda: _callers(log)) for _ in range(3))
        assert log.end("events") == 3 * EVENTS
    bound = EVENTS / RATE
    size = f"{EVENTS:,} events in calls of {BLOCK:,}, {EVENTS / took:,.0f}/s"
    return Measured(size, took, peak_mb(), bound, took <= bound)


def _callers(log: SqliteLog) -> None:
    block = [
        Entry("events", "website", f"u{n}", str(uuid.UUID(int=n)), 1_790_000_000_000_000 + n, _payload(n))
        for n in range(BLOCK)
    ]

    def work() -> None:
        for _ in range(EVENTS // BLOCK // CALLERS):
            log.append(block)

    threads = [threading.Thread(target=work) for _ in range(CALLERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _payload(number: int) -> bytes:
    return json.dumps(
        {
            "type": "track",
            "messageId": str(uuid.UUID(int=number)),
            "userId": f"u{number}",
            "event": "Product Viewed",
            "properties": {"product_id": f"p{number % 500}", "price": number % 10_000 / 100, "currency": "USD"},
            "context": {"page": {"url": "https://shop.example/products/7"}},
            "timestamp": "2026-03-01T12:00:00.000Z",
            "receivedAt": "2026-03-01T12:00:00.000Z",
        }
    ).encode()


def grown(log: SqliteLog, events: int) -> None:
    """Fill a log, with short events, as fast as it goes."""
    one = 20_000
    for start in range(0, events, one):
        log.append(
            [
                Entry(
                    "events",
                    "website",
                    f"u{n % 1000}",
                    f"m{start + n}",
                    1_790_000_000_000_000 + start + n,
                    b'{"type":"track"}',
                )
                for n in range(one)
            ]
        )
