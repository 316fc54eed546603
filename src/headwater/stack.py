"""The order of things: which stage follows which, and who is handed what.

    run = seed → build upstream of customer_segments → segment → build what follows it → decide → plan → export

Each stage reads what the one before has left in the warehouse and leaves something there itself; each can be run alone,
and running one twice gives the same result as once. A killed run leaves the last good tables in place: start it again and
it goes through the same order, skipping what is done already (unchanged files, a fresh segment model, decisions that were
taken under the same settings and `as_of`).
"""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

from headwater import config as configuration
from headwater import scaffold
from headwater.activation import outbox, runs
from headwater.activation import plan as plans
from headwater.activation.deliver import deliver
from headwater.activation.runs import SyncStatus
from headwater.activation.settings import SyncSettings
from headwater.clock import Clock, SystemClock, naive_utc
from headwater.collect import counts, staging
from headwater.collect import mapping as mappings
from headwater.decisions import send
from headwater.decisions import table as tables
from headwater.decisions.batch import decide_batch
from headwater.decisions.ledgers import set_switch
from headwater.decisions.settings import DecisionSettings
from headwater.errors import ConfigError, DataError, HeadwaterError, StageFailed
from headwater.failpoint import failpoint
from headwater.records.stage import StageResult
from headwater.segments import assign, monitor, registry, train
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt, DbtResult, tagged
from headwater.warehouse.files import load, raw_types
from headwater.warehouse.lock import project_lock

OnProgress = Callable[[str, str, int, int], None]
"""Called while a stage works: stage, what is being done, how many are done, how many there are (0 when unknown)."""

ORDER = (
    "seed",
    "build_upstream",
    "segment",
    "build_downstream",
    "build",
    "test",
    "decide",
    "plan",
    "activate",
    "export",
)

Exporter = Callable[["Stack"], StageResult]
"""Writes what people look at; the console, which stands above the stack, passes it."""

Part = Literal["all", "upstream", "downstream"]
_DATA_ONLY = ("--exclude-resource-type", "unit_test")
"""A build tests the data; the unit tests of the models' SQL are run by `test`."""
_SELECT: dict[str, list[str]] = {
    "all": [],
    "upstream": ["--exclude", "customer_segments+"],
    "downstream": ["--select", "customer_segments+"],
}


def _status(word: str) -> Literal["ok", "skipped"]:
    return "skipped" if word == "skipped" else "ok"


def _promoted(stage: str, done: registry.Promotion) -> StageResult:
    return StageResult(stage, "ok", int(done.changed), done.message, asdict(done), done.warnings)


def _nothing_to_look_at(stack: "Stack") -> StageResult:
    return StageResult("export", "skipped", 0, f"{stack.folder.name}: nobody asked for an export")


