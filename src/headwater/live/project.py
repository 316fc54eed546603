"""The project's live models: compiled by dbt for the engine, in their order, each with what lineage proved of it.

A model is live when it is a table (`live_kind()` where the engine keeps it) and names its key:

    config:
      meta:
        headwater: {key: customer_id, mode: auto, max_every: 1s, touch: {schema.table: "select …"}, changes: true}

    key        the output column that says whose row it is
    mode       auto | delta | keyed | full. delta adds and takes away what changed, where that is proved to give the same
               (additive.py); keyed recomputes the touched keys; full recomputes the model at every change that can concern
               it; auto takes the first of these that is proved
    max_every  at most so often is a full model recomputed
    touch      how changed rows of a table reach the keys, where lineage cannot see it
    changes    every changed row is written to headwater.model_changes, for segments and syncs to follow

Views between the models are looked through. What else the models read (raw tables, seeds, ledgers, cut points) changes
only by commands or by landing.
"""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from headwater.errors import ConfigError, StageFailed
from headwater.live.analysis import AS_OF, Analysis, Relation
from headwater.live.lineage import analyse
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt

TARGET = "target/live"

CHANGES = ("mart_marketing__segment_scores", "user_alerts", "int_customer_360")
"""Models that something follows in every project, whatever their meta says."""

_EVERY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h)\s*$")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class LiveModel:
    """One model as the engine keeps it. `changes`: its changed rows go to headwater.model_changes.

    `max_every` in seconds, None = the engine's own. `sql_hash` changes when the model's rows could.
    """

    name: str
    analysis: Analysis
    sql_hash: str
    max_every: float | None = None
    changes: bool = False

    @property
    def relation(self) -> str:
        return self.analysis.relation

    @property
    def key(self) -> str:
        return self.analysis.key

    @property
    def columns(self) -> tuple[str, ...]:
        return tuple(self.analysis.columns)


