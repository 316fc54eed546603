"""The collector as a process: it says where it listens, answers what it took when it is stopped, and survives kill -9."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx2
import pytest
from collecting import AUTH
from collector_cases import batch, track

from headwater.collect.serve import serve
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError
from headwater.log.sqlite import SqliteLog

CODE = """
import sys
from pathlib import Path
from headwater.collect.serve import serve
from headwater.collect.settings import CollectSettings
from headwater.log.sqlite import SqliteLog
folder = Path(sys.argv[1])
serve(folder, CollectSettings(port=0), SqliteLog(folder / "warehouse" / "log.sqlite"), ready=folder / "run" / "ready")
"""

Start = Callable[..., tuple[subprocess.Popen[str], str]]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """start(**environment): a collector of the project in tmp_path, and its address."""
    started: list[subprocess.Popen[str]] = []

    def run(**environment: str) -> tuple[subprocess.Popen[str], str]:
        (tmp_path / "run" / "ready").unlink(missing_ok=True)
        process = subprocess.Popen(
            [sys.executable, "-c", CODE, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )
        started.append(process)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("collecting at http://127.0.0.1:"), line + process.stdout.read()
        address = line.split()[-1]
        assert (tmp_path / "run" / "ready").read_text() == address
        return process, address

    yield run
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def kept(folder: Path) -> list[str]:
    log = SqliteLog(folder / "warehouse" / "log.sqlite")
    try:
        return [record.message_id for record in log.read("events", 0, 1_000_000)]
    finally:
        log.close()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_what_was_taken_is_answered(
    start: Start, tmp_path: Path, how: signal.Signals
) -> None:
    process, address = start()
    host, port = address.removeprefix("http://").split(":")
    body = b'{"userId": "u", "event": "e", "messageId": "slow"}'
    with socket.create_connection((host, int(port))) as sender:
        head = f"POST /v1/track HTTP/1.1\r\nHost: x\r\nAuthorization: {AUTH['Authorization']}\r\nContent-Length: {len(body)}\r\n\r\n"
        sender.sendall(head.encode() + body[:10])
        while not httpx2.get(f"{address}/health").json()["checks"][1]["message"].startswith("1 requests"):
            time.sleep(0.01)
        process.send_signal(how)
        with pytest.raises(httpx2.HTTPError):  # no new sender is let in while the one that is there may end
            for _ in range(600):
                httpx2.get(f"{address}/health")
                time.sleep(0.05)
        sender.sendall(body[10:])
        answer = sender.makefile("rb").read()
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert process.wait(30) == 0
    assert kept(tmp_path) == ["slow"]
    assert process.stdout is not None
    assert process.stdout.read() == ""


def test_what_was_answered_survives_a_kill(start: Start, tmp_path: Path) -> None:
    answered: list[str] = []
    for life in range(2):
        process, address = start()
        stop = threading.Event()

        def send(number: int, address: str = address, life: int = life, stop: threading.Event = stop) -> None:
            with httpx2.Client(base_url=address, headers=AUTH) as client:
                for n in range(100_000):
                    ids = [f"{life}-{number}-{n}-{i}" for i in range(3)]
                    try:
                        if client.post("/v1/batch", json=batch(*(track(messageId=i) for i in ids))).status_code == 200:
                            answered.extend(ids)
                    except httpx2.HTTPError:
                        return
                    if stop.is_set():
                        return

        senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
        for sender in senders:
            sender.start()
        wanted = len(answered) + 60
        while len(answered) < wanted:
            time.sleep(0.005)
        process.kill()
        process.wait()
        stop.set()
        for sender in senders:
            sender.join()
    found = kept(tmp_path)
    assert set(answered) <= set(found)
    assert len(found) == len(set(found))


@pytest.mark.parametrize(("name", "more"), [("collect.taken", 0), ("collect.logged", 1)])
def test_a_kill_at_a_named_place_loses_nothing_that_was_answered(
    start: Start, tmp_path: Path, name: str, more: int
) -> None:
    process, address = start(HEADWATER_FAILPOINT=f"{name}:3")
    answered = []
    with httpx2.Client(base_url=address, headers=AUTH) as client, pytest.raises(httpx2.HTTPError):
        for n in range(5):
            assert client.post("/v1/track", json=track(messageId=f"m{n}")).status_code == 200
            answered.append(f"m{n}")
    assert process.wait(30) == 137
    assert answered == ["m0", "m1"]
    assert kept(tmp_path) == ["m0", "m1", "m2"][: 2 + more]
    _, address = start()
    httpx2.post(
        f"{address}/v1/track", json=track(messageId="m2"), headers=AUTH
    )  # as every sender does that got no answer
    assert kept(tmp_path)[-1] == "m2"


def test_an_address_that_is_taken_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            ConfigError, match=rf"cannot listen on 127.0.0.1:{port}: Address already in use\. Stop what uses"
        ):
            serve(tmp_path, CollectSettings(port=port), SqliteLog(tmp_path / "log.sqlite"))