class Stack:
    """One project and its stages. Holds the project's lock while a stage works; `close` gives the warehouse back."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        on_progress: OnProgress | None = None,
        exporter: Exporter | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.config = configuration.load(self.folder)
        self.clock = clock or SystemClock()
        self.on_progress = on_progress or (lambda *_: None)
        path = self.folder / self.config.warehouse.path
        self.warehouse = Warehouse(path, memory_limit=self.config.warehouse.memory_limit)
        settings = self.config.warehouse
        self.dbt = Dbt(self.folder, path, threads=settings.threads, memory_limit=settings.memory_limit)
        self.run_id = f"{self.clock.now():%Y%m%dT%H%M%S%f}-{os.getpid()}"
        self._exporter = exporter or _nothing_to_look_at
        self._locked = False

    def __enter__(self) -> "Stack":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the warehouse back."""
        self.warehouse.close()

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Hold the project's lock. Inside another `locked` it joins that one."""
        if self._locked:
            yield
            return
        with project_lock(self.folder / "warehouse", command, clock=self.clock):
            self._locked = True
            try:
                yield
            finally:
                self._locked = False
                self.warehouse.close()

    def _stage(self, stage: str, work: Callable[[], StageResult]) -> StageResult:
        """Do the work of a stage under the lock and write down how it went."""
        with self.locked(f"headwater {stage}"):
            scaffold.write_sql_settings(self.folder, self.config)
            if self.warehouse.rehearsing:
                return work()
            started = naive_utc(self.clock.now())
            self.warehouse.execute(
                "update headwater.stage_runs set status = 'interrupted', message = 'the process ended before the stage did' where status = 'running'"
            )
            self.warehouse.execute(
                "insert into headwater.stage_runs (run_id, stage, status, started_at) values (?, ?, 'running', ?)",
                [self.run_id, stage, started],
            )
            try:
                result = work()
            except Exception as error:
                text = str(error) if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {error}"
                self._end(stage, StageResult(stage, "failed", 0, text))
                raise
            self._end(stage, result)
            return result

    def _end(self, stage: str, result: StageResult) -> None:
        self.warehouse.execute(
            "update headwater.stage_runs set status = ?, ended_at = ?, row_count = ?, message = ?, warnings = ?,"
            " as_of = (select max(as_of) from headwater.clock) where run_id = ? and stage = ? and status = 'running'",
            [
                result.status,
                naive_utc(self.clock.now()),
                result.row_count,
                result.message,
                json.dumps(result.warnings),
                self.run_id,
                stage,
            ],
        )

    # ------------------------------------------------------------------ files

    def seed(self) -> StageResult:
        """Load the shop's files into raw tables, write the staging models, set the clock, load dbt's seeds."""
        return self._stage("seed", self._seeded)

    def _seeded(self) -> StageResult:
        mapping = mappings.read(self.folder / scaffold.MAPPING)
        loads = load(
            self.warehouse,
            mapping.sources(self.folder),
            self.clock,
            lambda file, share: self.on_progress("seed", file, int(share * 100), 100),
        )
        if loads and all(one.outcome in ("failed", "missing") for one in loads):
            raise DataError(
                "seed: none of the files can be read: " + " ".join(warning for one in loads for warning in one.warnings)
            )
        types = raw_types(self.warehouse)
        staging.write(staging.render(mapping, types), self.folder)
        as_of = self._set_clock(mapping, types)
        seeds = self._dbt("seed", ["seed"])
        if not seeds.ok:
            raise StageFailed("seed: " + "; ".join(f"{node.name}: {node.message}" for node in seeds.failed))
        rows = sum(one.loaded_rows for one in loads)
        rejected = sum(one.rejected_rows for one in loads)
        text = f"{len(loads)} files, {rows:,} rows, as of {as_of:%Y-%m-%d %H:%M}" + (
            f", {rejected:,} lines rejected" if rejected else ""
        )
        warnings = tuple(warning for one in loads for warning in one.warnings)
        if not loads:
            warnings = (
                f"no file is mapped, so there is nothing to load: fill in {scaffold.MAPPING}, its comments say how",
            )
        details = {"files": [asdict(one) for one in loads], "as_of": as_of, "seeds": seeds.count("seed")}
        return StageResult("seed", "ok", rows, text, details, warnings)

    def _set_clock(self, mapping: mappings.Mapping, types: dict[str, dict[str, str]]) -> datetime:
        """Set the moment that every model sees: the settings', or the newest order or event of the files."""
        as_of = self.config.as_of
        moment = (
            self.warehouse.value(staging.as_of_sql(mapping, types))
            if as_of == "latest"
            else datetime.fromisoformat(as_of)
        )
        moment = naive_utc(moment or self.clock.now())
        with self.warehouse.transaction():
            self.warehouse.execute("delete from headwater.clock")
            self.warehouse.execute(
                "insert into headwater.clock values (?, null, ?)", [moment, naive_utc(self.clock.now())]
            )
        return moment

    # ------------------------------------------------------------------ dbt

    def _dbt(self, stage: str, arguments: list[str]) -> DbtResult:
        self.warehouse.close()
        self.on_progress(stage, "dbt starts", 0, 0)

        def tell(node: str, status: str, done: int, total: int) -> None:
            self.on_progress(stage, node, done, total)

        result = self.dbt.invoke(arguments, on_node=tell)
        if result.tests:
            self._record_tests(result)
        return result

    def _record_tests(self, result: DbtResult) -> None:
        rows = [
            {"name": t.name, "model": t.model, "status": t.status, "failures": t.failures, "message": t.message}
            for t in result.tests
        ]
        # one JSON text: DuckDB looks every bound Python value up among types that may not be installed
        shape = '[{"name":"VARCHAR","model":"VARCHAR","status":"VARCHAR","failures":"BIGINT","message":"VARCHAR"}]'
        self.warehouse.execute(
            "insert into headwater.test_results select ?, t.name, t.model, t.status, t.failures, t.message, ?"
            f" from (select unnest(from_json(?, '{shape}')) as t)",
            [self.run_id, naive_utc(self.clock.now()), json.dumps(rows)],
        )

    def build(self, part: Part = "all") -> StageResult:
        """Build and test the models: all, those upstream of customer_segments, or customer_segments and what follows."""
        stage = "build" if part == "all" else f"build_{part}"
        return self._stage(stage, lambda: self._built(stage, self._dbt(stage, ["build", *_DATA_ONLY, *_SELECT[part]])))

    def test(self) -> StageResult:
        """Run the data-quality tests on the tables as they are."""
        return self._stage("test", lambda: self._built("test", self._dbt("test", ["test"])))

    def docs(self) -> StageResult:
        """Write dbt's documentation, also as one file."""

        def work() -> StageResult:
            self._dbt("docs", ["docs", "generate", "--static"])
            page = self.folder / "target" / "static_index.html"
            return StageResult("docs", "ok", 1, f"documentation is in {page}", {"page": str(page)})

        return self._stage("docs", work)

    def _built(self, stage: str, result: DbtResult) -> StageResult:
        """Raises StageFailed, naming the first nodes that failed."""
        if failed := result.failed:
            first = "; ".join(f"{node.name}: {node.message}" for node in failed[:3])
            more = f" (and {len(failed) - 3} more)" if len(failed) > 3 else ""
            raise StageFailed(
                f"{stage}: {len(failed)} node(s) failed: {first}{more}. The tables of the last good build are still in place;"
                f" mend the model or the data and run again"
            )
        warned = [f"{node.name}: {node.message}" for node in result.tests if node.status == "warn"]
        if any(node.name == "row_counts" for node in result.nodes if node.kind == "model"):
            warned += counts.sentences(self.warehouse.rows("select * from main.row_counts"))
        details = {kind: result.count(kind) for kind in ("seed", "model", "test", "unit_test", "skipped")}
        return StageResult(stage, "ok", details["model"], result.message, details, tuple(warned))

    # ------------------------------------------------------------------ segments

    @property
    def _artefacts(self) -> Path:
        return self.folder / "warehouse" / "models"

    def segment(self) -> StageResult:
        """Train when a retrain is due, then score every customer and publish `customer_segments`."""
        return self._stage("segment", self._segmented)

    def _segmented(self) -> StageResult:
        settings = self.config.segments.ml
        if not settings.enabled:
            return StageResult(
                "segment", "skipped", 0, "segments.ml.enabled is false in headwater.yml; everybody is unsegmented"
            )
        due = train.is_due(self.warehouse, settings, self.clock)
        trained = self._trained() if due.due else None
        assigned = self._assigned(publish=True)
        parts = [trained, assigned] if trained else [assigned]
        if assigned.status == "ok":
            parts.append(self._monitored())
        text = "; ".join(part.message for part in parts) if trained else f"{assigned.message}; no retrain: {due.reason}"
        details = {part.stage: part.details for part in parts} | {"due": asdict(due)}
        warnings = tuple(dict.fromkeys(warning for part in parts for warning in part.warnings))
        if assigned.status == "skipped":
            return replace(
                assigned, stage="segment", details=details, warnings=tuple(w for w in warnings if w != assigned.message)
            )
        return StageResult("segment", "ok", assigned.row_count, text, details, warnings)

    def segment_train(self) -> StageResult:
        """Fit a new version; the promotion gate decides whether it becomes the champion."""
        return self._stage("segment_train", self._trained)

    def _trained(self) -> StageResult:
        result = train.train(
            self.warehouse, self.config.segments.ml, self.clock, self._artefacts, on_progress=self._tell("segment")
        )
        return StageResult(
            "segment_train",
            _status(result.status),
            result.customers,
            result.message,
            asdict(result),
            (*result.refusals, *result.doubts, *result.warnings),
        )

    def segment_assign(self, *, publish: bool = True) -> StageResult:
        """Score every customer with the champion; keep the history of memberships; publish the seed."""
        return self._stage("segment_assign", lambda: self._assigned(publish=publish))

    def _assigned(self, *, publish: bool) -> StageResult:
        seed = self.folder / "seeds" / "customer_segments.csv"
        result = assign.assign(
            self.warehouse, self.config.segments.ml, self.clock, self._artefacts, seed if publish else None
        )
        return StageResult(
            "segment_assign", _status(result.status), result.customers, result.message, asdict(result), result.warnings
        )

    def segment_monitor(self) -> StageResult:
        """Measure drift, shares and transitions of the champion."""
        return self._stage("segment_monitor", self._monitored)

    def _monitored(self) -> StageResult:
        result = monitor.monitor(self.warehouse, self.config.segments.ml, self.clock, self.run_id)
        warnings = (*result.alerts, *result.warnings)
        return StageResult(
            "segment_monitor", _status(result.status), len(result.measures), result.message, asdict(result), warnings
        )

    def segment_due(self) -> StageResult:
        """Whether a retrain is due, and why; nothing is written."""
        with self.locked("headwater segment due"):
            due = train.is_due(self.warehouse, self.config.segments.ml, self.clock)
        return StageResult("segment_due", "ok", int(due.due), due.reason, asdict(due))

    def segment_promote(self, version: int | None) -> StageResult:
        """Make a version the champion, if the gate lets it pass."""
        promote = partial(registry.promote, self.warehouse, self.config.segments.ml, self.clock, version=version)
        return self._stage("segment_promote", lambda: _promoted("segment_promote", promote()))

    def segment_rollback(self) -> StageResult:
        """Make the champion before this one the champion again."""
        rollback = partial(registry.rollback, self.warehouse, self.clock)
        return self._stage("segment_rollback", lambda: _promoted("segment_rollback", rollback()))

    def _tell(self, stage: str) -> Callable[[str, int, int], None]:
        return lambda what, done, of: self.on_progress(stage, what, done, of)

    # ------------------------------------------------------------------ decisions

    def decide(
        self,
        segment: str = "all",
        *,
        goal: str | None = None,
        discount_cap: float | None = None,
        suppress_hours: float | None = None,
    ) -> StageResult:
        """Choose the next best action for every customer of a segment, inside the guardrails, and log it as a proposal."""
        settings = self.config.decisions.changed(goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        return self._stage("decide", lambda: self._decided(settings, segment))

    def _decided(self, settings: DecisionSettings, segment: str) -> StageResult:
        batch = decide_batch(
            self.warehouse, settings, self.clock, self.run_id, segment=segment, table=tables.load(self.folder)
        )
        return StageResult("decide", "ok", batch.decided, batch.message, asdict(batch), batch.warnings)

    # ------------------------------------------------------------------ activation

    def _syncs(self, names: Sequence[str] | None, segment: str = "all") -> list[SyncSettings]:
        """The syncs to work on: those named, or all; for one segment, those that carry decisions."""
        if names:
            return [self.config.sync(name) for name in names]
        return [sync for sync in self.config.syncs if segment == "all" or sync.decisions]

    def _relation(self, sync: SyncSettings) -> str:
        """The relation of a sync's model. Raises ConfigError unless the model, or exactly one with the tag, is built."""
        if not sync.model.startswith("tag:"):
            return f"main.{sync.model}"
        tag = sync.model.removeprefix("tag:")
        found = tagged(self.folder, tag)
        if len(found) != 1:
            have = ", ".join(found) or "none"
            raise ConfigError(
                f"syncs.{sync.name}.model: found {sync.model!r}; one model must carry that tag, and these do: {have}"
            )
        return f"main.{found[0]}"

    def _sync_arguments(self, sync: SyncSettings, settings: DecisionSettings) -> dict[str, Any]:
        mapping = mappings.read(self.folder / scaffold.MAPPING)
        return {
            "folder": self.folder,
            "relation": self._relation(sync),
            "masked": mapping.masked_fields(),
            "recheck": partial(send.recheck, self.warehouse, settings, self.clock, table=tables.load(self.folder))
            if sync.decisions
            else None,
        }

    def plan(self, sync: str | None = None) -> Iterator[StageResult]:
        """Write what each sync would send to `outbox/plans/<sync>.json`; nothing else changes."""
        for one in self._syncs([sync] if sync else None):
            yield self._stage(f"plan {one.name}", lambda one=one: self._planned(one))

    def _planned(self, sync: SyncSettings) -> StageResult:
        destination = self.config.destinations[sync.destination]
        made = plans.plan(
            self.warehouse, sync, destination, self.clock, **self._sync_arguments(sync, self.config.decisions)
        )
        path = made.write(self.folder / "outbox" / "plans" / f"{sync.name}.json")
        rows = made.counts
        text = (
            f"{rows.creates:,} new, {rows.updates:,} changed, {rows.deletes:,} to remove, {rows.held:,} held back"
            f" in {made.calls:,} call(s); read {path.relative_to(self.folder)}"
        )
        warnings = (*made.warnings, *(f"{stop.rule}: {stop.sentence}" for stop in made.stops))
        return StageResult(
            f"plan {sync.name}", "ok", rows.creates + rows.updates + rows.deletes, text, made.as_json(), warnings
        )

    def activate(
        self,
        segment: str = "all",
        *,
        plan_file: Path | None = None,
        syncs: Sequence[str] | None = None,
        dry_run: bool = True,
        goal: str | None = None,
        discount_cap: float | None = None,
        suppress_hours: float | None = None,
    ) -> Iterator[StageResult]:
        """Decide for a segment, plan, deliver. A plan from a file is sent exactly as it is, or refused.

        A dry run does all of it in a transaction that is undone, calls no destination, and leaves a preview in `outbox/`.
        """
        settings = self.config.decisions.changed(goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
        if plan_file is not None:
            given = plans.Plan.read(plan_file)
            yield self._stage(
                f"activate {given.sync}",
                lambda: self._delivered(self.config.sync(given.sync), given, "all", settings, dry_run),
            )
            return
        chosen = self._syncs(syncs, segment)
        with self.locked("headwater activate"), self.warehouse.rehearsal() if dry_run else nullcontext():
            if any(sync.decisions for sync in chosen):
                yield self.decide(segment, goal=goal, discount_cap=discount_cap, suppress_hours=suppress_hours)
            yield from self.deliver(chosen, segment, settings, dry_run=dry_run)

    def deliver(
        self,
        chosen: Sequence[SyncSettings] | None = None,
        segment: str = "all",
        settings: DecisionSettings | None = None,
        *,
        dry_run: bool = False,
    ) -> Iterator[StageResult]:
        """Plan and send each sync as things stand; one that fails does not keep the next from being sent."""
        for sync in chosen if chosen is not None else self._syncs(None):
            rules = settings or self.config.decisions
            yield self._stage(
                f"activate {sync.name}",
                lambda sync=sync, rules=rules: self._delivered(sync, None, segment, rules, dry_run),
            )

    def _delivered(
        self, sync: SyncSettings, given: plans.Plan | None, segment: str, settings: DecisionSettings, dry_run: bool
    ) -> StageResult:
        rules: dict[str, Any] = {}
        if sync.decisions:
            release = partial(send.release, self.warehouse, self.clock, table=tables.load(self.folder))
            rules = {"release": release, "give_back": partial(send.give_back, self.warehouse, self.clock)}
        done = deliver(
            self.warehouse,
            given,
            sync,
            self.config.destinations[sync.destination],
            self.clock,
            dry_run,
            run_id=self.run_id,
            segment=segment if sync.decisions else None,
            on_progress=lambda count, of: self.on_progress("activate", sync.name, count, of),
            **self._sync_arguments(sync, settings),
            **rules,
        )
        bad = done.status in ("failed", "stopped", "partial")
        return StageResult(
            f"activate {sync.name}",
            "failed" if bad else "ok",
            done.confirmed,
            done.message,
            asdict(done),
            done.warnings,
        )

    def retry(self, sync: str, where: str | None) -> StageResult:
        """Let failed and held rows of a sync wait again; they go out with its next run."""
        self.config.sync(sync)

        def work() -> StageResult:
            count = outbox.retry(self.warehouse, sync, where, self.clock)
            return StageResult(
                "retry",
                "ok",
                count,
                f"{sync}: {count:,} row(s) wait again; `headwater activate --sync {sync}` sends them",
            )

        return self._stage("retry", work)

    def status(self) -> list[dict[str, Any]]:
        """One row per stage, in the order of a run: status, started_at, ended_at, seconds, row_count, as_of, message, warnings of its last run."""
        with self.locked("headwater status"):
            rows = self.warehouse.rows(
                """
                select
                    stage, status, started_at, ended_at, date_diff('millisecond', started_at, ended_at) / 1000 as seconds,
                    row_count, as_of, message, warnings
                from headwater.stage_runs
                qualify row_number() over (partition by stage order by started_at desc, ended_at desc nulls first) = 1
                """
            )
        place = {stage: position for position, stage in enumerate(ORDER)}
        for row in rows:
            row["warnings"] = json.loads(row["warnings"] or "[]")
        return sorted(rows, key=lambda row: (place.get(row["stage"].split()[0], len(place)), row["started_at"]))

    def syncs(self) -> list[SyncStatus]:
        """One entry per sync of the project: its last run, rows by state, freshness."""
        with self.locked("headwater syncs"):
            return runs.syncs(self.warehouse, self.config.syncs, self.clock)

    def kill_switch(self, state: str | None, scope: str, reason: str) -> StageResult:
        """Turn a switch on or off (None: leave all as they are), and say which are on."""
        with self.locked("headwater kill-switch"):
            if state is not None:
                who = os.environ.get("USER", "unknown")
                set_switch(self.warehouse, scope, on=state == "on", reason=reason, set_by=who, clock=self.clock)
            on = self.warehouse.rows(
                "select scope, reason, set_by, set_at from headwater.kill_switch where is_on order by scope"
            )
        said = (
            "; ".join(f"{row['scope']} since {row['set_at']:%Y-%m-%d %H:%M} by {row['set_by']}" for row in on)
            or "none is on"
        )
        return StageResult("kill_switch", "ok", len(on), f"switches on: {said}" if on else said, {"on": on})

    # ------------------------------------------------------------------ all of it

    def export(self) -> StageResult:
        """Write bi/*.csv, bi/*.parquet and bi/report.html."""
        return self._stage("export", lambda: self._exporter(self))

    def run(self, *, deliver: bool = False) -> Iterator[StageResult]:
        """All stages in order, under one lock; `deliver` also sends, before the export.

        Ends at the first stage that fails, with the last good tables in place.
        """
        order: list[tuple[str, Callable[[], Iterable[StageResult]]]] = [
            ("run.seeded", lambda: [self.seed()]),
            ("run.built_upstream", lambda: [self.build("upstream")]),
            ("run.segmented", lambda: [self.segment()]),
            ("run.built", lambda: [self.build("downstream")]),
            ("run.decided", lambda: [self.decide()]),
            ("run.planned", self.plan),
            ("run.delivered", lambda: self.deliver() if deliver else []),
            ("run.exported", lambda: [self.export()]),
        ]
        with self.locked("headwater run"):
            for name, stages in order:
                yield from stages()
                failpoint(name)
