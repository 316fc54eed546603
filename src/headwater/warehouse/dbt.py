"""dbt, in this process.

dbt opens the DuckDB file itself and keeps it open after a run, so its connections are closed when `invoke` returns; the
caller closes its own `Warehouse` before. A second call in one process needs no imports and parses only what has changed
(dbt's partial parsing): 0.2 to 0.6 s for one model, where the first call takes about 4 s.
"""

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from headwater.errors import StageFailed

OnNode = Callable[[str, str, int, int], None]
"""Called as each node ends: name, status, how many have ended, how many there are (0 when unknown)."""

_FAILED = ("error", "fail", "runtime error")


@dataclass(frozen=True)
class NodeResult:
    """One node of a dbt run. `status` is dbt's own word; `failures` counts failing rows of a test."""

    name: str
    kind: str
    status: str
    failures: int
    message: str
    seconds: float
    model: str = ""

    @property
    def failed(self) -> bool:
        return self.status in _FAILED


@dataclass(frozen=True)
class DbtResult:
    """What a dbt command did."""

    ok: bool
    nodes: tuple[NodeResult, ...] = ()
    value: Any = None
    problems: tuple[str, ...] = field(default=())

    def count(self, kind: str) -> int:
        """How many nodes of a kind (model, test, seed, unit_test) ran well; of the kind `skipped`: how many did not run."""
        if kind == "skipped":
            return sum(1 for node in self.nodes if node.status == "skipped")
        return sum(1 for node in self.nodes if node.kind == kind and not node.failed and node.status != "skipped")

    @property
    def failed(self) -> tuple[NodeResult, ...]:
        return tuple(node for node in self.nodes if node.failed)

    @property
    def message(self) -> str:
        """One sentence for the screen."""
        tests = self.count("test") + self.count("unit_test")
        skipped = f", {self.count('skipped')} skipped" if self.count("skipped") else ""
        return f"{self.count('model')} models, {tests} tests passed{skipped}"

    @property
    def tests(self) -> tuple[NodeResult, ...]:
        return tuple(node for node in self.nodes if node.kind in ("test", "unit_test"))


class Dbt:
    """dbt for one project folder. `warehouse` is the DuckDB file; `threads` models are built at the same time.

    `memory_limit` is the most that DuckDB may use while dbt builds ("4GB"); left out, the project's profile says.
    """

    def __init__(self, folder: Path, warehouse: Path, *, threads: int = 2, memory_limit: str | None = None) -> None:
        self.folder = folder.resolve()
        self.warehouse = warehouse.resolve()
        self.threads = threads
        self.memory_limit = memory_limit

    @property
    def _where(self) -> list[str]:
        return ["--project-dir", str(self.folder), "--profiles-dir", str(self.folder)]

    def invoke(self, arguments: Sequence[str], on_node: OnNode | None = None, *, artefacts: bool = True) -> DbtResult:
        """Run one dbt command (`["build", "--select", "x+"]`) and say what each node did.

        Without `artefacts` dbt leaves `target/manifest.json` and `run_results.json` as they were, which halves the time of a
        rebuild of one model. A failing node is not an exception: look at `ok` and `nodes`. Raises StageFailed, with dbt's
        own sentence, when dbt could not run at all (a file that does not parse, a macro that raises).
        """
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager  # noqa: PLC0415  (2.5 s of imports)
        from dbt.cli.main import dbtRunner  # noqa: PLC0415

        said: list[str] = []
        ended = total = 0

        def listen(event: Any) -> None:
            nonlocal ended, total
            name = event.info.name
            if name == "ConcurrencyLine":
                total = int(getattr(event.data, "node_count", 0) or 0)
            elif name == "NodeFinished":
                ended += 1
                if on_node:
                    on_node(event.data.node_info.node_name, event.data.node_info.node_status, ended, total)
            elif event.info.level in ("error", "warn") and event.info.msg.strip():
                said.append(event.info.msg.strip())

        runner = dbtRunner(callbacks=[listen])
        told = {"HEADWATER_WAREHOUSE": str(self.warehouse)}
        if self.memory_limit:
            told["HEADWATER_MEMORY_LIMIT"] = self.memory_limit
        before = {name: os.environ.get(name) for name in told}
        os.environ.update(told)
        own = ["--threads", str(self.threads)] if arguments[0] in _RUNS_NODES else []
        own += [] if artefacts else ["--no-write-json"]
        try:
            outcome = runner.invoke(
                [*_QUIET, "--log-path", str(self.folder / "target" / "logs"), *arguments, *own, *self._where]
            )
        finally:
            DuckDBConnectionManager.close_all_connections()
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
        if outcome.exception is not None:
            sentence = " ".join(str(outcome.exception).split())
            raise StageFailed(f"dbt {arguments[0]} could not run in {self.folder}: {sentence}") from outcome.exception
        nodes = tuple(
            _node(result) for result in getattr(outcome.result, "results", None) or () if hasattr(result, "node")
        )
        return DbtResult(ok=bool(outcome.success), nodes=nodes, value=outcome.result, problems=tuple(said))


_RUNS_NODES = ("build", "run", "test", "seed", "compile")
_QUIET = ("--quiet", "--no-print", "--log-level", "none", "--no-send-anonymous-usage-stats", "--no-version-check")


def _node(result: Any) -> NodeResult:
    node = result.node
    attached = getattr(node, "attached_node", None) or ""
    depends = getattr(getattr(node, "depends_on", None), "nodes", None) or [""]
    return NodeResult(
        name=node.name,
        kind=str(node.resource_type),
        status=str(result.status),
        failures=int(result.failures or 0),
        message=" ".join(str(result.message or "").split()),
        seconds=float(result.execution_time or 0.0),
        model=(attached or depends[0]).rpartition(".")[2],
    )


def tagged(folder: Path, tag: str) -> list[str]:
    """Names of the models that carry a tag, from the manifest of dbt's last run. Raises StageFailed when there is none."""
    path = folder / "target" / "manifest.json"
    if not path.exists():
        raise StageFailed(
            f"{path} is not there, so nobody knows which models carry the tag {tag!r}; run `headwater build` first"
        )
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"].values()
    return sorted(node["name"] for node in nodes if node["resource_type"] == "model" and tag in node["tags"])
