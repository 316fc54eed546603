"""Mutated requests: no crash, no 5xx, each event accounted for: accepted + rejected = sent."""

import gzip
import http.client
import random
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import pytest
from collecting import AUTH, NOW, Running, collecting
from collector_cases import CASES

from headwater.clock import naive_utc
from headwater.collect.endpoints import ENDPOINTS
from headwater.collect.settings import CollectSettings, SourceSettings
from headwater.live.landing import Landing
from headwater.log.memory import MemoryLog
from headwater.warehouse import Warehouse

BODIES = [(case.path, case.body if isinstance(case.body, bytes) else msgspec.json.encode(case.body)) for case in CASES]
SEEDS = [(path, body) for path, body in BODIES if len(body) < 4_000]
PATHS = [*ENDPOINTS, "/v1/webhook/website"]
PIECES = [
    b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\\u0000", b"\\ud800", b"\x00", b"\xff", b"\xe2\x82", b"1e999", b"-", b"null",
    b'"batch":[', b'"type":"track"', b'"userId":null', b'"timestamp":"9999-12-31T23:59:59Z"', b'"sentAt":1', b"[" * 70, b'"context":{}',
]  # fmt: skip


@dataclass(frozen=True)
class Sent:
    """One mutated request."""

    path: str
    body: bytes
    headers: dict[str, str]


def mutated(random: random.Random) -> Sent:
    """A request that was fine, or nearly, with some bytes gone, doubled, swapped or put in."""
    path, seed = random.choice(SEEDS)
    body = bytearray(seed)
    for _ in range(random.choice((0, 1, 1, 2, 5, 20))):
        at = random.randrange(len(body) + 1)
        upto = min(len(body), at + random.choice((1, 1, 2, 8, 40)))
        match random.randrange(5):
            case 0:
                del body[at:upto]
            case 1:
                body[at:at] = body[at:upto]
            case 2:
                body[at:at] = random.choice(PIECES)
            case 3 if at < len(body):
                body[at] = random.randrange(256)
            case _:
                body[at:upto] = random.choice(SEEDS)[1][: random.randrange(200)]
    told = bytes(body)
    headers = dict(AUTH)
    if random.random() < 0.05:
        headers["Authorization"] = random.choice(
            ["", "Basic", "Basic %%", "Bearer x", "Basic bm9ib2R5Og==", "Basic /////w=="]
        )
    if random.random() < 0.1:
        told = gzip.compress(told, 1)
        headers["content-encoding"] = "gzip"
        if random.random() < 0.2:
            told = told[: random.randrange(len(told))]
    if random.random() < 0.1:
        headers["content-encoding"] = random.choice(["gzip", "deflate", "br", "identity", "x" * 50])
    if random.random() < 0.2:
        headers["Origin"] = "https://shop.example"
        headers["content-type"] = "text/plain"
    if random.random() < 0.05:
        headers["X-Signature"] = random.choice(["", "0" * 40, "zz"])
    return Sent(path if random.random() < 0.7 else random.choice(PATHS), told, headers)


@contextmanager
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    """A collector whose one source has everything: a plan, masks, a webhook."""
    monkeypatch.setenv("HEADWATER_MASK_KEY", "k")
    monkeypatch.setenv("SECRET", "s")
    (tmp_path / "plan.yml").write_text(
        "violations: omit\nevents: {Demo Requested: {schema: {properties: {seats: {type: integer}}}}}"
    )
    source = SourceSettings(
        name="website",
        write_key="website",
        tracking_plan="plan.yml",
        webhook_secret_env="SECRET",
        mask={"traits.email": "hash", "properties.*.x": "drop", "context.ip": "constant"},
    )
    with collecting(CollectSettings(sources=[source]), log=MemoryLog(), folder=tmp_path) as running:
        yield running


def fuzz(running: Running, seed: int, number: int) -> tuple[int, int]:
    """Send so many; what was accepted and rejected."""
    drawn = random.Random(seed)
    host = running.url.removeprefix("http://")
    accepted = rejected = 0
    with closing(http.client.HTTPConnection(host, timeout=60)) as connection:
        for _ in range(number):
            sent = mutated(drawn)
            before = running.log.end("events"), running.log.end("rejected")
            connection.request("POST", sent.path, sent.body, sent.headers)
            answer = connection.getresponse()
            told = msgspec.json.decode(answer.read())
            assert answer.status in (200, 400, 401), (sent, told)
            assert told["success"] is (answer.status == 200), (sent, told)
            logged = running.log.end("events") - before[0], running.log.end("rejected") - before[1]
            assert logged == (told["accepted"], len(told["rejected"])), (sent, told)
            if sum(logged) == 0:
                assert events_of(sent.body) == 0, (sent, told)
            accepted, rejected = accepted + logged[0], rejected + logged[1]
    return accepted, rejected


def events_of(body: bytes) -> int:
    """How many events a batch holds that anybody can read."""
    try:
        body = gzip.decompress(body) if body[:2] == b"\x1f\x8b" else body
        return len(msgspec.json.decode(body)["batch"])
    except Exception:
        return 0


def well_formed(running: Running) -> None:
    """Whatever was logged can be read again, is what the engine expects, and lands."""
    for event in running.events():
        assert event["type"] and event["messageId"] and (event["userId"] or event["anonymousId"]), event
        assert event["timestamp"].endswith("Z") and event["receivedAt"].endswith("Z")
    for one in running.rejected():
        assert one["reasons"] and one["endpoint"] and one["arrival"]
        assert "raw" in one or {"digest", "length"} <= one.keys()
    with Warehouse(":memory:") as warehouse, warehouse.transaction():
        landing = Landing(warehouse)
        landed = landing.land(running.log.read("events", 0, 1_000_000), naive_utc(NOW))
        assert landed.poison == 0, warehouse.rows("select reason, raw from headwater.rejected_events limit 3")
        assert landed.conserved
        rejected = landing.land_rejected(running.log.read("rejected", 0, 1_000_000))
        assert rejected.rejected == rejected.read
        assert warehouse.value("select count(*) from headwater.rejected_events where arrival is null") == 0


def test_mutated_requests_are_all_accounted_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with sources(tmp_path, monkeypatch) as running:
        accepted, rejected = fuzz(running, 1, 2_000)
        assert accepted > 200
        assert rejected > 500
        well_formed(running)
        assert running.client.get("/health").json()["accepting"] is True


@pytest.mark.slow
@pytest.mark.timeout(3_000)
def test_a_hundred_thousand_mutated_requests_are_all_accounted_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in range(10):
        with sources(tmp_path, monkeypatch) as running:
            fuzz(running, 1_000 + seed, 10_000)
            well_formed(running)
