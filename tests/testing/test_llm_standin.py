"""`headwater twin llm`, as a user starts it: what it says to set leads to an answer."""

import os
import re
import signal
import subprocess
import sys

import httpx2
import pytest
import yaml

from headwater.clock import SystemClock
from headwater.decisions.llm.ask import Ask
from headwater.decisions.llm.risk import Risk
from headwater.decisions.settings import DecisionSettings
from headwater.errors import UsageError
from headwater.testing import llm
from headwater.warehouse import Warehouse


def test_what_the_stand_in_says_to_set_leads_to_an_answer(tmp_path, monkeypatch):
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "twin", "llm", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
    )
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        settings = yaml.safe_load(lines[1].partition("headwater.yml")[2])
        name, _, value = lines[2].split()[-1].partition("=")
        monkeypatch.setenv(name, value)
        config = DecisionSettings.model_validate(settings["decisions"]).llm
        with Warehouse(tmp_path / "w.duckdb") as warehouse, Ask(warehouse, config, SystemClock()) as ask:
            prompt = '{"segment": "churn_rescue_nps", "buckets": {"activity_status": "Dormant"}}'
            assert ask("risk", "x", "", prompt, Risk).value == Risk(
                risk=0.65, rationale="It suits churn_rescue_nps with activity Dormant."
            )
        page = httpx2.get(re.search(r"http://\S+", lines[0])[0]).text
        assert "1 requests" in page
        assert "churn_rescue_nps" in page
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    assert (process.returncode, error) == (0, "")


def test_a_port_that_is_taken_is_said():
    with llm.serve(llm.Endpoint()) as address:
        port = int(address.rpartition(":")[2])
        with pytest.raises(UsageError, match=f"cannot listen on port {port}: "), llm.serve(llm.Endpoint(), port=port):
            pass
