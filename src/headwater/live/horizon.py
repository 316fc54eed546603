"""When does the clock alone move something? Per window, the next moment at which a row enters or leaves, as far as it is known.

As long as that moment is not reached, a batch need not ask which keys are due: rows that the batch itself changes are found
by their key paths. What a batch adds can only bring the moment nearer; where each row of a table answers for itself (no join
in the window's SQL), the added rows alone are asked.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlglot
from sqlglot import exp

from headwater.live.analysis import Window
from headwater.live.deltas import Deltas, at_moment, moment
from headwater.live.project import LiveModel
from headwater.warehouse import Warehouse

_SHARE = 20
"""Finding the next moments takes at most one part in so many of the time."""


@dataclass
class _State:
    window: Window
    by_row: bool
    known: bool = False
    next: datetime | None = None

    def passed(self, now: datetime) -> bool:
        return not self.known or (self.next is not None and self.next <= now)


class Horizon:
    """The windows of all models. One engine's; forget it when the tables were changed from outside."""

    def __init__(self, warehouse: Warehouse, models: Sequence[LiveModel]) -> None:
        self.warehouse = warehouse
        by_text: dict[str, _State] = {}
        self._windows: dict[str, list[_State]] = {}
        for model in models:
            self._windows[model.name] = [
                by_text.setdefault(window.next_due, _State(window, _by_row(window.next_due)))
                for window in model.analysis.windows
            ]
        self._states = list(by_text.values())
        self._again_at = 0.0

    def due(self, model: LiveModel, a0: datetime, a1: datetime) -> list[str]:
        """SQL of the keys that came due between the two moments, for the windows in which any may have."""
        if a1 <= a0:
            return []
        return [
            at_moment(window.due.replace("{a0}", moment(a0)).replace("{a1}", moment(a1)), a1)
            for window, state in zip(model.analysis.windows, self._windows[model.name], strict=True)
            if state.passed(a1)
        ]

    def follow(self, deltas: Deltas, a1: datetime) -> None:
        """Take in what a batch has changed; before its commit, while the deltas are there."""
        ask: list[tuple[_State, str]] = []
        for state in self._states:
            if state.passed(a1):
                state.known = False
            changed = [name for name in state.window.reads if name in deltas]
            if not state.known or not changed:
                continue
            if not state.by_row:
                state.known = False
                continue
            sql = self._of_added(state.window, deltas)
            if sql is not None:
                ask.append((state, at_moment(sql.replace("{a0}", moment(a1)), a1)))
        if not ask:
            return
        row = self.warehouse.execute("select " + ", ".join(f"({sql})" for _, sql in ask)).fetchone() or ()
        for (state, _), found in zip(ask, row, strict=True):
            if found is not None:
                state.next = found if state.next is None else min(state.next, found)

    def look(self, as_of: datetime) -> bool:
        """Find the moments that are not known; False when it is too early to spend time on that again."""
        unknown = [state for state in self._states if not state.known]
        if not unknown:
            return True
        if time.monotonic() < self._again_at:
            return False
        started = time.monotonic()
        for state in unknown:
            state.next = self.warehouse.value(at_moment(state.window.next_due.replace("{a0}", moment(as_of)), as_of))
            state.known = True
        self._again_at = time.monotonic() + _SHARE * (time.monotonic() - started)
        return True

    @property
    def known(self) -> bool:
        return all(state.known for state in self._states)

    @property
    def next(self) -> datetime | None:
        """The earliest moment at which something is due, of those that are known."""
        return min((state.next for state in self._states if state.known and state.next is not None), default=None)

    def next_of(self, model: LiveModel) -> datetime | None:
        """The same for one model; None when nothing will ever be due, or it is not known yet."""
        return min(
            (state.next for state in self._windows[model.name] if state.known and state.next is not None), default=None
        )

    @staticmethod
    def _of_added(window: Window, deltas: Deltas) -> str | None:
        """The window's question, asked of the added rows only; None when only rows went."""
        tree = sqlglot.parse_one(window.next_due.replace("{a0}", "__a0__"), dialect="duckdb")
        anything = False
        for table in list(tree.find_all(exp.Table)):
            name = f"{table.db}.{table.name}"
            added = deltas[name].added if name in deltas else None
            anything |= added is not None
            source = sqlglot.parse_one(
                f"select * from {added or name}" + ("" if added else " where false"), dialect="duckdb"
            )
            assert isinstance(source, exp.Query)
            table.replace(source.subquery(alias=table.alias_or_name))
        return tree.sql("duckdb").replace("__a0__", "{a0}") if anything else None


def _by_row(sql: str) -> bool:
    """Whether each row of each table answers for itself."""
    tree = sqlglot.parse_one(sql.replace("{a0}", "__a0__"), dialect="duckdb")
    shared = (exp.Join, exp.In, exp.Exists, exp.Window, exp.Group, exp.Distinct, exp.Limit)
    return not any(True for _ in tree.find_all(*shared)) and len(list(tree.find_all(exp.AggFunc))) == 1
