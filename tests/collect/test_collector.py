"""The collector over HTTP: pages of other origins, compression, overload, a full disk, what browsers and monitors ask."""

import asyncio
import gzip
import resource
import socket
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx2
import msgspec
import pytest
from collecting import AUTH, NOW, Running, collecting
from collector_cases import batch, track

from headwater import relay
from headwater.clock import FixedClock
from headwater.collect.collector import build
from headwater.collect.settings import CollectLimits, CollectSettings, SourceSettings
from headwater.errors import ConfigError, LogUnavailable
from headwater.log.memory import MemoryLog
from headwater.log.sqlite import SqliteLog
from headwater.records.logged import Entry

PAGE = "https://shop.example"


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """One collector for the tests that only ask."""
    with collecting() as running:
        yield running


@pytest.mark.parametrize("path", ["/v1/t", "/v1/track", "/v1/b", "/v1/m", "/v1/projects/website/settings", "/nowhere"])
def test_every_path_answers_a_preflight(shared: Running, path: str) -> None:
    asked = {
        "Origin": PAGE,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "Content-Type, X-Shop",
    }
    answer = shared.client.options(path, headers=asked)
    assert answer.status_code == 204
    told = answer.headers
    assert told["access-control-allow-origin"] == PAGE
    assert told["access-control-allow-credentials"] == "true"
    assert told["access-control-allow-methods"] == "POST, GET, OPTIONS"
    assert told["access-control-allow-headers"] == "authorization, content-type, x-retry-count, x-shop"
    assert told["access-control-max-age"] == "86400"
    assert told["access-control-expose-headers"] == "Retry-After"
    assert told["vary"] == "Origin"


@pytest.mark.parametrize(
    ("path", "body"), [("/v1/t", track()), ("/v1/t", b"{"), ("/v1/m", {"series": []}), ("/no", {})]
)
def test_a_page_may_read_every_answer(shared: Running, path: str, body: object) -> None:
    told = shared.post(path, body, Origin=PAGE).headers
    without = shared.post(path, body).headers
    assert (told["access-control-allow-origin"], told["access-control-expose-headers"]) == (PAGE, "Retry-After")
    assert "access-control-allow-origin" not in without


@pytest.mark.parametrize("encoding", ["gzip", "deflate", ""])
def test_compressed_bodies(shared: Running, encoding: str) -> None:
    body = msgspec.json.encode(batch(track(messageId="1"), track(messageId="2")))
    packed = zlib.compress(body) if encoding == "deflate" else gzip.compress(body)
    headers = {"content-encoding": encoding} if encoding else {}
    assert shared.post("/v1/batch", packed, **headers).json()["accepted"] == 2
    assert shared.post("/v1/b", packed, **{**headers, "content-type": "text/plain"}).json()["accepted"] == 2


def test_a_small_body_that_unpacks_to_a_large_one_is_too_large_and_is_not_unpacked() -> None:
    packer = zlib.compressobj(1, wbits=31)
    bomb = b"".join([packer.compress(b" " * 1_000_000) for _ in range(400)] + [packer.flush()])
    assert len(bomb) > 1_000_000
    with collecting(CollectSettings(limits=CollectLimits(batch_bytes=4_000_000))) as running:
        assert running.post("/v1/track", track()).status_code == 200
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        answer = running.post("/v1/batch", bomb, **{"content-encoding": "gzip"})
        assert (answer.status_code, answer.json()["code"]) == (400, "too_large")
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kilobytes
        assert running.post("/v1/track", track()).status_code == 200


def test_a_body_without_an_end_is_not_read_to_its_end() -> None:
    with collecting() as running:
        sent = 0

        def endless():
            nonlocal sent
            while sent < 200 * 1024 * 1024:
                sent += 64 * 1024
                yield b"x" * 64 * 1024

        try:
            answer = running.client.post("/v1/batch", content=endless(), headers=AUTH)
            assert answer.status_code == 400
        except httpx2.HTTPError:
            pass  # answered and hung up while we were still sending
        assert sent < 100 * 1024 * 1024
        (one,) = running.rejected()
        assert one["reasons"][0]["code"] == "too_large"
        assert len(one["raw"]) == 32 * 1024 < one["length"]


