"""A project and its lock: what every stage stands on."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Self

from headwater import config as configuration
from headwater import scaffold
from headwater.clock import Clock, from_environment, naive_utc
from headwater.collect import mapping as mappings
from headwater.config import Config
from headwater.errors import HeadwaterError, Refused, StageFailed, UsageError
from headwater.live.shapes import Declared
from headwater.log.base import Log
from headwater.log.opening import opened
from headwater.records.stage import StageResult
from headwater.warehouse import Warehouse
from headwater.warehouse.dbt import Dbt
from headwater.warehouse.lock import project_lock

OnProgress = Callable[[str, str, int, int], None]
"""Called while a stage works: stage, what is being done, how many are done, how many there are (0 when unknown)."""


def log_to_write(settings: Config, folder: Path, clock: Clock) -> Log:
    """The log for a process that appends: it removes what is past `collect.log_keep_hours` and `collect.log_max_mb`."""
    own = settings.collect
    return opened(
        settings.log,
        folder,
        max_bytes=own.log_max_mb * 1_000_000 if own.log_max_mb else None,
        max_age=timedelta(hours=own.log_keep_hours) if own.log_keep_hours else None,
        clock=clock,
    )


class Project:
    """One project. Holds its lock while a stage works; `close` gives the warehouse back.

    `held`: a warehouse that whoever made this project has open, under a lock of theirs; it is left open and unlocked here.
    """

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        on_progress: OnProgress | None = None,
        held: Warehouse | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self.config = configuration.load(self.folder)
        self.clock = clock or from_environment()
        self.on_progress = on_progress or (lambda *_: None)
        path = self.folder / self.config.warehouse.path
        self.warehouse = held or Warehouse(path, memory_limit=self.config.warehouse.memory_limit)
        settings = self.config.warehouse
        self.dbt = Dbt(self.folder, path, threads=settings.threads, memory_limit=settings.memory_limit)
        self.run_id = f"{self.clock.now():%Y%m%dT%H%M%S%f}-{os.getpid()}"
        self._held = held is not None
        self._locked = self._held

    @property
    def declared(self) -> Declared:
        """Columns of database tables as the settings declare them."""
        databases = (*self.config.collect.databases, *self.config.collect.topics)
        return {(base.name, name): table.columns for base in databases for name, table in base.tables.items()}

    def masked(self) -> frozenset[str]:
        """Columns whose values were masked before they were stored, of files and of databases."""
        path = self.folder / scaffold.MAPPING
        files = mappings.read(path).masked_fields() if path.exists() else frozenset()
        tables = [
            table
            for base in (*self.config.collect.databases, *self.config.collect.topics)
            for table in base.tables.values()
        ]
        return files | {column for table in tables for column in table.masked}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def open_log(self) -> Log:
        """The log of the project; whoever opens it closes it."""
        return opened(self.config.log, self.folder, clock=self.clock)

    def close(self) -> None:
        """Give the warehouse back, unless it is held by somebody else."""
        if not self._held:
            self.warehouse.close()

    @contextmanager
    def locked(self, command: str) -> Iterator[None]:
        """Hold the project's lock. Inside another `locked` it joins that one."""
        if self._locked:
            yield
            return
        with project_lock(
            self.folder / "warehouse",
            command,
            clock=self.clock,
            on_wait=lambda who: self.on_progress("lock", f"waiting for {who}", 0, 0),
        ):
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
            except UsageError:
                # nothing of the stage has run: what it did last stays its last word
                self.warehouse.execute(
                    "delete from headwater.stage_runs where run_id = ? and stage = ? and status = 'running'",
                    [self.run_id, stage],
                )
                raise
            except Exception as error:
                text = str(error) if isinstance(error, HeadwaterError) else f"{type(error).__name__}: {error}"
                self._end(stage, StageResult(stage, "refused" if isinstance(error, Refused) else "failed", 0, text))
                raise
            result = self._new_first(stage, result)
            self._end(stage, result)
            return result

    def _new_first(self, stage: str, result: StageResult) -> StageResult:
        """The result, with the warnings first that the last good run of the stage did not have."""
        if not result.warnings:
            return result
        said = self.warehouse.value(
            "select warnings from headwater.stage_runs where stage = ? and status = 'ok' order by started_at desc limit 1",
            [stage],
        )
        known = set(json.loads(said or "[]"))
        new = [warning for warning in result.warnings if warning not in known]
        old = [warning for warning in result.warnings if warning in known]
        return replace(result, warnings=(*new, *old), repeated=len(old))

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

    def _need_models(self) -> None:
        """Raises StageFailed when the models were never built."""
        self._need("main.dim_customer" if self.has_customers else "main.product_sales")

    @property
    def has_customers(self) -> bool:
        """Whether the project has the customer models, which segments and decisions are made of; data products alone have none."""
        return (self.folder / "models" / "marts" / "core" / "dim_customer.sql").exists()

    def _need(self, relation: str) -> None:
        """Raises StageFailed when a model that a stage reads is not there."""
        if not self.warehouse.exists(relation):
            raise StageFailed(f"{relation} is not in the warehouse yet; run `headwater build` first")
