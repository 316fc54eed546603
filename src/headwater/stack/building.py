"""Files into raw tables, raw tables into models."""

import json
from dataclasses import asdict
from datetime import datetime
from typing import Literal

from headwater import scaffold
from headwater.clock import naive_utc
from headwater.collect import counts, staging, trials
from headwater.collect import mapping as mappings
from headwater.errors import ConfigError, DataError, StageFailed
from headwater.live import edited, memberships, suppression
from headwater.live.shapes import Shapes
from headwater.records.stage import StageResult
from headwater.segments import hysteresis, publish
from headwater.segments.follower import Follower
from headwater.stack.project import Project
from headwater.warehouse.dbt import DbtResult
from headwater.warehouse.files import load, raw_types

Part = Literal["all", "upstream", "downstream"]
_DATA_ONLY = ("--exclude-resource-type", "unit_test")
"""A build tests the data; the unit tests of the models' SQL are run by `test`."""
_SEGMENTED = ["customer_segments+", "source:headwater.segment_centroids+"]
_SELECT: dict[str, list[str]] = {
    "all": [],
    "upstream": ["--exclude", *_SEGMENTED],
    "downstream": ["--select", *_SEGMENTED],
}
"""The stage `segment` stands between the last two: what it writes is read by the models that follow it."""


class Building(Project):
    """The stages seed, build, test and docs."""

    def seed(self) -> StageResult:
        """Load the shop's files into raw tables, write the staging models, set the clock, load dbt's seeds."""
        return self._stage("seed", self._seeded)

    def _seeded(self) -> StageResult:
        self._make_landed()
        if not (self.folder / scaffold.MAPPING).exists():
            return self._nothing_to_load()
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
        swept = suppression.sweep_files(self.warehouse)
        types = raw_types(self.warehouse)
        if refused := trials.problems(mapping, types, self.warehouse.refusal):
            raise ConfigError(
                "\n".join(["the mapping has expressions that cannot be computed:", *(f"  {one}" for one in refused)])
            )
        staging.write(staging.render(mapping, types), self.folder)
        as_of = self._set_clock(mapping, types)
        self._keep_published()
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
        if swept:
            warnings = (*warnings, f"{swept:,} rows of forgotten people were taken out of the files' tables again")
        details = {"files": [asdict(one) for one in loads], "as_of": as_of, "seeds": seeds.count("seed")}
        return StageResult("seed", "ok", rows, text, details, warnings)

    def _make_landed(self) -> None:
        """Tables that database changes land in are there, empty, before models read them."""
        Shapes(self.warehouse, self.declared).make_declared(naive_utc(self.clock.now()))

    def _nothing_to_load(self) -> StageResult:
        """A project without files, that lives from a database: only the clock is set."""
        as_of = self.warehouse.value("select max(as_of) from headwater.clock")
        if as_of is None:
            now = naive_utc(self.clock.now())
            as_of = now if self.config.as_of == "latest" else naive_utc(datetime.fromisoformat(self.config.as_of))
            self.warehouse.execute("insert into headwater.clock (as_of, set_at) values (?, ?)", [as_of, now])
        return StageResult("seed", "ok", 0, f"no files; as of {as_of:%Y-%m-%d %H:%M}", {"as_of": as_of})

    def _set_clock(self, mapping: mappings.Mapping, types: dict[str, dict[str, str]]) -> datetime:
        """Set the moment that every model sees: the settings', or the newest order or event of the files.

        In a project whose log was followed by the engine it is at least the moment that the engine reached.
        """
        as_of = self.config.as_of
        moment = (
            self.warehouse.value(staging.as_of_sql(mapping, types))
            if as_of == "latest"
            else datetime.fromisoformat(as_of)
        )
        moment = naive_utc(moment or self.clock.now())
        with self.warehouse.transaction():
            live = self.warehouse.rows("select as_of, position from headwater.clock where position is not null")
            position = None
            if live:  # the clock of a project that is live follows the time of day, and never goes back
                moment, position = max(moment, live[0]["as_of"]), live[0]["position"]
            self.warehouse.execute("delete from headwater.clock")
            self.warehouse.execute(
                "insert into headwater.clock values (?, ?, ?)", [moment, position, naive_utc(self.clock.now())]
            )
        return moment

    def _keep_published(self) -> None:
        """The seed of segments holds the memberships as they are before dbt reads it; a killed engine may have left it behind."""
        publish.keep_file(self.warehouse, self.folder / publish.SEED_FILE)

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
        """Build and test the models: all, those that read nothing of the stage `segment`, or those that do."""
        stage = "build" if part == "all" else f"build_{part}"

        def work() -> StageResult:
            self._make_landed()
            self._keep_published()
            taken = edited.files(self.folder)
            done = self._built(stage, self._dbt(stage, ["build", *_DATA_ONLY, *_SELECT[part]]))
            if (
                part != "downstream"
            ):  # whose other files were noted with the upstream part, and may have been edited since
                edited.note(self.folder, taken)
            return done

        return self._stage(stage, work)

    def test(self) -> StageResult:
        """Run the data-quality tests on the tables as they are."""

        def work() -> StageResult:
            self._need_models()
            return self._built("test", self._dbt("test", ["test"]))

        return self._stage("test", work)

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
        if any(node.name == memberships.MODEL for node in result.nodes if node.kind == "model"):
            memberships.reconcile(self.warehouse, naive_utc(self.clock.now()))
        if any(node.name == hysteresis.MODEL for node in result.nodes if node.kind == "model"):
            Follower(self.warehouse, self.config.segments.ml, self.clock).settle()
        details = {kind: result.count(kind) for kind in ("seed", "model", "test", "unit_test", "skipped")}
        return StageResult(stage, "ok", details["model"], result.message, details, tuple(warned))