def test_what_analytics_js_loads_first() -> None:
    with collecting() as running:
        host = running.url.removeprefix("http://")
        answer = running.client.get("/v1/projects/website/settings", headers={"Origin": PAGE})
        told = answer.json()["integrations"]["Segment.io"]
        assert (told["apiKey"], told["apiHost"], told["protocol"]) == ("website", f"{host}/v1", "http")
        assert answer.headers["access-control-allow-origin"] == PAGE
        behind = running.client.get(
            "/v1/projects/website/settings", headers={"X-Forwarded-Proto": "https", "Host": "cdp.shop.example"}
        )
        ours = behind.json()["integrations"]["Segment.io"]
        assert (ours["apiHost"], ours["protocol"]) == ("cdp.shop.example/v1", "https")
        assert running.client.get("/v1/projects/nobody/settings").status_code == 401
        assert running.post("/v1/m", {"series": []}).json() == {"success": True}


def test_bundles_are_served_from_their_folder_and_from_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "umd").mkdir()
    (tmp_path / "umd" / "ajs-destination.bundle.js").write_text("window.x = 1")
    (tmp_path / "secret.txt").write_text("secret")
    with collecting(CollectSettings(bundles="umd"), folder=tmp_path) as running:
        found = running.client.get("/analytics-next/bundles/ajs-destination.bundle.js", headers={"Origin": PAGE})
        assert (found.status_code, found.text) == (200, "window.x = 1")
        assert "javascript" in found.headers["content-type"]
        assert found.headers["access-control-allow-origin"] == PAGE
        for path in ("nothing.js", "../secret.txt", "%2e%2e/secret.txt", "..%2fsecret.txt"):
            assert running.client.get(f"/analytics-next/bundles/{path}").status_code == 404
    with collecting() as running:
        assert running.client.get("/analytics-next/bundles/ajs-destination.bundle.js").status_code == 404
    with pytest.raises(
        ConfigError, match=r"collect.bundles: .*nowhere is no folder; expected analytics-next's `dist/umd`"
    ):
        build(CollectSettings(bundles="nowhere"), MemoryLog(), FixedClock(NOW), tmp_path)


def test_other_methods_and_paths_are_told_what_there_is() -> None:
    with collecting() as running:
        wrong = running.client.get("/v1/track")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST, OPTIONS")
        assert wrong.json()["message"] == "/v1/track takes POST, not GET"
        assert running.post("/v2/track", {}).json()["message"] == "there is nothing at /v2/track"


def test_several_write_keys_are_several_sources() -> None:
    sources = [SourceSettings(name="website", write_key="website"), SourceSettings(name="app", write_key="k2")]
    with collecting(CollectSettings(sources=sources)) as running:
        running.post("/v1/track", track())
        running.post("/v1/track", track(writeKey="k2"), Authorization="")
        assert [record.source for record in running.log.read("events", 0, 9)] == ["website", "app"]


def test_an_address_is_that_of_the_browser_behind_a_proxy_that_is_trusted() -> None:
    with collecting() as running:
        running.post("/v1/t", track(), **{"Origin": PAGE, "X-Forwarded-For": "203.0.113.9"})
        assert running.events()[0]["context"]["ip"] == "203.0.113.9"


