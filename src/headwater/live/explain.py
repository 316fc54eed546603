"""What `headwater explain MODEL` says: how a change reaches the model's keys, when it is due by time alone, what a refresh reads."""

from collections.abc import Mapping
from dataclasses import dataclass

from headwater.live.analysis import Analysis


@dataclass(frozen=True)
class Path:
    """How changed rows of one source reach the keys. `everything`: any change of it concerns every key."""

    source: str
    text: str
    everything: bool
    sql: str


@dataclass(frozen=True)
class Due:
    """One comparison with the clock. `sql` gives the keys that are due between `{a0}` and `{a1}`; `daily`: it is the clock's day
    that is used."""

    text: str
    width: str | None
    sql: str
    daily: bool = False


@dataclass(frozen=True)
class Cost:
    """Rows of one table that a refresh looks at. `whole`: all of them, however few keys are touched; None = not counted."""

    table: str
    rows: int | None
    whole: bool


@dataclass(frozen=True)
class Explanation:
    """The facts, and `sentences` for the screen."""

    model: str
    relation: str
    key: str
    mode: str
    why_full: tuple[str, ...]
    paths: tuple[Path, ...]
    windows: tuple[Due, ...]
    costs: tuple[Cost, ...]
    scoped: str
    why_not_additive: str = ""

    @property
    def sentences(self) -> tuple[str, ...]:
        if self.mode == "full":
            said = [f"{self.model} is recomputed as a whole at every change, because:"]
            said += [f"  {reason}" for reason in self.why_full]
        elif self.mode == "delta":
            said = [f"{self.model} is kept by adding what came and taking away what went, by {self.key}"]
        else:
            said = [f"{self.model} is refreshed by {self.key}"]
            if self.why_not_additive:
                said.append(f"not by adding and taking away (mode delta): {self.why_not_additive}")
        for path in self.paths:
            said.append(f"a change in {path.source} touches {path.text}")
        for due in self.windows:
            if due.daily:
                said.append(f"time alone: {due.text}")
                continue
            leaves = f", and leaves {due.width} later" if due.width else ""
            said.append(f"time alone: a row enters at its moment{leaves} ({due.text})")
        for cost in self.costs:
            rows = "an unknown number of rows" if cost.rows is None else f"{cost.rows:,} rows"
            changed = "its changed rows only" if self.mode == "delta" else f"by {self.key}"
            how = "as a whole" if cost.whole else changed
            said.append(f"reads {cost.table} {how} ({rows})")
        return tuple(said)


def explain(analysis: Analysis, rows: Mapping[str, int] | None = None) -> Explanation:
    """The facts about one model. `rows`: how many rows each table has, where that is known. Pure."""
    counted = rows or {}
    whole = analysis.reads if analysis.mode == "full" else analysis.read_whole
    return Explanation(
        model=analysis.model,
        relation=analysis.relation,
        key=analysis.key,
        mode=analysis.mode,
        why_full=analysis.why_full,
        paths=tuple(
            Path(path.source, _touches(path.text, path.source), path.everything, path.sql) for path in analysis.paths
        ),
        windows=tuple(Due(window.text, window.width, window.due, window.daily) for window in analysis.windows),
        costs=tuple(Cost(table, counted.get(table), table in whole) for table in sorted(analysis.reads)),
        scoped=analysis.scoped,
        why_not_additive=analysis.why_not_additive,
    )


def _touches(text: str, source: str) -> str:
    return text.removeprefix(f"{source} → ")
