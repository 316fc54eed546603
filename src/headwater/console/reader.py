"""What the parts of the report share: the warehouse, read once per query, and the few things that several of them need."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

from headwater.console import queries
from headwater.console.charts import Stack
from headwater.console.formats import NOTHING, money, short_money
from headwater.console.page import Badge, Empty, Table
from headwater.warehouse.connection import Warehouse

TONES = ("t0", "t1", "t2", "t3", "t4", "t5", "t6", "t7")


@dataclass
class Reader:
    """The warehouse with what several parts need to know; each is read once."""

    warehouse: Warehouse
    currency: str
    _rows: dict[str, Any] = field(default_factory=dict)

    def read(self, query: Callable[[Warehouse], Any]) -> Any:
        """The answer of a query of `queries`, remembered."""
        name = query.__name__
        if name not in self._rows:
            self._rows[name] = query(self.warehouse)
        return self._rows[name]

    def money(self, amount: Any) -> str:
        return money(amount, self.currency)

    def short_money(self, amount: Any) -> str:
        return short_money(amount, self.currency)

    @cached_property
    def as_of(self) -> datetime | None:
        return self.read(queries.clock)["as_of"]

    @cached_property
    def stages(self) -> dict[str, Any]:
        """The last word of each stage by its name; of one that works sync by sync (`plan leads`) by the name before the blank."""
        return {row["stage"].split()[0]: row for row in self.read(queries.stages)}

    def why(self, reason: str, command: str = "headwater run", *, stage: str = "", model: str = "") -> Empty:
        """Why a part is empty: what the stage that fills it said when it was skipped or failed; that the model it is read
        from is not built yet; else `reason`."""
        row = self.stages.get(stage)
        if row and row["status"] in ("skipped", "refused", "failed", "interrupted") and row["message"]:
            return Empty(f"The stage “{row['stage']}” {_was(row['status'])}: {row['message']}", command)
        if model and not self.warehouse.exists(model):
            return Empty(f"The model {model} is not built yet.", "headwater run")
        return Empty(reason, command)

    @cached_property
    def tone_of_segment(self) -> dict[str, str]:
        """One colour per ML segment, the same in every picture."""
        rows = [row for row in self.read(queries.ml_segments) if row["segment_id"] is not None]
        ranked = sorted(rows, key=lambda row: row["segment_id"])
        return {row["segment_name"]: TONES[i % len(TONES)] for i, row in enumerate(ranked)}

    @cached_property
    def tone_of_rule(self) -> dict[str, str]:
        """One colour per rule segment, the same in every picture."""
        names = sorted(
            row["segment"] for row in self.read(queries.rule_segments) if row["segment"] != queries.NO_SEGMENT
        )
        return {name: TONES[i % len(TONES)] for i, name in enumerate(names)}

    @cached_property
    def doubt(self) -> str:
        """Why the segment model should not be trusted blindly; empty when it is fine or when there is none."""
        model = self.read(queries.segment_model)
        if model is None or model["verdict"] == "promoted":
            return ""
        return f"The segment model {model['model']} v{model['version']} is {model['verdict']}: {(model['verdict_reason'] or 'no reason was kept').rstrip('.')}. Take these segments as a hint, not as a fact."

    @cached_property
    def doubt_in_short(self) -> str:
        """The same for a part that shows the segments of the model beside something else."""
        model = self.read(queries.segment_model)
        if not self.doubt or model is None:
            return ""
        return f"The segments here are of a model that is {model['verdict']}; why, stands under “Segments”."

    @cached_property
    def model_badges(self) -> tuple[Badge, ...]:
        """What to put beside every title under which ML segments are shown."""
        model = self.read(queries.segment_model)
        if model is None:
            return ()
        smallest = model["smallest_jaccard"]
        jaccard = f" · smallest Jaccard {smallest:.2f}" if smallest is not None else ""
        name = f"{model['model']} v{model['version']}"
        if model["verdict"] == "promoted":
            return (Badge(f"{name}: stable{jaccard}", "good"),)
        return (Badge(f"{name}: {model['verdict']}{jaccard}", "bad" if model["verdict"] == "refused" else "warn"),)


def _was(status: str) -> str:
    return {"skipped": "was skipped", "refused": "was refused", "failed": "failed", "interrupted": "was interrupted"}[
        status
    ]


def legend(rows: Sequence[Stack]) -> tuple[tuple[str, str], ...]:
    """Colour and text of the parts that occur in a `stacked` picture, in their order."""
    return tuple(dict.fromkeys((part.tone, part.label) for row in rows for part in row.parts if part.value > 0))


def table(
    columns: Sequence[str], rows: Iterable[Sequence[Any]], numeric: Iterable[int] = (), *, cards: bool = False
) -> Table:
    """A table of anything: None becomes a dash."""
    made = tuple(tuple(NOTHING if cell is None else str(cell) for cell in row) for row in rows)
    return Table(tuple(columns), made, frozenset(numeric), cards)
