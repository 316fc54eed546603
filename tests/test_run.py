"""The whole order of a run, on a small synthetic shop: twice gives the same as once, a kill anywhere loses nothing."""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headwater import scaffold
from headwater.cli import screen
from headwater.clock import FixedClock
from headwater.errors import ConfigError
from headwater.failpoint import NAMES
from headwater.records.stage import StageResult
from headwater.stack import Stack
from headwater.testing.shop import Shop
from headwater.warehouse import Warehouse

NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)
STAGES = ("run.", "segment.", "decide.", "activate.")
"""Prefixes of the failpoints that a run passes; the others belong to the log, the collector and the engine."""
RUN, ACTIVATE = "run(deliver=True)", "activate(dry_run=False)"
CHILD = """
import sys
from datetime import datetime
from pathlib import Path
from headwater.clock import FixedClock
from headwater.stack import Stack
with Stack(Path(sys.argv[1]), clock=FixedClock(datetime.fromisoformat(sys.argv[2]))) as stack:
    list(stack.{stages})
"""

# what differs between two honest runs: ids of runs, how long things took, and the bytes of a zipped model file
VOLATILE = {
    "artefact_sha256",
    "run_id",
    "sync_run_id",
    "claimed_by",
    "attempt",
    "attempts",
    "load_id",
    "started_at",
    "ended_at",
    "plan_id",
}
HISTORY = {
    "stage_runs",
    "stage_status",
    "test_results",
    "segment_monitor",
    "sync_runs",
    "sync_rows",
    "mart_marketing__activation_metrics",
}
# rows that are done leave the outbox with the next run of their sync
OPEN = {'headwater."outbox"': "where state <> 'done'"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that was made and never run."""
    folder = tmp_path_factory.mktemp("run") / "shop"
    data = folder / "data"
    data.mkdir(parents=True)
    Shop(customers=600, seed=3).write(data)
    scaffold.init(folder, data)
    return folder


def copied(made: Path, to: Path) -> Path:
    return Path(shutil.copytree(made, to / "shop"))


def run(folder: Path, failpoint: str | None = None, stages: str = RUN) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, **({"HEADWATER_FAILPOINT": failpoint} if failpoint else {})}
    return subprocess.run(
        [sys.executable, "-c", CHILD.format(stages=stages), str(folder), NOW.isoformat()],
        env=env,
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )


def content(folder: Path) -> dict[str, list[tuple[object, ...]]]:
    """Every table of the warehouse as sorted rows, without what may differ between two honest runs."""
    found = {}
    with Warehouse(folder / "warehouse" / "shop.duckdb") as warehouse:
        tables = warehouse.rows(
            "select table_schema as schema, table_name as name from information_schema.tables where table_schema <> 'raw' and table_schema <> 'information_schema'"
        )
        for table in tables:
            if table["name"] in HISTORY:
                continue
            relation = f'{table["schema"]}."{table["name"]}"'
            columns = [
                row["column_name"]
                for row in warehouse.rows(f"describe {relation}")
                if row["column_name"] not in VOLATILE
            ]
            listed = ", ".join(f'"{column}"' for column in columns)
            found[relation] = warehouse.execute(
                f"select {listed} from {relation} {OPEN.get(relation, '')} order by all"
            ).fetchall()
    return found


def delivered(folder: Path) -> list[str]:
    """Every row that stands in the outbox folder, sorted; a row sent twice stands here twice."""
    files = sorted(path for path in (folder / "outbox").rglob("*.csv"))
    return sorted(line for path in files for line in path.read_text(encoding="utf-8").splitlines()[1:])


@pytest.fixture(scope="module")
def undisturbed(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = copied(made, tmp_path_factory.mktemp("undisturbed"))
    done = run(folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.long
def test_a_run_leaves_every_stage_ok_and_customers_acted_on(undisturbed: Path) -> None:
    with Warehouse(undisturbed / "warehouse" / "shop.duckdb") as warehouse:
        stages = dict(warehouse.execute("select stage, status from headwater.stage_runs").fetchall())
        assert set(stages.values()) <= {"ok", "skipped"}
        assert warehouse.value("select count(*) from int_segment_scores") > 300, "it follows the stage segment"
        assert {"seed", "build_upstream", "segment", "build_downstream", "decide", "plan", "activate"} <= {
            stage.split()[0] for stage in stages
        }
        assert warehouse.value("select count(*) from headwater.decision_log where action <> 'none'") > 0
        assert warehouse.value("select count(*) from headwater.contact_ledger") > 0
        assert warehouse.value("select count(*) from headwater.test_results where status <> 'pass'") == 0
    assert delivered(undisturbed)


@pytest.mark.long
def test_running_again_changes_nothing_and_sends_nothing(undisturbed: Path) -> None:
    before, sent = content(undisturbed), delivered(undisturbed)
    assert run(undisturbed).returncode == 0
    after = content(undisturbed)
    assert {name for name in after if after[name] != before.get(name)} == set()
    assert delivered(undisturbed) == sent


def same_as(folder: Path, undisturbed: Path) -> None:
    """The project holds what an undisturbed run holds, and nothing was sent twice."""
    expected, found = content(undisturbed), content(folder)
    assert {relation for relation in expected if found.get(relation) != expected[relation]} == set()
    assert delivered(folder) == delivered(undisturbed)


@pytest.mark.crash
@pytest.mark.timeout(1500)
def test_a_run_killed_at_every_failpoint_in_turn_ends_like_an_undisturbed_one(
    made: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder = copied(made, tmp_path)
    for name in (name for name in NAMES if name.startswith(STAGES)):
        killed = run(folder, name, ACTIVATE if name.startswith("activate.") else RUN)
        assert killed.returncode == 137, f"{name} was not passed: {killed.stderr}"
    again = run(folder)
    assert again.returncode == 0, again.stderr
    same_as(folder, undisturbed)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_run_killed_at_fifty_random_moments_ends_like_an_undisturbed_one(
    made: Path, undisturbed: Path, tmp_path: Path
) -> None:
    folder, moments, whole = copied(made, tmp_path), random.Random(20260701), 20.0
    for _ in range(50):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD.format(stages=RUN), str(folder), NOW.isoformat()],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            child.wait(timeout=moments.uniform(0.5, whole))
        except subprocess.TimeoutExpired:
            child.kill()
        child.wait()
    again = run(folder)
    assert again.returncode == 0, again.stderr
    same_as(folder, undisturbed)


@pytest.mark.long
def test_a_failing_test_of_the_data_stops_the_run_and_keeps_the_last_good_tables(
    undisturbed: Path, tmp_path: Path
) -> None:
    folder = copied(undisturbed, tmp_path)
    (folder / "tests" / "nobody_is_allowed.sql").write_text("select customer_id from {{ ref('dim_customer') }}\n")
    with Stack(folder, clock=FixedClock(NOW + timedelta(hours=1))) as stack:
        with pytest.raises(
            Exception, match=r"nobody_is_allowed.* The tables of the last good build are still in place"
        ):
            list(stack.run())
        assert stack.status()[1]["status"] == "failed"
    with Warehouse(folder / "warehouse" / "shop.duckdb") as warehouse:
        assert warehouse.value("select count(*) from main.mart_marketing__customer_360") == 600
        assert (
            warehouse.value("select failures from headwater.test_results where test_name = 'nobody_is_allowed'") == 600
        )


@pytest.mark.long
def test_a_sync_that_cannot_be_planned_fails_alone(undisturbed: Path, tmp_path: Path) -> None:
    folder = copied(undisturbed, tmp_path)
    mapping = folder / "mapping.yml"
    mapping.write_text(mapping.read_text(encoding="utf-8") + "mask:\n  customers.phone: hash\n", encoding="utf-8")
    with Stack(folder, clock=FixedClock(NOW + timedelta(hours=1))) as stack:
        planned = {result.stage: result for result in stack.plan()}
        failed = {row["stage"] for row in stack.status() if row["status"] == "failed"}
        with pytest.raises(ConfigError, match=r"fields.phone: the column 'phone' is declared masked"):
            list(stack.plan("cs_ticket_actions"))
    assert planned.keys() == {f"plan {sync.name}" for sync in stack.config.syncs}
    assert [stage for stage, result in planned.items() if result.status != "ok"] == ["plan cs_ticket_actions"]
    assert "take this line out of the sync" in planned["plan cs_ticket_actions"].message
    assert failed == {"plan cs_ticket_actions"}


def test_a_warning_that_the_last_good_run_had_too_is_counted_and_not_said_again(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, runs = copied(made, tmp_path), count()

    def run(*warnings: str, fails: bool = False) -> StageResult:
        def work() -> StageResult:
            if fails:
                raise ConfigError("no")
            return StageResult("seed", "ok", 0, "done", warnings=warnings)

        with Stack(folder, clock=FixedClock(NOW + timedelta(seconds=next(runs)))) as stack:
            return stack._stage("seed", work)

    assert run("a", "b").repeated == 0
    with pytest.raises(ConfigError):
        run(fails=True)
    again = run("a", "new", "b")
    assert (again.warnings, again.repeated) == (("new", "a", "b"), 2)
    screen.show([again], as_json=False, before_line=lambda: None, only_new=True)
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["    ! new", "    ! 2 more as in the last run; `headwater status --warnings` shows them"]
    screen.show([run("a")], as_json=False, before_line=lambda: None, only_new=True)
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["    ! 1 warning as in the last run; `headwater status --warnings` shows it"]
    with Stack(folder) as stack:
        assert stack.status()[0]["warnings"] == ["a"]


class Brief(Stack):
    """A stack whose stages do nothing, but the delivery, which cannot."""

    def __getattribute__(self, name: str) -> Any:
        if name in ("seed", "build", "segment", "outcomes", "decide", "compare", "export"):
            return lambda *_: StageResult(name, "ok", 0, "")
        return super().__getattribute__(name)

    def plan(self, sync: str | None = None) -> Iterator[StageResult]:
        yield StageResult("plan", "failed", 0, "the sync has 1 problem")

    def deliver(self, *_: object, **__: object) -> Iterator[StageResult]:  # type: ignore[override]
        yield StageResult("activate", "ok", 0, "")
        raise ConfigError("the sync has 1 problem")


def test_what_cannot_be_delivered_is_said_at_the_end_of_the_run(made: Path) -> None:
    """The comparison and the report are made all the same."""
    done = []
    with Brief(made, clock=FixedClock(NOW)) as stack, pytest.raises(ConfigError, match="the sync has 1 problem"):
        for result in stack.run(deliver=True):
            done.append(result.stage)
    assert done[done.index("activate") :] == ["activate", "compare", "export"]


@pytest.mark.long
def test_a_dry_run_leaves_nothing_behind_but_previews(undisturbed: Path, tmp_path: Path) -> None:
    folder = copied(undisturbed, tmp_path)
    before, sent = content(folder), delivered(folder)
    with Stack(folder, clock=FixedClock(NOW)) as stack:
        results = list(stack.activate("high_value_lapse_risk", discount_cap=5, suppress_hours=24, dry_run=True))
    assert results[0].stage == "decide"
    assert content(folder) == before
    assert delivered(folder) == sent
