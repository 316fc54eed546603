"""`headwater twin`, as a user starts it: a real process, a real sync against it, the page in a browser's place."""

import os
import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx2
import pytest

from headwater.activation.destinations import Batch, Operation, make
from headwater.activation.settings import DestinationSettings


@contextmanager
def twin(name):
    """The command running; gives its address and the environment that it tells to set."""
    process = subprocess.Popen(
        [sys.executable, "-m", "headwater", "twin", name, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"},
    )
    try:
        lines = [process.stdout.readline() for _ in range(4)]
        secrets = dict(part.split("=", 1) for part in lines[2].split()[3:])
        yield re.search(r"http://\S+", lines[0])[0], secrets, lines
    finally:
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
        assert (process.returncode, error) == (0, "")


@pytest.mark.parametrize(
    ("name", "options", "fields"),
    [
        (
            "salesforce",
            {"object": "Lead", "external_id": "Person_Id__c"},
            {"LastName": "Lovelace", "Company": "Analytical"},
        ),
        ("hubspot", {}, {"lastname": "Lovelace", "ml_segment": "Champions (VIPs)"}),
    ],
)
def test_a_sync_that_does_what_the_twin_says_arrives(name, options, fields):
    with twin(name) as (address, secrets, lines):
        place = re.search(r"options: \{(\w+): ", lines[1])[1]
        settings = DestinationSettings(type=name, options={**options, place: address})
        crm = make("crm", settings, folder=None, environment=secrets)
        crm.open()
        (result,) = crm.deliver(
            Batch("b", "people", (Operation("o1", "people", "ada@example.org", 1, "create", fields),))
        )
        crm.close()
        assert result.status == "done"
        assert "Lovelace" in httpx2.get(address).text