class Blocked(MemoryLog):
    """A log whose disk answers when the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.go = threading.Event()
        self.error: LogUnavailable | None = None

    def append(self, entries: Sequence[Entry]) -> None:
        self.entered.set()
        assert self.go.wait(60)
        if self.error is not None:
            raise self.error
        super().append(entries)


def test_nothing_is_answered_before_it_is_durable() -> None:
    log = Blocked()
    with collecting(log=log) as running:
        answers: list[httpx2.Response] = []
        sender = threading.Thread(target=lambda: answers.append(running.post("/v1/track", track())))
        sender.start()
        assert log.entered.wait(30)
        health = running.client.get("/health").json()  # the loop is free meanwhile, and nothing was answered
        assert any(check["message"].startswith("1 requests and ") for check in health["checks"])
        assert answers == []
        log.go.set()
        sender.join()
        assert answers[0].status_code == 200


def test_too_much_at_once_is_told_to_wait_and_is_not_kept() -> None:
    log = Blocked()
    settings = CollectSettings(limits=CollectLimits(requests=2, retry_after_seconds=7))
    with collecting(settings, log=log) as running:
        answers: list[int] = []
        senders = [
            threading.Thread(
                target=lambda: answers.append(
                    httpx2.post(running.url + "/v1/track", json=track(), headers=AUTH, timeout=60).status_code
                )
            )
            for _ in range(2)
        ]
        for sender in senders:
            sender.start()
        while not _working(running, 2):
            time.sleep(0.01)
        third = running.post("/v1/track", track(), Origin=PAGE)
        assert (third.status_code, third.headers["retry-after"]) == (429, "7")
        assert third.headers["access-control-allow-origin"] == PAGE
        assert third.json() == {
            "success": False,
            "code": "overloaded",
            "message": "more requests are waiting than may; send again",
            "accepted": 0,
            "rejected": [],
        }
        health = running.client.get("/health")
        assert health.status_code == 503
        assert "2 and 67,108,864 may" in health.text
        log.go.set()
        for sender in senders:
            sender.join()
        assert answers == [200, 200]
        assert len(running.events()) == 2
        assert running.post("/v1/track", track()).status_code == 200


def dawdling(running: Running) -> tuple[socket.socket, bytes]:
    """A sender whose request lacks its last byte, and that byte."""
    body = msgspec.json.encode(track())
    host, port = running.url.removeprefix("http://").split(":")
    sender = socket.create_connection((host, int(port)))
    head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
    sender.sendall(head.encode())
    sender.sendall(body[:-1])
    return sender, body[-1:]


def test_a_sender_that_dawdles_is_told_to_send_again() -> None:
    with collecting(CollectSettings(limits=CollectLimits(body_seconds=0.2))) as running:
        sender, _ = dawdling(running)
        with sender, sender.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 408 ")
            assert b'"code":"too_slow"' in answer.read()
        assert running.post("/v1/track", track()).status_code == 200
        assert len(running.events()) == 1


def test_bytes_that_are_still_coming_in_count(shared: Running) -> None:
    with collecting(CollectSettings(limits=CollectLimits(pending_bytes=60))) as running:
        sender, last = dawdling(running)
        with sender, sender.makefile("rb") as answer:
            assert answer.readline().startswith(b"HTTP/1.1 429 ")
        assert running.post("/v1/track", track()).status_code == 200
    sender, last = dawdling(shared)
    with sender, sender.makefile("rb") as answer:
        while not _working(shared, 1):
            time.sleep(0.01)
        sender.sendall(last)
        assert answer.readline().startswith(b"HTTP/1.1 200 ")


def _working(running: Running, number: int) -> bool:
    return any(
        check["message"].startswith(f"{number} requests ") for check in running.client.get("/health").json()["checks"]
    )


def test_a_log_that_cannot_be_written_is_a_503_and_health_says_why() -> None:
    log = Blocked()
    log.go.set()
    log.error = LogUnavailable("could not append to the log x: the disk fell off. Look at it")
    with collecting(log=log) as running:
        answer = running.post("/v1/batch", batch(track()))
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["code"]) == (
            503,
            "2",
            "log_unavailable",
        )
        health = running.client.get("/health")
        assert (health.status_code, health.json()["accepting"]) == (503, False)
        assert "the disk fell off. Look at it" in health.text
        log.error = None
        assert running.post("/v1/batch", batch(track())).status_code == 200
        assert running.client.get("/health").json()["accepting"] is True
        assert len(running.events()) == 1


def test_on_a_full_disk_nothing_that_was_answered_is_lost_and_nothing_more_is_answered(tmp_path: Path) -> None:
    kept = []
    log = SqliteLog(tmp_path / "log.sqlite", max_bytes=600_000)
    with collecting(log=log) as running:
        for number in range(200):
            answer = running.post(
                "/v1/track", track(messageId=f"m{number}", properties={"x": "y" * 20_000, "n": number})
            )
            if answer.status_code != 200:
                break
            kept.append(f"m{number}")
        assert (answer.status_code, answer.json()["code"]) == (503, "log_full")
        assert "retry-after" in answer.headers
        health = running.client.get("/health")
        assert health.status_code == 503
        assert "there is no room" in health.text
        assert [record.message_id for record in log.read("events", 0, 1_000)] == kept
        end = log.end("events")
        log.acknowledge("engine", "events", end)
        log.acknowledge("engine", "rejected", 0)
        again = running.post("/v1/track", track(messageId="later"))
        assert again.status_code == 200, again.text
        assert running.client.get("/health").json()["accepting"] is True
        assert [record.message_id for record in log.read("events", end, 10)] == ["later"]


def test_health_says_that_the_engine_is_starting(tmp_path: Path) -> None:
    with collecting(folder=tmp_path) as running:
        assert "Start the engine with `headwater up`" in running.client.get("/health").text
        (tmp_path / "warehouse").mkdir()
        engine = relay.Server(tmp_path / "warehouse")
        try:
            told = running.client.get("/health").json()
            assert (told["status"], told["accepting"]) == ("warn", True)
            assert "the engine is starting, and has read nothing yet; events wait in the log" in str(told)
            assert "Start the engine" not in str(told)
        finally:
            engine.close()


def test_health_says_who_is_behind(tmp_path: Path) -> None:
    clock = FixedClock(NOW)
    with collecting(
        CollectSettings(lag_warn_seconds=60), log=SqliteLog(tmp_path / "l.sqlite", clock=clock), clock=clock
    ) as running:
        nobody = running.client.get("/health").json()
        assert (nobody["status"], nobody["accepting"]) == ("warn", True)
        assert "nobody reads the log yet" in str(nobody)
        for topic in ("events", "rejected"):
            running.log.acknowledge("engine", topic, 0)
        running.post("/v1/batch", batch(track(), track(), track(event=None)))
        fresh = {check["name"]: check for check in running.client.get("/health").json()["checks"]}
        assert fresh["reader engine"]["status"] == "ok"
        assert fresh["reader engine"]["message"] == "engine is 3 records behind, the oldest came 0 s ago"
        clock.push(timedelta(seconds=61))
        late = running.client.get("/health")
        assert late.status_code == 200
        assert "engine is 3 records behind, the oldest came 61 s ago. See whether it runs" in late.text
        for topic in ("events", "rejected"):
            running.log.acknowledge("engine", topic, running.log.end(topic))
        assert "engine has had everything" in running.client.get("/health").text


def test_health_when_the_log_cannot_be_looked_at(tmp_path: Path) -> None:
    log = MemoryLog()
    with collecting(log=log) as running:
        log.close()
        health = running.client.get("/health")
        assert (health.status_code, health.json()["status"]) == (503, "failing")
        assert "headwater_log_readable 0.0" in running.client.get("/metrics").text


def test_metrics_count_what_was_answered(tmp_path: Path) -> None:
    with collecting(log=SqliteLog(tmp_path / "l.sqlite")) as running:
        running.post("/v1/batch", batch(track(), track(), track(event=None)))
        running.post("/v1/t", track())
        running.post("/v1/t", b"{")
        running.log.acknowledge("engine", "events", 1)
        text = running.client.get("/metrics").text
    for line in (
        'headwater_collector_accepted_total{source="website"} 3.0',
        'headwater_collector_rejected_total{reason="no_event",source="website"} 1.0',
        'headwater_collector_rejected_total{reason="bad_json",source="website"} 1.0',
        'headwater_collector_answers_total{endpoint="/v1/track",status="200"} 1.0',
        'headwater_collector_answers_total{endpoint="/v1/track",status="400"} 1.0',
        'headwater_log_end{topic="events"} 3.0',
        'headwater_log_end{topic="rejected"} 2.0',
        'headwater_log_unread{reader="engine",topic="events"} 2.0',
        "headwater_log_readable 1.0",
    ):
        assert line in text


class Jumping:
    """A machine's clock that somebody sets back."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def test_a_clock_that_jumps_back_changes_no_order() -> None:
    clock = Jumping()
    with collecting(clock=clock) as running:
        running.post("/v1/track", track(messageId="1"))
        clock.at -= timedelta(days=1)
        running.post("/v1/track", track(messageId="2", timestamp="2026-02-28T12:00:00Z", sentAt="2026-02-28T12:00:01Z"))
        clock.at += timedelta(days=1)
        running.post("/v1/track", track(messageId="3"))
        records = running.log.read("events", 0, 10)
        assert [record.message_id for record in records] == ["1", "2", "3"]
        assert records[1].received_at == records[0].received_at - 86_400_000_000
        assert running.events()[1]["timestamp"] == "2026-02-28T11:59:59Z"


def test_many_senders_at_once_are_all_kept_once(tmp_path: Path) -> None:
    log = SqliteLog(tmp_path / "l.sqlite")
    with collecting(log=log) as running:

        async def send() -> list[int]:
            async with httpx2.AsyncClient(base_url=running.url, headers=AUTH, timeout=60) as client:
                answers = await asyncio.gather(
                    *(client.post("/v1/track", json=track(messageId=f"m{number}")) for number in range(300))
                )
            return [answer.status_code for answer in answers]

        assert asyncio.run(send()) == [200] * 300
        assert {record.message_id for record in log.read("events", 0, 1_000)} == {f"m{number}" for number in range(300)}
        assert log.end("events") == 300