@dataclass(frozen=True)
class Project:
    """All live models in topological order, and the tables behind them that are not models.

    `refused`: models that would be live but cannot be kept right, each with the sentence why; their rows stay as they are.
    `above`: of each of these, the models that it depends on.
    """

    models: tuple[LiveModel, ...]
    sources: tuple[str, ...]
    refused: Mapping[str, str] = field(default_factory=dict)
    above: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def model(self, name: str) -> LiveModel:
        """The live model of that name. Raises ConfigError naming those there are."""
        for model in self.models:
            if model.name == name:
                return model
        names = [model.name for model in self.models]
        near = get_close_matches(name, names, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are: {', '.join(names) or 'none'}."
        raise ConfigError(
            f"there is no live model {name!r}; {hint} A live model is a table whose meta names its key (config.meta.headwater.key)"
        )

    def readers(self, relation: str) -> list[LiveModel]:
        """The live models that read a table themselves, views looked through."""
        return [model for model in self.models if relation in model.analysis.reads]


def load(warehouse: Warehouse, dbt: Dbt) -> Project:
    """Compile the project and analyse its live models. The warehouse is closed meanwhile and opened again.

    Within one process a project of which no file and no column has changed since is not read again.
    dbt's artefacts of batch builds stay as they are; the engine's own are in `target/live`.
    Raises StageFailed when dbt cannot compile. A model that compiles and cannot be kept live is in `refused`.
    """
    files = _files(dbt.folder)
    known = _read.get(dbt.folder)
    if known is not None and known[0] == files and known[1] == _columns(warehouse):
        return known[2]
    warehouse.close()
    result = dbt.invoke(
        [
            "compile", "--select", "resource_type:model", "--no-introspect", "--no-populate-cache",
            "--vars", json.dumps({"headwater_as_of": AS_OF}), "--target-path", str(dbt.folder / TARGET),
        ]
    )  # fmt: skip
    if not result.ok:
        said = "; ".join([*(f"{node.name}: {node.message}" for node in result.failed), *result.problems])
        raise StageFailed(f"the live models could not be compiled: {said}")
    _follow_views(dbt)
    project = read(warehouse, dbt.folder)
    _read[dbt.folder] = (files, _columns(warehouse), project)
    return project


_Files = tuple[tuple[str, int, int], ...]
_read: dict[Path, tuple[_Files, dict[str, dict[str, str]], Project]] = {}
"""By folder: the files and columns that a project was read from, and the project."""


def _files(folder: Path) -> _Files:
    """Every file that dbt compiles from, with its time and size."""
    found = [
        path
        for part in ("models", "macros", "seeds", "snapshots", "dbt_packages")
        for path in (folder / part).rglob("*")
    ]
    found += [*folder.glob("*.yml")]
    return tuple(sorted((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in found if path.is_file()))


def _follow_views(dbt: Dbt) -> None:
    """Make the views anew where their SQL has changed: models read them as they stand in the warehouse."""
    manifest, compiled = _artefacts(dbt.folder)
    views = {
        name: compiled[name]
        for name, node in manifest["nodes"].items()
        if name in compiled and node.get("config", {}).get("materialized") == "view"
    }
    digest = hashlib.sha256(json.dumps([str(dbt.warehouse), views], sort_keys=True).encode()).hexdigest()
    mark = dbt.folder / TARGET / "views.sha256"
    if mark.exists() and mark.read_text(encoding="utf-8") == digest:
        return
    result = dbt.invoke(["run", "--select", "config.materialized:view"], artefacts=False)
    if not result.ok:
        said = "; ".join(f"{node.name}: {node.message}" for node in result.failed)
        raise StageFailed(
            f"the views that live models read could not be made: {said}. Mend them, or run `headwater build`"
        )
    mark.write_text(digest, encoding="utf-8")


def _artefacts(folder: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """The manifest, and the compiled SQL by node."""
    manifest = json.loads((folder / TARGET / "manifest.json").read_text(encoding="utf-8"))
    run = json.loads((folder / TARGET / "run_results.json").read_text(encoding="utf-8"))
    return manifest, {one["unique_id"]: one["compiled_code"] for one in run["results"] if one.get("compiled_code")}


def read(warehouse: Warehouse, folder: Path) -> Project:
    """The project as it was last compiled for the engine."""
    manifest, compiled = _artefacts(folder)
    nodes: dict[str, Any] = {
        name: node
        for name, node in (*manifest["nodes"].items(), *manifest["sources"].items())
        if node["resource_type"] in ("model", "seed", "source", "snapshot")
    }
    columns = _columns(warehouse)
    relations = {}
    for name, node in nodes.items():
        relation = _relation(node)
        is_view = node.get("config", {}).get("materialized") == "view"
        relations[relation] = Relation(relation, columns.get(relation, {}), compiled.get(name) if is_view else None)
    for relation, known in columns.items():
        relations.setdefault(relation, Relation(relation, known))
    models: list[LiveModel] = []
    refused: dict[str, str] = {}
    above: dict[str, frozenset[str]] = {}
    for name in _in_order(nodes):
        meta = _meta(nodes[name])
        if meta is None or name not in compiled:
            continue
        try:
            models.append(_model(warehouse, nodes[name], meta, compiled[name], relations))
        except ConfigError as error:
            refused[nodes[name]["name"]] = str(error)
            above[nodes[name]["name"]] = frozenset(nodes[one]["name"] for one in _upstream(nodes, name))
    own = {model.relation for model in models}
    sources = sorted({table for model in models for table in model.analysis.reads} - own)
    return Project(tuple(models), tuple(sources), refused, above)


def _meta(node: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The model's live settings; None when it is not live."""
    config = node.get("config", {})
    meta = (config.get("meta") or {}).get("headwater") or {}
    if node["resource_type"] != "model" or config.get("materialized") != "table" or not meta.get("key"):
        return None
    return meta


def _model(
    warehouse: Warehouse,
    node: Mapping[str, Any],
    meta: Mapping[str, Any],
    sql: str,
    relations: Mapping[str, Relation],
) -> LiveModel:
    name, relation, key = node["name"], _relation(node), str(meta["key"])
    mode = str(meta.get("mode", "auto"))
    if mode not in ("auto", "keyed", "full", "delta"):
        raise ConfigError(f"{name}: found mode {mode!r} in its meta; a live model takes auto, keyed, full or delta")
    analysis = analyse(name, relation, sql, key, relations, dict(meta.get("touch") or {}))
    if mode == "full" and analysis.mode != "full":
        analysis = replace(analysis, mode="full", why_full=("its meta says `mode: full`",))
    if mode in ("auto", "delta"):
        analysis = _with_sums(warehouse, analysis)
    if mode == "delta" and analysis.mode != "delta":
        raise ConfigError(
            f"{name}: its meta says `mode: delta`, but it cannot be kept by adding and taking away: "
            f"{'; '.join(analysis.why_full) or analysis.why_not_additive}. Mend its SQL, or write `mode: auto`"
        )
    if mode == "keyed" and analysis.mode == "full":
        raise ConfigError(
            f"{name}: its meta says `mode: keyed`, but it can only be recomputed whole: {'; '.join(analysis.why_full)}"
        )
    hashed = [sql, analysis.scoped, mode]
    if analysis.mode == "delta" and analysis.additive is not None:
        hashed += [analysis.additive.sums, analysis.additive.visible]
    return LiveModel(
        name=name,
        analysis=analysis,
        sql_hash=hashlib.sha256("\n".join(hashed).encode()).hexdigest()[:16],
        max_every=_seconds(name, meta.get("max_every")),
        changes=bool(meta.get("changes", name in CHANGES)),
    )


def _with_sums(warehouse: Warehouse, analysis: Analysis) -> Analysis:
    """The analysis in mode delta, where that is proved and DuckDB too says that the sums are exact."""
    additive = analysis.additive
    if additive is None:
        return analysis
    types = warehouse.execute(f"describe {additive.sums.replace('{rows}', additive.table)}").fetchall()
    if any(kind in ("DOUBLE", "FLOAT") for name, kind, *_ in types if name not in additive.groups):
        because = (
            "it sums a DOUBLE, which depends on the order of the rows; cast it to decimal(18, 4) before it is summed"
        )
        return replace(analysis, additive=None, why_not_additive=because)
    return replace(analysis, mode="delta")


def _seconds(name: str, text: Any) -> float | None:
    if text is None:
        return None
    found = _EVERY.match(str(text))
    if not found:
        raise ConfigError(f"{name}: found max_every {text!r}; it is a number with ms, s, m or h, like `1s`")
    return float(found[1]) * _SECONDS[found[2]]


def _relation(node: Mapping[str, Any]) -> str:
    return f"{node['schema']}.{node.get('identifier') or node.get('alias') or node['name']}"


def _columns(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """Columns and types of every table and view there is, by `schema.table`."""
    rows = warehouse.execute(
        "select schema_name || '.' || table_name, column_name, data_type from duckdb_columns()"
        " where database_name = current_database() and not internal order by 1, column_index"
    ).fetchall()
    found: dict[str, dict[str, str]] = {}
    for relation, column, kind in rows:
        found.setdefault(relation, {})[column] = kind
    return found


def _upstream(nodes: Mapping[str, Mapping[str, Any]], name: str) -> set[str]:
    """Unique ids of all that a node depends on."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        direct = (nodes[waiting.pop()].get("depends_on") or {}).get("nodes") or ()
        new = {one for one in direct if one in nodes} - found
        found |= new
        waiting += new
    return found


def _in_order(nodes: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Unique ids, each after all that it depends on; by name where that leaves a choice."""
    order: list[str] = []
    seen: set[str] = set()

    def visit(name: str) -> None:
        if name in seen or name not in nodes:
            return
        seen.add(name)
        for upstream in sorted((nodes[name].get("depends_on") or {}).get("nodes") or ()):
            visit(upstream)
        order.append(name)

    for name in sorted(nodes):
        visit(name)
    return order
