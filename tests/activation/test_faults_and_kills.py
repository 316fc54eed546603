"""The fault script: ten thousand rows to each twin while calls break in every way there is, in random order, and the process is
killed at each point. In the end the twin holds exactly the model, nothing had an effect twice, and every failure said
what it was and what to do."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import faulty
import pytest

from headwater.activation.settings import DestinationSettings
from headwater.testing.twins.hubspot import HubSpot
from headwater.testing.twins.salesforce import FieldOf, Salesforce
from headwater.testing.twins.serving import Rolling, serve
from headwater.warehouse import Warehouse

ROWS = 10_000
FAULTS = [
    "ok", "busy", "broken", "partial", "hang_up", "reset", "expired", "write_then_broken", "write_then_hang_up",
    "write_then_stall", "garbage", "mute",
]  # fmt: skip
POINTS = ["planned", "claimed", "answered", "sent", "recorded", "finished"]


class Crm:
    """A twin, and how a sync reaches it."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        fields = {"LastName": "string", "Company": "string", "MQL_Score__c": "number"}
        self.twin: HubSpot | Salesforce
        if kind == "hubspot":
            self.twin = HubSpot(limit=Rolling(1_000_000, 10.0), properties={"contacts": {"email": "string", **fields}})
            self.secrets = {"HUBSPOT_TOKEN": self.twin.token}
        else:
            kinds = {"LastName": FieldOf(), "Company": FieldOf(), "MQL_Score__c": FieldOf("number")}
            self.twin = Salesforce(objects={"Lead": {"Email__c": FieldOf(external_id=True), **kinds}}, quota=10_000_000)
            self.secrets = {
                "SALESFORCE_CLIENT_ID": self.twin.client_id,
                "SALESFORCE_CLIENT_SECRET": self.twin.client_secret,
            }

    def settings(self, url: str) -> DestinationSettings:
        if self.kind == "hubspot":
            options = {"base_url": url, "timeout_seconds": 1}
            return DestinationSettings(type="hubspot", options=options, max_wait_seconds=11, attempts=3)
        options = {
            "login_url": url,
            "object": "Lead",
            "external_id": "Email__c",
            "timeout_seconds": 1,
            "poll_seconds": 0.01,
        }
        options["bulk_above"] = 0 if self.kind == "bulk" else 1_000_000
        return DestinationSettings(type="salesforce", options=options, attempts=3)

    def holds(self) -> dict[str, tuple[str, str, float]]:
        """What stands there: e-mail → name, company, score."""
        if isinstance(self.twin, HubSpot):
            found = {key: one.properties for key, one in self.twin.by("contacts", "email").items()}
        else:
            found = self.twin.by("Lead", "Email__c")
        return {key: (one["LastName"], one["Company"], float(one["MQL_Score__c"])) for key, one in found.items()}

    def ever(self) -> int:
        """How many records were ever made: more than people would be a person twice."""
        if isinstance(self.twin, HubSpot):
            return len(self.twin.records["contacts"])
        return len(self.twin.records["Lead"])


@contextmanager
def crm(kind: str, folder: Path):
    one = Crm(kind)
    with serve(one.twin) as url:
        yield one, one.settings(url)


def model(folder: Path) -> dict[str, tuple[str, str, float]]:
    with Warehouse(folder / "shop.duckdb") as warehouse:
        rows = warehouse.execute("select email, name, company, score from main.people").fetchall()
    return {email: (name, company, float(score)) for email, name, company, score in rows}


def settle(folder: Path, one: Crm, settings: DestinationSettings) -> None:
    """Run until nothing is left to do, and look at everything that was said on the way."""
    for _ in range(60):
        if faulty.run(folder, settings, one.secrets).status == "nothing":
            break
    else:
        pytest.fail("the sync never came to rest")
    assert one.holds() == model(folder)
    with Warehouse(folder / "shop.duckdb") as warehouse:
        assert (
            warehouse.value(
                "select count(*) from headwater.outbox where state in ('ready', 'claimed', 'failed', 'held')"
            )
            == 0
        )
        silent = "select count(*) from headwater.sync_rows where status <> 'done' and (code is null or message is null or advice is null)"
        assert warehouse.value(silent) == 0
        assert warehouse.value("select count(*) from headwater.sync_runs where status = 'running'") == 0


def child(folder: Path, one: Crm, settings: DestinationSettings, failpoint: str = "") -> subprocess.Popen[str]:
    told = json.dumps({"destination": settings.model_dump(), "secrets": one.secrets})
    return subprocess.Popen(
        [sys.executable, faulty.__file__, str(folder), told],
        env={**os.environ, "HEADWATER_FAILPOINT": failpoint},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", ["hubspot", "salesforce", "bulk"])
def test_ten_thousand_rows_through_every_fault_in_random_order(kind, tmp_path):
    draw = random.Random(11)
    faulty.build(tmp_path, ROWS, 1)
    with crm(kind, tmp_path) as (one, settings):
        script = FAULTS * (1 if kind == "bulk" else 4)
        draw.shuffle(script)
        one.twin.faults.add(script)
        settle(tmp_path, one, settings)
        assert one.ever() == ROWS
        assert one.twin.writes == ROWS
        draw.shuffle(script)
        one.twin.faults.add(script)
        before = model(tmp_path)
        faulty.build(tmp_path, ROWS, 2)
        after = model(tmp_path)
        settle(tmp_path, one, settings)
        changed = sum(before.get(key) != row for key, row in after.items()) + len(before.keys() - after.keys())
        assert one.twin.writes == ROWS + changed, "something had an effect twice"


@pytest.mark.crash
@pytest.mark.timeout(300)
@pytest.mark.parametrize("point", POINTS)
@pytest.mark.parametrize("kind", ["hubspot", "salesforce"])
def test_a_kill_at_each_point_between_faults(kind, point, tmp_path):
    faulty.build(tmp_path, 1_000, 1)
    with crm(kind, tmp_path) as (one, settings):
        one.twin.faults.add(["ok", "write_then_hang_up", "partial", "busy"])
        process = child(tmp_path, one, settings, f"activate.{point}")
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 137, f"the process did not come to {point}: {said} {errors}"
        settle(tmp_path, one, settings)
        assert one.twin.writes == 1_000


@pytest.mark.slow
@pytest.mark.timeout(3_600)
@pytest.mark.parametrize("kind", ["hubspot", "salesforce"])
def test_a_hundred_kills_at_random_moments_between_faults(kind, tmp_path):
    """With both twins two hundred kills (SIGKILL), at moments drawn from a seed, while the model changes and calls break."""
    draw = random.Random(5)
    faulty.build(tmp_path, ROWS, 1)
    with crm(kind, tmp_path) as (one, settings):
        for number in range(100):
            if number == 50:
                faulty.build(tmp_path, ROWS, 2)
            one.twin.faults.add(draw.choices(FAULTS, k=3))
            process = child(tmp_path, one, settings)
            process.stdout.readline()
            time.sleep(draw.uniform(0, 1.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        one.twin.faults.script.clear()
        settle(tmp_path, one, settings)
        assert one.ever() <= ROWS + 50
