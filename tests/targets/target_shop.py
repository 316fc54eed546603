"""One shop in two warehouses: the template project over random rows in DuckDB, and the same rows where another dbt target reads them."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from graphlib import TopologicalSorter
from pathlib import Path
from types import ModuleType
from typing import Any

from headwater.records.entities import ENTITIES, SQL_TYPES
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "src" / "headwater" / "project"


def _random_rows() -> ModuleType:
    place = importlib.util.spec_from_file_location("random_rows", ROOT / "tests" / "project" / "random_rows.py")
    assert place and place.loader
    module = importlib.util.module_from_spec(place)
    place.loader.exec_module(module)
    return module


random_rows = _random_rows()
Tables = dict[str, list[tuple[Any, ...]]]


LOGGED: dict[str, list[dict[str, Any]]] = {
    "headwater.customer_segments": [
        {"customer_id": "c1", "segment_id": 0, "segment_name": "Big Spenders"},
        {"customer_id": "c2", "segment_id": 4, "segment_name": "Loyal Customers"},
    ],
    "headwater.segment_assignments": [
        {"customer_id": "c1", "segment_id": 0, "stability": "fine"},
        {"customer_id": "c2", "segment_id": 3, "stability": "fine", "valid_to": datetime.fromisoformat("2026-03-01")},
        {"customer_id": "c2", "segment_id": 4, "stability": "doubtful"},
    ],
    "headwater.clv_scores": [{"customer_id": "c1", "clv": Decimal("12.3456")}, {"customer_id": "c3"}],
    "headwater.decision_traces": [{"trace_id": "t1", "trace": '{"consent": true}'}],
    "headwater.decision_log": [
        {
            "decision_id": "d1",
            "customer_id": "c1",
            "action": "offer",
            "channel": "email",
            "decided_at": datetime.fromisoformat("2026-03-01"),
        },
        {
            **{
                "decision_id": "d2",
                "customer_id": "c1",
                "action": "call",
                "channel": "cs_ticket",
                "decided_at": datetime.fromisoformat("2026-03-02"),
            },
            **{"discount_pct": Decimal("5.25"), "propensity": 0.1, "features": '{"nps": 7}', "trace_id": "t1"},
        },
        {
            "decision_id": "d3",
            "customer_id": "c2",
            "action": "none",
            "decided_at": datetime.fromisoformat("2026-03-02"),
        },
    ],
    "headwater.sync_runs": [
        {
            "sync_run_id": "r1",
            "sync": "leads",
            "planned": 3,
            "sent": 2,
            "started_at": datetime.fromisoformat("2026-03-01T09:00"),
        },
        {
            "sync_run_id": "r2",
            "sync": "leads",
            "planned": 1,
            "dry_run": False,
            "started_at": datetime.fromisoformat("2026-03-01T23:59:59"),
        },
        {
            "sync_run_id": "r3",
            "sync": "leads",
            "planned": 9,
            "dry_run": True,
            "started_at": datetime.fromisoformat("2026-03-01T10:00"),
        },
    ],
    "headwater.experiment_results": [
        {
            **{
                "goal": "conversion",
                "segment": "all",
                "metric": "reward",
                "group_a": "treatment",
                "group_b": "holdout",
            },
            **{"customers_a": 900, "customers_b": 100, "mean_a": 0.25, "mean_b": 0.125, "lift": 0.125, "trusted": True},
            "computed_at": datetime.fromisoformat("2026-03-02"),
        },
    ],
    "headwater.identities": [
        {
            "id_kind": "anonymous",
            "id": "v1",
            "person_id": "c9",
            "customer_id": "c9",
            "linked_at": datetime.fromisoformat("2026-02-01"),
        },
        {
            "id_kind": "user",
            "id": "c9",
            "person_id": "c9",
            "customer_id": "c9",
            "linked_at": datetime.fromisoformat("2026-02-01"),
        },
    ],
}
"""What the stages and the engine would have written; the columns left out are null."""


def make_project(folder: Path) -> Path:
    """The template with staging models that only read the tables of the schema `raw` in DuckDB."""
    shutil.copytree(TEMPLATE, folder, ignore=shutil.ignore_patterns("target", "logs", "*.duckdb*"))
    staging = folder / "models" / "staging"
    staging.mkdir(parents=True, exist_ok=True)
    for name, entity in ENTITIES.items():
        (staging / f"stg_{name}.sql").write_text(f"select {', '.join(entity.columns)} from raw.{name}\n")
    events = ", ".join(ENTITIES["events"].columns)
    (staging / "stg_events__files.sql").write_text(f"select {events} from {{{{ ref('stg_events') }}}}\n")
    return folder


def dbt(
    folder: Path, target: str, *arguments: str, python: Path | None = None, **environment: str
) -> subprocess.CompletedProcess[str]:
    """dbt in a process of its own, as a user types it; artefacts in `target_<target>`, so that targets do not meet."""
    return subprocess.run(
        [
            python or sys.executable,
            *("-W", "ignore", "-m", "dbt.cli.main"),
            *("--no-use-colors", "--no-send-anonymous-usage-stats", "--no-version-check"),
            *arguments,
            *("--target", target, "--target-path", f"target_{target}", "--project-dir", ".", "--profiles-dir", "."),
        ],
        cwd=folder,
        env={**os.environ, **environment},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )


def compiled(folder: Path, target: str) -> dict[str, str]:
    """The SQL of each model as `dbt compile --target` left it."""
    models = folder / f"target_{target}" / "compiled" / "shop" / "models"
    return {path.stem: path.read_text() for path in sorted(models.rglob("*.sql")) if path.parent.suffix != ".yml"}


@dataclass
class InDuckDB:
    """The shop in DuckDB. `load` fills it, `build` builds every model at a moment."""

    folder: Path

    @property
    def path(self) -> Path:
        return self.folder / "warehouse" / "shop.duckdb"

    def load(self, rows: dict[str, list[dict[str, Any]]]) -> None:
        with Warehouse(self.path) as warehouse:
            for name, entity in ENTITIES.items():
                columns = ", ".join(f"{field.name} {SQL_TYPES[field.type]}" for field in entity.fields)
                warehouse.execute(f"create or replace table raw.{name} ({columns})")
                if rows.get(name):
                    marks = ", ".join(f"({', '.join('?' for _ in entity.fields)})" for _ in rows[name])
                    values = [row.get(column) for row in rows[name] for column in entity.columns]
                    warehouse.execute(f"insert into raw.{name} values {marks}", values)
            for table, logged in LOGGED.items():
                for row in logged:
                    marks = ", ".join("?" for _ in row)
                    warehouse.execute(f"insert into {table} ({', '.join(row)}) values ({marks})", list(row.values()))

    def build(self, as_of: datetime) -> None:
        with Warehouse(self.path) as warehouse:
            warehouse.execute("delete from headwater.clock")
            warehouse.execute("insert into headwater.clock (as_of, set_at) values (?, ?)", [as_of, as_of])
        excluded = [part for kind in ("test", "unit_test") for part in ("--exclude-resource-type", kind)]
        result = Dbt(self.folder, self.path).invoke(["build", *excluded])
        assert result.ok, [f"{node.name}: {node.message}" for node in result.failed]

    def tables(self, names: Iterable[str], schema: str = "main") -> Tables:
        """All rows of models, columns in their order."""
        with Warehouse(self.path, read_only=True) as warehouse:
            return {name: [tuple(row.values()) for row in warehouse.rows(f"from {schema}.{name}")] for name in names}


def order(folder: Path, target: str) -> list[str]:
    """The models of a compiled target, each after those that it reads."""
    nodes = json.loads((folder / f"target_{target}" / "manifest.json").read_text())["nodes"].values()
    reads = {
        node["name"]: {read.rpartition(".")[2] for read in node["depends_on"]["nodes"] if read.startswith("model.")}
        for node in nodes
        if node["resource_type"] == "model"
    }
    return list(TopologicalSorter(reads).static_order())


def differences(one: Sequence[tuple[Any, ...]], other: Sequence[tuple[Any, ...]]) -> list[tuple[str, tuple[Any, ...]]]:
    """Rows that only one side has, counting repeats; ("one" | "other", row).

    Equal is what SQL calls equal, with null equal to null: decimals exactly, whatever their scale; booleans are no numbers;
    doubles when they differ by less than 1e-9, absolutely or relative to their size.
    """
    left, right = (Counter(_exact(row) for row in rows) for rows in (one, other))
    only = [("one", row) for row in (left - right).elements()] + [("other", row) for row in (right - left).elements()]
    found: list[tuple[str, tuple[Any, ...]]] = []
    candidates = [row for side, row in only if side == "other"]
    for side, row in only:
        if side == "other":
            continue
        close = next((index for index, candidate in enumerate(candidates) if _close(row, candidate)), None)
        if close is None:
            found.append((side, row))
        else:
            candidates.pop(close)
    return found + [("other", row) for row in candidates]


def _exact(row: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(
        ("boolean", value) if isinstance(value, bool) else value.normalize() if isinstance(value, Decimal) else value
        for value in row
    )


def _close(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    for left, right in zip(one, other, strict=True):
        if left == right:
            continue
        if not (isinstance(left, float) or isinstance(right, float)) or left is None or right is None:
            return False
        if isinstance(left, str) or isinstance(right, str):
            return False
        if abs(float(left) - float(right)) > 1e-9 * max(1.0, abs(float(left))):
            return False
    return True
