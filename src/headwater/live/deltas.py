"""What one batch has changed so far: for each table, the rows that went and the rows that came."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from headwater.live.analysis import AS_OF

_PLUS = re.compile(r"\{plus:([^}]+)\}")


@dataclass(frozen=True)
class Delta:
    """Rows of one table, as relations that SQL can read, with the table's columns. None = none."""

    removed: str | None = None
    added: str | None = None


class Deltas:
    """The deltas of a batch by relation (`schema.table`). `columns`: of every relation that paths read."""

    def __init__(self) -> None:
        self._deltas: dict[str, Delta] = {}
        self._columns: dict[str, str] = {}

    def put(self, relation: str, columns: Sequence[str], delta: Delta) -> None:
        """Say what changed in a table. A table without rows on either side has not changed."""
        if delta.removed or delta.added:
            self._deltas[relation] = delta
            self._columns[relation] = column_list(columns)

    def __contains__(self, relation: object) -> bool:
        return relation in self._deltas

    def __iter__(self):
        return iter(self._deltas)

    def __len__(self) -> int:
        return len(self._deltas)

    def __getitem__(self, relation: str) -> Delta:
        return self._deltas[relation]

    def rendered(self, sql: str, source: str) -> str:
        """A key path's SQL with the changed rows of `source` in place, old and new images."""
        return _PLUS.sub(lambda found: self._plus(found[1]), sql.replace("{delta}", self._both(source)))

    def _both(self, relation: str) -> str:
        delta, columns = self._deltas[relation], self._columns[relation]
        parts = [f"select {columns} from {one}" for one in (delta.removed, delta.added) if one]
        return f"({' union all '.join(parts)})"

    def _plus(self, relation: str) -> str:
        delta = self._deltas.get(relation)
        if delta is None or delta.removed is None:
            return relation
        columns = self._columns[relation]
        return f"(select {columns} from {relation} union all select {columns} from {delta.removed})"


def quoted(column: str) -> str:
    """A column's name as SQL takes it."""
    return '"' + column.replace('"', '""') + '"'


def column_list(columns: Sequence[str]) -> str:
    return ", ".join(quoted(column) for column in columns)


def moment(at: datetime) -> str:
    """A naive UTC moment as a SQL literal."""
    return f"timestamp '{at:%Y-%m-%d %H:%M:%S.%f}'"


def at_moment(sql: str, at: datetime) -> str:
    """Compiled SQL with the clock at `at`."""
    return sql.replace(AS_OF, f"{at:%Y-%m-%d %H:%M:%S.%f}")


def casts(columns: Mapping[str, str]) -> str:
    """A select list that gives every column the table's own type."""
    return ", ".join(f"cast({quoted(name)} as {kind}) as {quoted(name)}" for name, kind in columns.items())
