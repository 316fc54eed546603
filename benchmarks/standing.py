"""`headwater up` as it stands on a machine, all its processes: what it costs when nothing happens, and the memory that it needs."""

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import httpx2

from benchmarks import live
from benchmarks.processes import Meter, tree
from benchmarks.row import Measured
from headwater.clock import CLOCK_FILE, FileClock
from headwater.log.sqlite import SqliteLog

IDLE_SECONDS, SETTLE_SECONDS = 60.0, 20.0
IDLE_SHARE = 0.01
HISTORY, PEOPLE, GAP_MICROS = 10_000_000, 1_000_000, 250_000
A_BATCH = 100
WAIT_SECONDS = 1_200.0
MEMORY_MB = 2_000


def idle(work: Path) -> Measured:
    """A minute in which nobody sends anything, after the start has settled."""
    return _idle(work, SETTLE_SECONDS, IDLE_SECONDS)


def _idle(work: Path, settle: float, minute: float) -> Measured:
    folder = _shop(work, "idle")
    with _up(folder) as pid:
        time.sleep(settle)
        with Meter(pid, every=5.0) as meter:
            cpu, written = meter.cpu_seconds, meter.written_bytes
            time.sleep(minute)
            cpu, written = meter.cpu_seconds - cpu, meter.written_bytes - written
            processes = len(tree(pid))
    bound = minute * IDLE_SHARE
    size = f"{minute:.0f} s, {processes} processes: {cpu / minute:.2%} of a core, {written:,} bytes written"
    return Measured(size, cpu, meter.peak_mb, bound, cpu < bound and not written)


def memory(work: Path) -> Measured:
    """Ten million logged calls of a million people through every model of the project, then 2,000 a second over HTTP."""
    return _memory(work, HISTORY, PEOPLE, 30)


def _memory(work: Path, history: int, people: int, minute: int) -> Measured:
    folder = _shop(work, f"memory_{history}")
    live.with_calls(SqliteLog(folder / "warehouse" / "log.sqlite"), history, people, GAP_MICROS)
    clock = folder / "clock"
    FileClock(clock).set(live.START + timedelta(microseconds=GAP_MICROS * history) + timedelta(minutes=1))
    sent = 0
    with _up(folder, clock) as pid, Meter(pid, every=1.0) as meter:
        _until(lambda: _landed(folder) >= history, "all that was logged is landed", 5.0)
        address = (folder / "warehouse" / ".collector").read_text(encoding="utf-8")
        sent = asyncio.run(_send(address, minute))
        _until(lambda: _landed(folder) >= history + sent, "all that was sent is landed", 5.0)
    size = f"{history + sent:,} events; engine, collector and all beside them: at most {meter.peak_mb:,.0f} MB together"
    bound = MEMORY_MB
    return Measured(
        size, meter.cpu_seconds, meter.peak_mb, meter.cpu_seconds * bound / meter.peak_mb, meter.peak_mb < bound
    )


def _shop(work: Path, name: str) -> Path:
    folder = work / name
    shutil.copytree(work / "live_shop" / "shop", folder)
    settings = folder / "headwater.yml"
    settings.write_text(settings.read_text(encoding="utf-8").replace("port: 8787", "port: 0"), encoding="utf-8")
    return folder


@contextmanager
def _up(folder: Path, clock: Path | None = None) -> Iterator[int]:
    """`headwater up` until its engine follows the log; its process. Ended in good order."""
    environment = dict(os.environ) | ({CLOCK_FILE: str(clock)} if clock else {})
    words = folder / "up.log"
    with words.open("wb") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "headwater", "up", "--json", "--project", str(folder)], env=environment,
            stdout=out, stderr=out, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def follows() -> bool:
        said = words.read_text(encoding="utf-8", errors="replace")
        assert process.poll() is None, said[-2_000:]
        return "follows the log" in said

    try:
        _until(follows, "the engine follows the log")
        yield process.pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)


def _until(true: Callable[[], bool], what: str, every: float = 1.0) -> None:
    until = time.monotonic() + WAIT_SECONDS
    while not true():
        assert time.monotonic() < until, f"waited {WAIT_SECONDS:.0f} s in vain: {what}"
        time.sleep(every)


def _landed(folder: Path) -> int:
    """Events that the engine has landed, and the models have taken: asked as anybody would, of the engine itself."""
    done = subprocess.run(
        [sys.executable, "-m", "headwater", "query", "select count(*) as n from collected.events", "--json"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return int(json.loads(done.stdout)[0]["n"]) if done.returncode == 0 else 0


async def _send(address: str, minute: int) -> int:
    """Batches of a hundred, twenty a second; how many events."""
    sent = 0
    async with httpx2.AsyncClient(timeout=30) as client:
        begun = time.monotonic()
        while (elapsed := time.monotonic() - begun) < minute:
            if sent < elapsed * live.PER_SECOND:
                batch = [
                    {"type": "track", "messageId": f"now-{sent + n}", "userId": f"C{20_000_000 + (sent + n) * 7 % PEOPLE}",
                     "event": "Product Viewed", "properties": {"product_id": f"P{n}"}}
                    for n in range(A_BATCH)
                ]  # fmt: skip
                answer = await client.post(f"{address}/v1/batch", json={"batch": batch}, auth=("website", ""))
                answer.raise_for_status()
                sent += A_BATCH
            else:
                await asyncio.sleep(0.01)
    return sent
