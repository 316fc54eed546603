"""Segments by model: train, assign, monitor, promote."""

from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal

from headwater.records.stage import StageResult
from headwater.segments import assign, monitor, registry, train
from headwater.stack.project import Project


def _status(word: str) -> Literal["ok", "skipped"]:
    return "skipped" if word == "skipped" else "ok"


def _promoted(stage: str, done: registry.Promotion) -> StageResult:
    return StageResult(stage, "ok", int(done.changed), done.message, asdict(done), done.warnings)


class Segmenting(Project):
    """The stage segment and its parts."""

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
        self._need("main.int_customer_rfm")
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
        self._need("main.int_customer_rfm")
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
        self._need("main.int_customer_rfm")
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
        self._need("main.int_customer_rfm")
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
