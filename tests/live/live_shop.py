"""A small shop whose models are live: built once, copied for each test; events go in through a log, as in production."""

import itertools
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import template_models

from headwater.clock import FixedClock
from headwater.live import project as projects
from headwater.live.engine import BatchResult, Engine
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.log.base import Log
from headwater.log.memory import MemoryLog
from headwater.records.entities import ENTITIES, SQL_TYPES
from headwater.records.logged import Entry
from headwater.segments import centroids
from headwater.testing.shop import Shop
from headwater.warehouse import Warehouse

AS_OF = datetime(2026, 6, 30)  # noqa: DTZ001  (the warehouse's own naive UTC)
SEGMENTS: dict[str, Any] = {
    "columns": ["recency_days", "frequency", "monetary"],
    "floor": 20.0,
    "means": [4.5, 1.0, 5.0],
    "scales": [1.25, 0.5, 1.1],
    "centroids": [[-1.0, 0.8, 0.9], [0.9, -0.7, -0.6], [0.2, 0.1, 0.3]],
    "segments": [[7, "Champions"], [3, "Lapsed"], [5, "Steady"]],
}
"""A segment model as a version keeps it (`headwater.segments.cluster.Model.as_dict`)."""
CUSTOMERS = ("C10000001", "C10000002", "C10000003")
KEYED = LiveSettings(full_share=1.0, full_above=10**9, full_every=0.0, retry_seconds=30.0, verify_seconds=0)
"""Never whole because many keys are touched: a small shop would hardly ever be keyed otherwise."""


def build(folder: Path) -> None:
    """The template's models over typed raw tables, compiled for the engine and built as of AS_OF."""
    models = template_models.compiled(folder)
    shutil.copytree(folder / "target", folder / projects.TARGET)
    files = folder.with_name(folder.name + "_files")
    Shop(customers=40, seed=11, event_days=60, days=400).write(files)
    with Warehouse(folder / "warehouse" / "shop.duckdb") as w:
        for name, entity in ENTITIES.items():
            columns = ", ".join(f"cast({f.name} as {SQL_TYPES[f.type]}) as {f.name}" for f in entity.fields)
            w.execute(f"create table raw.{name} as select {columns} from read_parquet('{files / name}.parquet')")
        w.execute(f"create table main.mql_score as from read_csv('{folder / 'seeds' / 'mql_score.csv'}')")
        w.execute("create table main.customer_segments (customer_id varchar, segment_id bigint, segment_name varchar)")
        w.execute("insert into headwater.clock (as_of) values (?)", [AS_OF])
        centroids.put(w, 1, "fine", SEGMENTS)
        for model in models:
            kind = "view" if model.kind == "view" else "table"
            w.execute(f"create {kind} {model.relation} as {template_models.at(model.sql, AS_OF)}")


_projects: dict[Path, Project] = {}


def _read(warehouse: Warehouse, home: Path) -> Project:
    """The analysed models; analysing them takes seconds, and they are the same for every copy."""
    if home not in _projects:
        _projects[home] = projects.read(warehouse, home)
    return _projects[home]


LEADS = ("user_mql_score",)
"""The models that lead to a score, and the alerts: enough for tests that take many batches."""


def only(project: Project, names: Sequence[str]) -> Project:
    """The project as if only these models, those above them and user_alerts were live; the others are tables that stand still."""
    wanted = set(names)
    for model in reversed(project.models):
        if model.name in wanted:
            wanted |= {above.name for above in project.models if above.relation in model.analysis.reads}
    models = tuple(model for model in project.models if model.name in wanted | {"user_alerts"})
    reads = {table for model in models for table in model.analysis.reads}
    return Project(models, tuple(sorted(reads - {model.relation for model in models})))


def call(kind: str, number: int | str, at: datetime, **said: Any) -> Entry:
    """One call as the collector would have logged it. `number` makes the message id; `at` is naive UTC."""
    payload = {"type": kind, "messageId": f"m-{number}", "timestamp": f"{at.isoformat()}Z", **said}
    micros = int(at.replace(tzinfo=UTC).timestamp() * 1_000_000)
    key = str(said.get("userId") or said.get("anonymousId") or "")
    return Entry("events", "web", key, f"m-{number}", micros, json.dumps(payload).encode())


@dataclass
class Live:
    """One engine over its own copy of the shop. `entries` remembers what was sent, in order; `models`: only these are live."""

    folder: Path
    settings: LiveSettings = KEYED
    log: Log = field(default_factory=MemoryLog)
    clock: FixedClock = field(default_factory=lambda: FixedClock(AS_OF.replace(tzinfo=UTC)))
    entries: list[Entry] = field(default_factory=list)
    models: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        self.warehouse = Warehouse(self.folder / "warehouse" / "shop.duckdb")
        self.project: Project = _read(self.warehouse, (self.folder / "target").resolve().parent)
        if self.models is not None:
            self.project = only(self.project, self.models)
        self._numbers = itertools.count()
        self.engine = self._engine()

    def _engine(self) -> Engine:
        return Engine(self.warehouse, self.log, self.project, self.clock, self.settings)

    @property
    def now(self) -> datetime:
        return self.clock.now().replace(tzinfo=None)

    def push(self, **by: float) -> None:
        self.clock.push(timedelta(**by))

    def track(
        self,
        event: str,
        who: str | None = None,
        anonymous: str | None = None,
        *,
        ago: float = 0,
        number: int | None = None,
    ) -> Entry:
        """One track call, `ago` seconds before now."""
        at = self.now - timedelta(seconds=ago)
        return call(
            "track",
            next(self._numbers) if number is None else f"n{number}",
            at,
            event=event,
            userId=who,
            anonymousId=anonymous,
        )

    def send(self, *entries: Entry) -> None:
        self.log.append(entries)
        self.entries += entries

    def step(self, *entries: Entry, limit: int | None = None) -> BatchResult:
        """Send, and run one batch."""
        self.send(*entries)
        return self.engine.step(limit)

    def settle(self, limit: int | None = None) -> list[BatchResult]:
        """Batches until nothing waits."""
        done = []
        while (result := self.engine.step(limit)).committed:
            done.append(result)
            assert len(done) < 5_000, "the engine never comes to rest"
        return done

    def restart(self) -> None:
        """A new engine on the same file and log, as after a stop."""
        self.warehouse.close()
        self.engine = self._engine()

    def wrong(self) -> list[str]:
        """Every row in which a live table differs from its SQL computed in full; late and stale keys apart."""
        verified = self.engine.verify()
        return [f"{d.model} {d.found}: {d.row}" for v in verified for d in v.differences] + [
            f"{v.model}: {v.skipped}" for v in verified if v.skipped
        ]

    def rows(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[tuple[Any, ...]]:
        return self.warehouse.execute(sql, parameters).fetchall()

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all live models, sorted."""
        return {
            model.name: sorted(self.rows(f"select {', '.join(model.columns)} from {model.relation}"), key=repr)
            for model in self.project.models
        }

    def close(self) -> None:
        self.warehouse.close()


def copy(home: Path, folder: Path) -> Path:
    """The built shop in a folder of its own."""
    (folder / "warehouse").mkdir(parents=True)
    shutil.copyfile(home / "warehouse" / "shop.duckdb", folder / "warehouse" / "shop.duckdb")
    (folder / "target").symlink_to(home / "target")
    return folder
