"""Decisions on demand over HTTP: 32 connections, a million customers, each answer after its commit to the ledger."""

import asyncio
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

from benchmarks.row import Measured, children_peak_mb
from headwater.warehouse import Warehouse

KEY = "a key of a decent length"
CONNECTIONS, REQUESTS, CUSTOMERS = 32, 16_000, 1_000_000


def decide_http(work: Path) -> Measured:
    """New decisions for customers drawn at random; the bound is what 1,000 a second would take."""
    folder = work / "candidates_1m"
    (folder / "ready").unlink(missing_ok=True)
    child = subprocess.Popen([sys.executable, "-m", "benchmarks.realtime_child", str(folder)])
    try:
        while not (folder / "ready").exists():
            assert child.poll() is None, "the server has ended"
            time.sleep(0.05)
        address = urlsplit((folder / "ready").read_text())
        place = (address.hostname or "", address.port or 0)
        uvloop.run(_ask(*place, 2_000, "warm"))
        took, spent = uvloop.run(_ask(*place, REQUESTS, "measured"))
    finally:
        child.terminate()
        child.wait()
    with Warehouse(folder / "candidates.duckdb") as warehouse:
        kept = warehouse.value(
            "select count(*) from headwater.decision_log where starts_with(idempotency_key, 'measured-')"
        )
    assert kept == REQUESTS, f"{REQUESTS:,} decisions were answered, {kept:,} are in the ledger"
    p99 = sorted(spent)[int(len(spent) * 0.99)] * 1_000
    bound = REQUESTS / 1_000
    size = f"{REQUESTS:,} decisions, {REQUESTS / took:,.0f}/s, p99 {p99:.1f} ms, all in the ledger"
    return Measured(size, took, children_peak_mb(), bound, took <= bound and p99 < 25)


async def _ask(host: str, port: int, count: int, name: str) -> tuple[float, list[float]]:
    """Seconds of all, and of each."""
    spent: list[float] = []
    start = time.perf_counter()
    share = count // CONNECTIONS
    await asyncio.gather(*(_connection(host, port, share, f"{name}-{n}", spent) for n in range(CONNECTIONS)))
    return time.perf_counter() - start, spent


async def _connection(host: str, port: int, count: int, name: str, spent: list[float]) -> None:
    """One request after the other, each with a key of its own."""
    draw = random.Random(name)
    reader, writer = await asyncio.open_connection(host, port)
    for number in range(count):
        customer = f"C{10_000_001 + draw.randrange(CUSTOMERS)}"
        body = json.dumps({"customer_id": customer, "key": f"{name}-{number}"}).encode()
        head = f"POST /decide HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
        begun = time.perf_counter()
        writer.write(head.encode() + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        assert b" 200 " in answer[:20], answer
        length = int(answer.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        spent.append(time.perf_counter() - begun)
    writer.close()
    await writer.wait_closed()
