"""The order of things: which stage follows which."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from headwater.clock import Clock
from headwater.errors import HeadwaterError
from headwater.failpoint import failpoint
from headwater.live import edited
from headwater.records.stage import StageResult
from headwater.stack.acting import Acting
from headwater.stack.building import Building
from headwater.stack.learning import Learning
from headwater.stack.people import People
from headwater.stack.project import OnProgress
from headwater.stack.segmenting import Segmenting
from headwater.stack.watching import FollowerStatus, ModelStatus, SourceStatus, Watching
from headwater.warehouse import Warehouse

ORDER = (
    "seed",
    "build_upstream",
    "segment",
    "build_downstream",
    "build",
    "test",
    "outcomes",
    "decide",
    "plan",
    "activate",
    "experiment",
    "export",
)


@dataclass(frozen=True)
class Report:
    """A project as it stands. `waiting`: records of the log that no engine has read. `stages`: the last run of each.
    `edited`: files of models that have changed since the last build."""

    as_of: datetime | None
    waiting: int
    sources: list[SourceStatus]
    models: list[ModelStatus]
    followers: list[FollowerStatus]
    stages: list[dict[str, Any]]
    edited: list[str]


Exporter = Callable[["Stack"], StageResult]
"""Writes what people look at; the console, which stands above the stack, passes it."""


def _nothing_to_look_at(stack: "Stack") -> StageResult:
    return StageResult("export", "skipped", 0, f"{stack.folder.name}: nobody asked for an export")


class Stack(Building, Segmenting, Acting, Learning, Watching, People):
    """One project and its stages. Holds the project's lock while a stage works; `close` gives the warehouse back."""

    def __init__(
        self,
        folder: Path,
        *,
        clock: Clock | None = None,
        on_progress: OnProgress | None = None,
        exporter: Exporter | None = None,
        held: Warehouse | None = None,
    ) -> None:
        super().__init__(folder, clock=clock, on_progress=on_progress, held=held)
        self.exporter = exporter or _nothing_to_look_at

    def status(self) -> list[dict[str, Any]]:
        """One row per stage, in the order of a run: status, started_at, ended_at, seconds, row_count, as_of, message, warnings of its last run,
        unless a later stage made up for it."""
        with self.locked("headwater status"):
            rows = self.warehouse.rows(
                """
                select
                    stage, status, started_at, ended_at, date_diff('millisecond', started_at, ended_at) / 1000 as seconds,
                    row_count, as_of, message, warnings
                from headwater.stage_status
                """
            )
        place = {stage: position for position, stage in enumerate(ORDER)}
        for row in rows:
            row["warnings"] = json.loads(row["warnings"] or "[]")
            if row["status"] == "running" and not self._held:  # we hold the lock, so nobody works on it any more
                row |= {"status": "interrupted", "message": "the process ended before the stage did"}
        return sorted(rows, key=lambda row: (place.get(row["stage"].split()[0], len(place)), row["started_at"]))

    def export(self) -> StageResult:
        """Write bi/*.csv, bi/*.parquet and bi/report.html."""
        return self._stage("export", lambda: self.exporter(self))

    def run(
        self, *, deliver: bool = False, history: Callable[["Stack"], Iterable[StageResult]] | None = None
    ) -> Iterator[StageResult]:
        """All stages in order, under one lock; `deliver` also sends, before the export. `history`: done once the models are
        built, before outcomes are looked at (the demo's earlier campaign).

        Ends at the first stage that fails, with the last good tables in place; but a sync that cannot be planned or delivered
        keeps neither the next one nor what follows from being done. What a delivery raised is raised at the end.
        """
        order: list[tuple[str, Callable[[], Iterable[StageResult]]]] = [
            ("run.seeded", lambda: [self.seed()]),
            ("run.built_upstream", lambda: [self.build("upstream")]),
            ("run.segmented", lambda: [self.segment()]),
            ("run.built", lambda: [self.build("downstream")]),
            ("run.attributed", lambda: [*(history(self) if history else ()), self.outcomes()]),
            ("run.decided", lambda: [self.decide()]),
            ("run.planned", self.plan),
            ("run.delivered", lambda: self.deliver() if deliver else []),
            ("run.compared", lambda: [self.compare()]),
            ("run.exported", lambda: [self.export()]),
        ]
        if not self.has_customers:
            left = ("run.seeded", "run.planned", "run.delivered")
            order = [order[0], ("run.built", lambda: [self.build()]), *(one for one in order[1:] if one[0] in left)]
        with self.locked("headwater run"):
            undelivered: HeadwaterError | None = None
            for name, stages in order:
                try:
                    yield from stages()
                except HeadwaterError as error:
                    if name != "run.delivered":
                        raise
                    undelivered = error
                failpoint(name)
            if undelivered is not None:
                raise undelivered

    def report(self) -> Report:
        """All that `headwater status` shows, read at one moment under one lock."""
        with self.locked("headwater status"):
            models, followers = self.live_models(), self.followers()
            return Report(
                self.as_of(),
                self.waiting(),
                self.sources(),
                models,
                followers,
                self.status(),
                edited.changed(self.folder),
            )
