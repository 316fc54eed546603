"""The batch build: dbt in this process against the statements it compiled, run as plain CREATE TABLE AS on the same file."""

import json
import shutil
from graphlib import TopologicalSorter
from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater import scaffold
from headwater.stack import Stack
from headwater.warehouse import Warehouse

COLD_DBT = 4.0
MEMORY_MB = 6_000
MART = "mart_marketing__cohort_retention"


def seeded_100k(folder: Path) -> None:
    _seeded(folder, "shop_100k")


def seeded_1m(folder: Path) -> None:
    _seeded(folder, "shop_1m")


def built_100k(folder: Path) -> None:
    """The project of `seeded_100k` with every model built."""
    shutil.copytree(folder.parent / "seeded_100k", folder)
    _run(folder)


def _seeded(folder: Path, shop: str) -> None:
    """A project from the shop's files, seeded: raw tables and dbt's seeds are there, no model is built."""
    scaffold.init(folder, folder.parent / shop)
    with Stack(folder) as stack:
        stack.seed()


def build_100k(work: Path) -> Measured:
    return _build(work, "seeded_100k")


def build_1m(work: Path) -> Measured:
    return _build(work, "seeded_1m")


def _build(work: Path, project: str) -> Measured:
    """Builds in the folder that was seeded, as a user does, and leaves the models there."""
    folder = work / project
    with Stack(folder) as stack:
        database = stack.warehouse.path
        memory = stack.config.warehouse.memory_limit
    before = work / "before" / database.name  # the compiled SQL names the catalog, which is the file's name
    before.parent.mkdir()
    shutil.copy2(database, before)
    took = seconds(lambda: _run(folder))
    peak = peak_mb()
    with Warehouse(before, memory_limit=memory) as warehouse:
        # dbt leaves its tables in the file; so does the bound, whose last statement is a checkpoint
        bound = seconds(lambda: [warehouse.execute(sql) for sql in [*_statements(folder), "checkpoint"]])
    with Warehouse(database, read_only=True) as warehouse:
        lines, customers = (
            warehouse.value(f"select count(*) from {name}") for name in ("stg_order_lines", "dim_customer")
        )
    shutil.rmtree(before.parent)
    ok = took <= 1.15 * bound + COLD_DBT and peak < MEMORY_MB
    return Measured(f"{lines:,} order lines, {customers:,} customers", took, peak, bound, ok)


def rebuild_mart(work: Path) -> Measured:
    """One mart is edited and built again by a process that has run dbt before."""
    folder = work / "built_100k"
    mart = next((folder / "models").rglob(f"{MART}.sql"))
    _run(folder, "--select", MART, artefacts=False)
    found = []
    for nth in range(3):
        mart.write_text(f"{mart.read_text()}\n-- change {nth}\n")
        found.append(seconds(lambda: _run(folder, "--select", MART, artefacts=False)))
    return Measured(MART, min(found), peak_mb(), 1.0, min(found) < 1)


def _run(folder: Path, *select: str, artefacts: bool = True) -> None:
    with Stack(folder) as stack:
        result = stack.dbt.invoke(["run", *select], artefacts=artefacts)
    if not result.ok:
        raise RuntimeError("; ".join(f"{node.name}: {node.message}" for node in result.nodes if node.failed))


def _statements(folder: Path) -> list[str]:
    """Every model that dbt has run, in an order that works: CREATE TABLE or VIEW with the SQL that dbt compiled."""
    manifest = json.loads((folder / "target" / "manifest.json").read_text())
    models = {key: node for key, node in manifest["nodes"].items() if node["resource_type"] == "model"}
    order = TopologicalSorter({key: set(node["depends_on"]["nodes"]) & set(models) for key, node in models.items()})
    statements = []
    for node in (models[key] for key in order.static_order()):
        kind = node["config"]["materialized"]
        if kind == "ephemeral":
            continue
        compiled = (folder / node["compiled_path"]).read_text()
        name = f'"{node["schema"]}"."{node["alias"]}"'
        statements.append(f"create {'view' if kind == 'view' else 'table'} {name} as ({compiled}\n)")
    return statements
