"""`headwater kafka`: a real broker that takes records until it is told to stop, or a sentence that says what is missing."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headwater.cli.entry import execute
from headwater.log.kafka import KafkaLog
from headwater.log.settings import KafkaLogSettings
from headwater.records.logged import Entry
from headwater.testing import kafka

JARS = Path(__file__).resolve().parents[2] / ".kafka"


def test_without_the_jars_it_says_how_to_get_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("java") is None:
        pytest.skip("there is no Java on this machine: apt-get install default-jre-headless")
    assert execute(["kafka", "--folder", str(tmp_path / "kafka"), "--jars", str(tmp_path)]) == 2
    assert "there are no Kafka jars in" in capsys.readouterr().err
    assert not (tmp_path / "kafka").exists()


@pytest.mark.kafka
def test_it_runs_until_it_is_told_to_stop(tmp_path: Path) -> None:
    if missing := kafka.found(JARS):
        pytest.skip(missing)
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "kafka", "--folder", "kafka", "--port", "0", "--jars", str(JARS), "--json"],
        cwd=tmp_path, stdout=subprocess.PIPE, text=True, env={**os.environ, "JAVA_TOOL_OPTIONS": kafka.QUICK, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        own = KafkaLogSettings(bootstrap_servers=told["bootstrap_servers"], timeout_seconds=60)
        with KafkaLog(own, {}) as log:
            log.append([Entry("events", "website", "u1", "m1", 1, b"{}")])
            assert log.end("events") == 1
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
    assert (tmp_path / "kafka" / "data").is_dir()
