"""`headwater up` as a user has it: a process, an address to send events to, and commands typed beside it."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from headwater import scaffold
from headwater.clock import CLOCK_FILE, FileClock
from headwater.errors import ConfigError
from headwater.up import Said, Up

HEADWATER = [sys.executable, "-m", "headwater"]
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
PATIENCE = 240.0
DECIDE_KEY = "a key of a decent length"

pytestmark = [pytest.mark.timeout(900), pytest.mark.long]


def until(true: Callable[[], Any], what: str, seconds: float = PATIENCE) -> Any:
    """Wait for a condition, and its value; a test that waits in vain fails here."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, f"in vain: {what}"
        threading.Event().wait(0.02)
    return found


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


class Running:
    """One `headwater up --json` and what it says."""

    def __init__(self, folder: Path, clock: Path, **env: str) -> None:
        self.folder = folder
        self.said: list[dict[str, Any]] = []
        self.env = {**os.environ, CLOCK_FILE: str(clock), "HEADWATER_DECIDE_KEY": DECIDE_KEY, **env}
        self.clock = FileClock(clock)
        self.errors = folder.parent / "errors.txt"
        with self.errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [*HEADWATER, "up", "--json", "--project", str(folder)],
                env=self.env,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
            )
        self._listener = threading.Thread(target=self._listen, daemon=True)
        self._listener.start()

    def _listen(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout:
            for line in self.process.stdout:
                self.said.append(json.loads(line))

    def close(self) -> None:
        """Leave nothing running, however the test ended."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._listener.join()

    def heard(self, stage: str, words: str) -> list[dict[str, Any]]:
        return [one for one in tuple(self.said) if one.get("stage") == stage and words in one["sentence"]]

    def wait_for(self, stage: str, words: str) -> dict[str, Any]:
        def look() -> Any:
            assert self.process.poll() is None or self.heard(stage, words), self.said
            return self.heard(stage, words)

        return until(look, f"{stage}: {words}")[-1]

    @property
    def address(self) -> str:
        return until(self._collector, "the collector listens")

    def _collector(self) -> str | None:
        path = self.folder / "warehouse" / ".collector"
        return path.read_text() if path.exists() else None

    def send(self, event: str, user: str, **more: Any) -> int:
        """One event over HTTP, as an SDK sends it; again while the answer is that it should be sent again."""
        body = {"userId": user, "event": event, "messageId": f"{user}-{event}", **more}

        def answered() -> int:
            try:
                return httpx2.post(f"{self.address}/v1/track", json=body, auth=("website", ""), timeout=10).status_code
            except httpx2.HTTPError:
                return 0

        return until(lambda: (code := answered()) not in (0, 429, 503) and code, f"{event} of {user} is taken")

    def type(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """A command, typed in the project's folder."""
        return subprocess.run(
            [*HEADWATER, *argv], cwd=self.folder, env=self.env, capture_output=True, text=True, check=False, timeout=240
        )

    def rows(self, sql: str) -> list[dict[str, Any]]:
        done = self.type("query", sql, "--json")
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def lead(self, user: str) -> list[dict[str, Any]]:
        return self.rows(f"select mql_score from user_alerts where user_id = '{user}'")

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def collector(self) -> psutil.Process:
        (found,) = [child for child in self.children() if "collector" in child.cmdline()]
        return found

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        code = self.process.wait(60)
        self._listener.join()
        return code


@pytest.fixture(scope="module")
def clock(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clock") / "now"
    FileClock(path).set(NOW)
    return path


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new project without files, never built, with a collector on any free port."""
    folder = tmp_path_factory.mktemp("up") / "shop"
    scaffold.init(folder, None)
    settings = folder / "headwater.yml"
    text = settings.read_text(encoding="utf-8")
    assert "port: 8787" in text
    text = text.replace("port: 8787", "port: 0").replace("decisions:\n", "decisions:\n  realtime: {port: 0}\n", 1)
    settings.write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def up(shop: Path, clock: Path) -> Iterator[Running]:
    running = Running(shop, clock)
    try:
        running.wait_for("build", "models, ")
        running.wait_for("engine", "follows the log")
        yield running
    finally:
        running.close()


def test_a_lead_crosses_the_threshold_and_is_gone_thirty_days_later_without_an_event(up: Running) -> None:
    assert up.send("Newsletter Subscribed", "ada") == 200
    until(lambda: up.rows("select * from user_mql_score where user_id = 'ada'"), "ada has a score")
    assert up.lead("ada") == []
    assert up.send("Demo Requested", "ada") == 200
    until(lambda: up.lead("ada") == [{"mql_score": 40}], "ada is a lead")
    up.clock.push(timedelta(days=29, hours=23))
    until(lambda: up.rows("select 1 from headwater.clock where as_of >= '2026-07-31 11:00:00'"), "the clock has moved")
    assert up.lead("ada") == [{"mql_score": 40}]
    up.clock.push(timedelta(hours=1, seconds=1))
    until(lambda: up.lead("ada") == [], "ada is no lead any more")
    checked = up.type("verify", "--all", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["wrong_rows"]) == (0, 0), checked.stdout


def test_events_are_taken_while_a_build_has_the_file_and_are_landed_after_it(up: Running) -> None:
    build = subprocess.Popen(
        [*HEADWATER, "build", "--json"],
        cwd=up.folder,
        env=up.env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    up.wait_for("engine", "parked for `headwater build --json`")
    assert up.send("Demo Requested", "grace") == 200
    assert build.poll() is None, "the build was over before an event could be sent"
    status = json.loads(up.type("status", "--json").stdout)
    assert build.poll() is None, "the build was over before the status was asked"
    assert (status["engine"]["state"], status["engine"]["busy_with"]) == ("parked", "headwater build --json")
    assert status["waiting"] >= 1
    out, err = build.communicate(timeout=240)
    assert build.returncode == 0, out + err
    assert json.loads(out)["details"]["model"] > 40
    until(lambda: up.lead("grace"), "grace is a lead")
    checked = up.type("verify", "--all", "--json")
    assert (checked.returncode, json.loads(checked.stdout)["wrong_rows"]) == (0, 0), checked.stdout


def test_a_decision_is_asked_for_while_the_engine_follows_the_log(up: Running) -> None:
    words = up.wait_for("decisions", "customers in memory")["sentence"]
    address = words.removeprefix("POST ").partition("/decide")[0]

    def ask(**question: Any) -> httpx2.Response:
        bearer = {"authorization": f"Bearer {DECIDE_KEY}"}
        return httpx2.post(f"{address}/decide", json={"customer_id": "lin", **question}, headers=bearer, timeout=20)

    assert ask().json()["error"] == "unknown_customer"
    traits = {"email": "lin@shop.example", "email_opt_in": True}
    body = {"userId": "lin", "traits": traits, "messageId": "lin-identify"}
    assert httpx2.post(f"{up.address}/v1/identify", json=body, auth=("website", ""), timeout=10).status_code == 200
    first = until(lambda: (answer := ask(key="page-view-1")).status_code == 200 and answer.json(), "lin is known")
    assert (first["action"], first["repeated"]) == ("none", False)
    assert first["blocked_by"] in ("eligibility", "holdout")
    (row,) = up.rows(
        f"select run_id, customer_id from headwater.decision_log where decision_id = '{first['decision_id']}'"
    )
    assert row == {"run_id": "http", "customer_id": "lin"}
    assert up.type("kill-switch", "on", "--reason", "a test").returncode == 0
    assert ask(key="page-view-2").json()["blocked_by"] == "kill_switch", "the switch counts at once"
    assert up.type("kill-switch", "off").returncode == 0
    assert up.type("decide").returncode == 0, "it has the file meanwhile"
    again = until(lambda: (answer := ask(key="page-view-1")).status_code == 200 and answer.json(), "asked again")
    assert again == first | {"repeated": True}
    assert "headwater_decide_open 1.0" in httpx2.get(f"{address}/metrics", timeout=20).text


def test_a_command_that_is_cancelled_beside_the_engine_ends_as_alone_and_the_engine_goes_on(up: Running) -> None:
    build = subprocess.Popen(
        [*HEADWATER, "build"], cwd=up.folder, env=up.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    before = len(up.heard("engine", "follows the log again"))
    note = up.folder / "warehouse" / ".lock.json"
    until(lambda: note.exists() and "headwater build" in note.read_text(), "the build has the project")
    build.send_signal(signal.SIGINT)
    _, err = build.communicate(timeout=120)
    assert (build.returncode, "interrupted; what was done so far is kept" in err) == (130, True), err
    until(lambda: len(up.heard("engine", "follows the log again")) > before, "the engine goes on")
    assert up.send("Demo Requested", "edith") == 200
    until(lambda: up.lead("edith"), "edith is a lead")


SAME = [
    ("syncs", "--json"),
    ("segment", "due", "--json"),
    ("segment", "promote", "99"),
    ("kill-switch", "--json"),
    ("query", "select count(*) as n from dim_customer"),
    ("query", "select nothing from nowhere"),
    ("activate", "--sync", "leads", "--json"),
    ("build", "--part", "half"),
]


def test_commands_say_the_same_and_end_the_same_as_alone(up: Running, clock: Path) -> None:
    """The last test with this engine: it ends it to be alone."""
    beside = {argv: up.type(*argv) for argv in SAME}
    children = up.children()
    assert up.collector() in children
    assert up.stop() == 0
    until(lambda: not any(alive(child) for child in children), "nothing is left running")
    assert up.errors.read_text() == ""
    assert [one["sentence"] for one in up.said[-2:]] == [
        "stopped; what it had accepted is in the log",
        "stopped after its last batch",
    ]
    assert not (up.folder / "warehouse" / ".engine.json").exists()
    for argv, one in beside.items():
        alone = up.type(*argv)
        assert (one.returncode, plain(one.stdout), one.stderr) == (
            alone.returncode,
            plain(alone.stdout),
            alone.stderr,
        ), argv


def plain(text: str) -> Any:
    """An output without what differs between two honest runs of the same command."""
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return _without(value)


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        gone = {"plan_id", "sync_run_id", "run_id", "seconds", "files", "started_at", "digest"}
        return {name: _without(inner) for name, inner in value.items() if name not in gone}
    return [_without(inner) for inner in value] if isinstance(value, list) else value


@pytest.mark.crash
def test_a_model_that_cannot_be_read_stops_the_models_and_nothing_else(shop: Path, clock: Path) -> None:
    running = Running(shop, clock)
    model = shop / "models" / "marts" / "leads" / "user_alerts.sql"
    good = model.read_text(encoding="utf-8")
    try:
        running.wait_for("engine", "follows the log")
        model.write_text(good + "{{ no_such_macro() }}", encoding="utf-8")
        broken = running.type("build")
        assert (broken.returncode, "no_such_macro" in broken.stderr) == (1, True), broken.stderr
        running.wait_for("engine", "the models cannot be read, events wait in the log")
        assert running.send("Demo Requested", "hedy") == 200
        assert json.loads(running.type("status", "--json").stdout)["engine"]["state"] == "stopped"
        assert running.rows("select 1 as one") == [{"one": 1}]
        model.write_text(good, encoding="utf-8")
        mended = running.type("build")
        assert mended.returncode == 0, mended.stderr
        until(lambda: running.lead("hedy"), "hedy is a lead")
        assert running.stop() == 0
    finally:
        model.write_text(good, encoding="utf-8")
        running.close()


@pytest.mark.crash
def test_what_dies_is_started_again_or_leaves_nothing_behind(shop: Path, clock: Path) -> None:
    running = Running(shop, clock)
    try:
        running.wait_for("engine", "follows the log")
        collector = running.collector()
        collector.kill()
        died = running.wait_for("collector", "it is started again in 0.5 s")
        assert "ended with exit code -9" in died["sentence"]
        assert running.send("Demo Requested", "mary") == 200
        until(lambda: running.lead("mary"), "mary is a lead")
        collector = running.collector()
        running.process.kill()
        running.process.wait()
        until(
            lambda: not collector.is_running() or collector.status() == psutil.STATUS_ZOMBIE,
            "the collector is gone too",
        )
        first = running.type("status").stdout.splitlines()[0]
        assert first.startswith(
            f"! engine                     no engine runs; the last one (process {running.process.pid}, since"
        )
        assert "ended unexpectedly, after its last committed batch, of 20" in first
    finally:
        running.close()
    again = Running(shop, clock)
    try:
        again.wait_for("engine", "follows the log")
        assert len(again.lead("mary")) == 1
        second = again.type("up")
        assert second.returncode == 6
        assert f"`headwater up` (process {again.process.pid}" in second.stderr
        assert again.stop(signal.SIGINT) == 0
    finally:
        again.close()


def test_a_port_that_is_taken_is_said_before_anything_is_started(shop: Path, clock: Path) -> None:
    settings = shop / "headwater.yml"
    before = settings.read_text(encoding="utf-8")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        settings.write_text(before.replace("port: 0", f"port: {port}"), encoding="utf-8")
        try:
            done = subprocess.run(
                [*HEADWATER, "up", "--json", "--project", str(shop)],
                env={**os.environ, CLOCK_FILE: str(clock)},
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
        finally:
            settings.write_text(before, encoding="utf-8")
    assert done.returncode == 2
    said = json.loads(done.stdout)
    assert said["exit_code"] == 2
    assert f"the collector cannot listen on 127.0.0.1:{port}: Address already in use" in said["error"]
    assert done.stderr == ""


def test_a_key_for_decisions_that_is_missing_is_said_before_anything_is_started(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(shop / "headwater.yml", tmp_path)
    monkeypatch.setenv("HEADWATER_DECIDE_KEY", "short")
    said: list[Said] = []
    starting = Up(tmp_path, None, said.append)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="HEADWATER_DECIDE_KEY holds 5 characters; expected a key of at least 16"):
        starting.run()
    assert starting.collector is None
    assert said == []
