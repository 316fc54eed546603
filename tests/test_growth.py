"""Hours of steady events over HTTP: `headwater up` holds no more memory at the end than when it had warmed up.

An hour, or HEADWATER_SOAK_SECONDS. The first quarter warms up (DuckDB fills its memory up to `live.memory_limit`, small here so
that it is full by then). Compared are the medians of the quarter after it and of the last quarter, of each process: at most
TOLERATED more. A leak of 1 KB an event, or of 100 KB a minute and process, is above it in an hour.
"""

import os
import statistics
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import psutil
import pytest

from headwater import scaffold
from headwater.clock import FileClock
from test_up import Running, until

SECONDS = float(os.environ.get("HEADWATER_SOAK_SECONDS", "3600"))
PER_SECOND, PEOPLE = 50, 500
EVENTS = ("Page Viewed", "Product Viewed", "Demo Requested", "Newsletter Subscribed")
TOLERATED = 0.10, 16 * 2**20
"""Share of the earlier memory, and bytes: so much more is no growth."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(SECONDS * 2 + 1_200)]


def held(up: Running) -> dict[str, int]:
    """Resident bytes of each process, by what it is."""
    processes = {"engine": psutil.Process(up.process.pid), "collector": up.collector()}
    return {name: process.memory_info().rss for name, process in processes.items()}


def steadily(up: Running, seconds: float) -> list[tuple[float, dict[str, int]]]:
    """Send for so long, at one pace; what was held, each second, and when."""
    sent, samples, begun = 0, [], time.monotonic()
    with httpx2.Client(auth=("website", ""), timeout=30) as client:
        while (at := time.monotonic() - begun) < seconds:
            batch = [
                {
                    "type": "track",
                    "userId": f"u{number % PEOPLE}",
                    "anonymousId": f"a{number % PEOPLE}",
                    "event": EVENTS[number % len(EVENTS)],
                    "messageId": f"m{number}",
                    "properties": {"price": number % 100, "page": f"/p/{number % 50}"},
                }
                for number in range(sent, sent + PER_SECOND)
            ]
            answer = client.post(f"{up.address}/v1/batch", json={"batch": batch})
            assert answer.status_code == 200, answer.text
            sent += PER_SECOND
            up.clock.push(timedelta(seconds=1))
            samples.append((at, held(up)))
            threading.Event().wait(max(0.0, begun + sent / PER_SECOND - time.monotonic()))
    return samples


def test_steady_events_take_no_more_memory_in_the_end(tmp_path: Path) -> None:
    folder, clock = tmp_path / "shop", tmp_path / "now"
    FileClock(clock).set(datetime(2026, 7, 1, 12, tzinfo=UTC))
    scaffold.init(folder, None)
    settings = folder / "headwater.yml"
    text = settings.read_text(encoding="utf-8").replace("port: 8787", "port: 0")
    head, live, tail = text.partition("\nlive:")
    assert live, "the template has no section live"
    rest = tail.partition("\n")
    settings.write_text(f"{head}{live}{rest[0]}\n  memory_limit: 256MB\n{rest[2]}", encoding="utf-8")
    up = Running(folder, clock)
    try:
        up.wait_for("engine", "follows the log")
        samples = steadily(up, SECONDS)
        for name in samples[0][1]:
            quarters = [
                statistics.median(
                    one[name] for at, one in samples if SECONDS * part / 4 <= at < SECONDS * (part + 1) / 4
                )
                for part in range(4)
            ]
            print(name, [f"{one / 2**20:.0f} MB" for one in quarters])
            share, more = TOLERATED
            assert quarters[3] <= quarters[1] * (1 + share) + more, (
                f"{name}: {[round(one / 2**20) for one in quarters]} MB"
            )
        landed = PER_SECOND * len(samples)
        until(
            lambda: up.rows("select count(*) as n from collected.events")[0]["n"] == landed,
            f"all {landed} events are landed",
        )
        assert up.type("verify", "--all").returncode == 0
    finally:
        up.close()
