"""The DAG: what it may import, and what it does when Airflow runs it."""

import ast
import os
import stat
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import duckdb
import pytest

ROOT = Path(__file__).resolve().parents[2]
DAG = ROOT / "orchestration" / "airflow_dag.py"
AIRFLOW = ROOT / ".venv-airflow" / "bin" / "airflow"


def imports(source: str) -> set[str]:
    """The modules that a source imports, at any depth of nesting."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level + (node.module or ""))
    return found


def foreign(source: str) -> set[str]:
    """What is neither the standard library nor `airflow.sdk`."""
    return {
        name
        for name in imports(source)
        if name.partition(".")[0] not in sys.stdlib_module_names and not (name + ".").startswith("airflow.sdk.")
    }


def test_imports_are_airflow_sdk_and_the_standard_library() -> None:
    assert foreign(DAG.read_text(encoding="utf-8")) == set()


def test_an_import_of_anything_else_is_seen() -> None:
    assert foreign("import json\nfrom airflow.models import DAG\ndef f():\n    import headwater") == {
        "airflow.models",
        "headwater",
    }


class Airflow:
    """Airflow with a SQLite database of its own; `run` is `airflow dags test` of the pipeline."""

    def __init__(self, home: Path) -> None:
        assert AIRFLOW.exists(), (
            f"Airflow is not here ({AIRFLOW.relative_to(ROOT)}); `make test-all` makes its environment"
        )
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("HEADWATER_", "AIRFLOW"))},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(DAG.parent),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "NO_COLOR": "1",
        }
        self.call("db", "migrate")

    def call(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [AIRFLOW, *arguments],
            env={**self.environment, **environment},
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )

    def run(self, day: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.call("dags", "test", "customer_activation_pipeline", day, **environment)


@pytest.fixture(scope="module")
def airflow(tmp_path_factory: pytest.TempPathFactory) -> Airflow:
    return Airflow(tmp_path_factory.mktemp("airflow"))


HEADWATER = Path(sys.executable).parent / "headwater"


def tables(project: Path) -> dict[str, object]:
    """What a pipeline leaves behind, as far as a second one must leave the same."""
    queries = {
        "failed": "select distinct stage from headwater.stage_runs where status not in ('ok', 'skipped')",
        "stages": "select distinct stage from headwater.stage_runs order by stage",
        "versions": "select model, version, alias from headwater.ml_model_registry order by all",
        "segments": "select segment_name, count(*) from fct_customer_segments group by all order by all",
        "decisions": "select action, blocked_by, count(*) from headwater.decision_log group by all order by all",
        "sent": "select count(*) from headwater.outbox where state = 'done'",
        "contacts": "select count(*) from headwater.contact_ledger",
    }
    with duckdb.connect(str(project / "warehouse" / "shop.duckdb"), read_only=True) as connection:
        return {name: connection.execute(sql).fetchall() for name, sql in queries.items()}


@pytest.mark.airflow
@pytest.mark.timeout(900)
def test_the_pipeline_does_the_whole_loop_and_the_same_twice(airflow: Airflow, demo, tmp_path: Path) -> None:
    project = tmp_path / "shop"
    made = subprocess.run(
        [HEADWATER, "init", project, "--from", demo.files], text=True, capture_output=True, check=False
    )
    assert made.returncode == 0, made.stdout + made.stderr
    once = airflow.run("2026-01-05", HEADWATER_PROJECT=str(project), HEADWATER_BIN=str(HEADWATER))
    assert once.returncode == 0, once.stdout
    first = tables(project)
    assert first["failed"] == []
    assert {"seed", "build_upstream", "build_downstream", "test", "decide", "plan", "export"} <= {
        stage.split()[0] for (stage,) in first["stages"]
    }
    assert (project / "outbox" / "email_actions.preview.json").exists(), "a dry run says what would be sent"
    assert first["versions"], "the first run trains, because no model is there"
    assert len(first["segments"]) > 1
    assert first["decisions"]
    assert first["sent"] == [(0,)], "a dry run is the default"
    assert first["contacts"] == [(0,)]
    assert (project / "bi" / "report.html").exists()
    again = airflow.run("2026-01-06", HEADWATER_PROJECT=str(project), HEADWATER_BIN=str(HEADWATER))
    assert again.returncode == 0, again.stdout
    assert tables(project) == first


class StandIn:
    """A `headwater` that writes down how it was called and fails where it is told to, as often as it is told to."""

    def __init__(
        self, folder: Path, *, fails_at: str = "nothing", code: int = 0, times: int = 99, due: bool = False
    ) -> None:
        self.calls_file = folder / "calls"
        self.path = folder / "headwater"
        self.path.write_text(
            f"""#!/bin/sh
echo "$*" >> "{self.calls_file}"
if [ "$*" = "{fails_at}" ] && [ "$(grep -cx "$*" "{self.calls_file}")" -le {times} ]; then echo "found this, expected that"; exit {code}; fi
if [ "$*" = "segment due --json" ]; then echo '{{"details": {{"due": {"true" if due else "false"}}}}}'; fi
""",
            encoding="utf-8",
        )
        self.path.chmod(self.path.stat().st_mode | stat.S_IXUSR)

    @property
    def calls(self) -> list[str]:
        return self.calls_file.read_text(encoding="utf-8").splitlines()


@pytest.fixture
def alerts():
    """An address that takes alerts, and the list of what it got."""
    got: list[bytes] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alert", got
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.airflow
def test_data_that_are_wrong_stop_the_pipeline_at_once_and_alert(airflow: Airflow, alerts, tmp_path: Path) -> None:
    address, got = alerts
    stand_in = StandIn(tmp_path, fails_at="test", code=4)
    done = airflow.run("2026-01-05", HEADWATER_BIN=str(stand_in.path), HEADWATER_ALERT_WEBHOOK=address)
    assert done.returncode != 0
    assert stand_in.calls == [
        "seed",
        "build --part upstream",
        "segment monitor",
        "segment due --json",
        "segment assign",
        "build --part downstream",
        "test",
    ], done.stdout
    assert len(got) == 1
    assert b"customer_activation_pipeline: test failed" in got[0]
    assert "found this, expected that" in done.stdout


@pytest.mark.airflow
def test_a_held_project_is_tried_again_and_nobody_is_alerted(airflow: Airflow, alerts, tmp_path: Path) -> None:
    address, got = alerts
    stand_in = StandIn(tmp_path, fails_at="decide", code=6, times=1, due=True)
    done = airflow.run(
        "2026-01-06", HEADWATER_BIN=str(stand_in.path), HEADWATER_ALERT_WEBHOOK=address, HEADWATER_RETRY_SECONDS="0"
    )
    assert done.returncode == 0, done.stdout
    assert stand_in.calls.count("decide") == 2
    assert "segment train" in stand_in.calls
    assert stand_in.calls[-1] == "export"
    assert got == []


@pytest.mark.airflow
def test_nothing_is_sent_unless_the_environment_says_so(airflow: Airflow, tmp_path: Path) -> None:
    stand_in = StandIn(tmp_path)
    assert airflow.run("2026-01-07", HEADWATER_BIN=str(stand_in.path)).returncode == 0
    assert "activate --dry-run" in stand_in.calls
    assert airflow.run("2026-01-08", HEADWATER_BIN=str(stand_in.path), HEADWATER_DRY_RUN="0").returncode == 0
    assert stand_in.calls[-2] == "activate --no-dry-run"
