"""The socket between a command and the engine: real processes type, this one answers."""

import json
import os
import queue
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from headwater import relay

TYPED = """
import os, sys
from pathlib import Path
from headwater import relay
code = relay.forward(Path(sys.argv[1]), sys.argv[2:], {"GOAL": "engagement"})
sys.exit(99 if code is None else code)
"""


def typed(warehouse: Path, *argv: str, **env: str) -> subprocess.Popen[str]:
    """Somebody who types a command."""
    return subprocess.Popen(
        [sys.executable, "-c", TYPED, str(warehouse), *argv],
        env={**os.environ, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def warehouse(tmp_path: Path) -> Path:
    return tmp_path / "shop" / "warehouse"


@pytest.fixture
def server(warehouse: Path) -> Iterator[relay.Server]:
    made = relay.Server(warehouse)
    yield made
    made.close()


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    """Wait for a condition; a test that waits in vain fails here."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        threading.Event().wait(0.01)


def test_a_command_comes_with_all_that_its_output_depends_on_and_goes_back_as_it_was_said(
    server: relay.Server, warehouse: Path
) -> None:
    client = typed(warehouse, "decide", "--json", COLUMNS="132")
    call = server.waiting.get(timeout=20)
    assert call.request == relay.Request(("decide", "--json"), str(Path.cwd()), {"GOAL": "engagement"}, 132)
    call.out("Zwölf\n")
    call.err("warning\n")
    call.out('{"a": 1}')
    call.end(5)
    out, err = client.communicate(timeout=20)
    assert (out, err, client.returncode) == ('Zwölf\n{"a": 1}', "warning\n", 5)


def test_without_an_engine_and_with_the_note_of_a_killed_one_the_client_is_told_so(
    server: relay.Server, warehouse: Path, tmp_path: Path
) -> None:
    assert relay.forward(tmp_path / "elsewhere", ["status"], {}) is None
    left = tmp_path / "left"
    left.mkdir()
    home = tmp_path / "gone"
    note = json.loads((warehouse / relay.NOTE).read_text())
    (left / relay.NOTE).write_text(json.dumps({**note, "socket": str(home)}))
    assert relay.forward(left, ["status"], {}) is None
    # a socket file that nobody listens on any more
    with socket.socket(socket.AF_UNIX) as dead:
        path = Path(note["socket"]).with_name("dead")
        dead.bind(str(path))
    (left / relay.NOTE).write_text(json.dumps({**note, "socket": str(path)}))
    assert relay.forward(left, ["status"], {}) is None
    assert relay.holder(left) is None
    assert relay.holder(warehouse) == os.getpid()
    # how the other end of it is told from an engine that stopped
    pid, since = relay.left_over(left) or (0, None)
    assert (pid, since) == (os.getpid(), datetime.fromtimestamp((left / relay.NOTE).stat().st_mtime, UTC))
    assert relay.left_over(warehouse) is None
    assert relay.left_over(tmp_path / "elsewhere") is None


def test_only_this_user_can_reach_the_socket_and_its_path_is_short(server: relay.Server, warehouse: Path) -> None:
    path = Path(json.loads((warehouse / relay.NOTE).read_text())["socket"])
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert len(str(path).encode()) < 100


def test_a_temporary_folder_with_a_long_path_is_not_taken(
    warehouse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    server = relay.Server(warehouse)
    try:
        assert relay.holder(warehouse) == os.getpid()
    finally:
        server.close()


def test_ctrl_c_asks_the_engine_and_waits_for_the_end_of_the_command(server: relay.Server, warehouse: Path) -> None:
    client = typed(warehouse, "build")
    call = server.waiting.get(timeout=20)
    call.out("begun\n")
    assert client.stdout is not None
    assert client.stdout.readline() == "begun\n"
    assert not call.cancelled.is_set()
    client.send_signal(signal.SIGINT)
    assert call.cancelled.wait(20)
    assert client.poll() is None
    call.out("undone\n")
    call.end(130)
    out, _ = client.communicate(timeout=20)
    assert (out, client.returncode) == ("undone\n", 130)


def test_a_client_that_is_killed_is_a_wish_to_stop_and_holds_nobody_up(server: relay.Server, warehouse: Path) -> None:
    client = typed(warehouse, "build")
    call = server.waiting.get(timeout=20)
    client.kill()
    client.communicate()
    assert call.cancelled.wait(20)
    for _ in range(1000):
        call.out("x" * 10_000)
    call.end(0)


def test_a_client_that_does_not_read_holds_nobody_up(server: relay.Server, warehouse: Path) -> None:
    client = typed(warehouse, "status")
    call = server.waiting.get(timeout=20)
    client.send_signal(signal.SIGSTOP)
    text = "x" * 1_000_000
    for _ in range(20):
        call.out(text)
    call.end(0)
    client.send_signal(signal.SIGCONT)
    out, _ = client.communicate(timeout=60)
    assert (len(out), client.returncode) == (20_000_000, 0)


def test_an_engine_that_goes_away_is_said_by_those_who_wait_for_it(warehouse: Path) -> None:
    server = relay.Server(warehouse)
    client = typed(warehouse, "build")
    server.waiting.get(timeout=20)
    server.close()
    _, err = client.communicate(timeout=20)
    assert err == "the engine stops, so this command was not finished; run it again\n"
    assert client.returncode == relay.BROKEN
    assert not (warehouse / relay.NOTE).exists()
    assert relay.forward(warehouse, ["status"], {}) is None


def test_what_is_no_request_is_dropped_and_the_next_one_is_answered(server: relay.Server, warehouse: Path) -> None:
    path = json.loads((warehouse / relay.NOTE).read_text())["socket"]
    for nonsense in (
        b"\n",
        b"{}\n",
        b"[1]\n",
        b"not json\n",
        b'{"argv": 7}\n',
        b'{"argv": ["a"], "root": true}\n',
        b"\xff\x00\n",
    ):
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(path)
            raw.sendall(nonsense)
            assert raw.recv(1) == b""
    with pytest.raises(queue.Empty):
        server.waiting.get_nowait()
    client = typed(warehouse, "status")
    server.waiting.get(timeout=20).end(0)
    client.communicate(timeout=20)
    assert client.returncode == 0


def test_a_command_that_need_not_wait_works_while_others_do(warehouse: Path) -> None:
    class Tail:
        def wants(self, request: relay.Request) -> bool:
            return request.argv[0] == "tail"

        def work(self, call: relay.Call) -> None:
            call.cancelled.wait(20)
            call.out("heard")
            call.end(0)

    server = relay.Server(warehouse, Tail())
    try:
        builder, tail = typed(warehouse, "build"), typed(warehouse, "tail")
        call = server.waiting.get(timeout=20)
        until(lambda: len(server._calls) == 2)
        tail.send_signal(signal.SIGINT)
        out, _ = tail.communicate(timeout=20)
        assert (out, tail.returncode) == ("heard", 0)
        assert builder.poll() is None
        call.end(0)
        builder.communicate(timeout=20)
    finally:
        server.close()
