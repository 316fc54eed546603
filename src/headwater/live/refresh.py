"""One live model in one batch: which keys are touched, what their rows should be, and the rows that differ.

All of it is SQL in the caller's transaction. Only rows that differ are written; what was removed and added is handed on to
the models below as a delta. The temporary tables of a model are made anew in each batch: emptying them instead keeps every
row version ever written in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from headwater.live.deltas import Delta, Deltas, at_moment, casts, column_list, moment, null_safe, quoted
from headwater.live.project import LiveModel
from headwater.warehouse import Warehouse

Run = Callable[[str], int]
"""Runs one statement and answers how many rows it wrote."""


@dataclass(frozen=True)
class Touched:
    """How many keys a batch has to look at: because rows changed, because a window ended or they were owed."""

    changed: int
    due: int

    @property
    def total(self) -> int:
        return self.changed + self.due


@dataclass(frozen=True)
class Refreshed:
    """What a refresh wrote."""

    removed: int = 0
    added: int = 0
    whole: bool = False

    def __bool__(self) -> bool:
        return bool(self.removed or self.added)


class Refresh:
    """One model's part of a batch. `types`: the table's columns and their types, in its order."""

    def __init__(self, warehouse: Warehouse, model: LiveModel, types: dict[str, str], run: Run) -> None:
        self.warehouse = warehouse
        self.model = model
        self.types = types
        self.run = run
        self.columns = column_list(list(types))
        self.key = quoted(model.key)
        self.touched = f"touched_{model.name}"
        self.new = f"new_{model.name}"
        self.old = f"old_{model.name}"
        self.removed = f"removed_{model.name}"
        self.added = f"added_{model.name}"

    def collect(self, deltas: Deltas, a0: datetime, a1: datetime, *, owed: bool, windows: bool) -> Touched:
        """Fill the table of touched keys. `owed`: also those of headwater.due_keys; `windows`: also those that came due."""
        analysis = self.model.analysis
        parts = [
            f"select key, false as is_due from ({at_moment(deltas.rendered(path.sql, path.source), a1)})"
            for path in analysis.paths
            if path.source in deltas
        ]
        if windows and a1 > a0:
            parts += [
                f"select key, true as is_due from ({window.due.replace('{a0}', moment(a0)).replace('{a1}', moment(a1))})"
                for window in analysis.windows
            ]
        kind = self.types[self.model.key]
        if owed:
            parts.append(
                "select cast(key as " + kind + "), true from headwater.due_keys"
                f" where model = '{self.model.name}' and key is not null"
            )
        if not parts:
            return Touched(0, 0)
        total = self.run(
            f"create or replace temp table {self.touched} as select cast(key as {kind}) as key, bool_and(is_due) as is_due"
            f" from ({' union all '.join(parts)}) as all_keys where key is not null group by 1"
        )
        due = int(self.warehouse.value(f"select count(*) from {self.touched} where is_due")) if total else 0
        return Touched(total - due, due)

    def bound(self, limit: int, since: datetime) -> int:
        """Put off all but `limit` of the due keys; how many were put off."""
        put_off = self.run(
            f"insert into headwater.due_keys select '{self.model.name}', cast(key as varchar), 'window', {moment(since)}"
            f" from (select key from {self.touched} where is_due order by key offset {limit})"
            f" where cast(key as varchar) not in (select key from headwater.due_keys where model = '{self.model.name}' and key is not null)"
        )
        self.run(
            f"delete from {self.touched} where is_due and cast(key as varchar) in"
            f" (select cast(key as varchar) from {self.touched} where is_due order by key offset {limit})"
        )
        return put_off

    def keyed(self, as_of: datetime) -> Refreshed:
        """Bring the rows of the touched keys up to date."""
        self.run(
            f"create or replace temp table {self.new} as select {casts(self.types)}"
            f" from ({at_moment(self.model.analysis.scoped.replace('{touched}', self.touched), as_of)})"
        )
        self.run(
            f"create or replace temp table {self.old} as select rowid as _row, {self.columns} from {self.model.relation}"
            f" where {self.key} in (select key from {self.touched})"
        )
        return self._apply(self.old, "_row", whole=False)

    def whole(self, as_of: datetime) -> Refreshed:
        """Recompute the model and write the rows that differ."""
        self.run(
            f"create or replace temp table {self.new} as select {casts(self.types)}"
            f" from ({at_moment(self.model.analysis.whole, as_of)})"
        )
        return self._apply(self.model.relation, "rowid", whole=True)

    def _apply(self, old: str, row: str, *, whole: bool) -> Refreshed:
        removed = self.run(
            f"create or replace temp table {self.removed} as"
            f" select {self.columns} from {old} except all select {self.columns} from {self.new}"
        )
        added = self.run(
            f"create or replace temp table {self.added} as"
            f" select {self.columns} from {self.new} except all select {self.columns} from {old}"
        )
        survivors = ""
        if removed:
            match = null_safe(list(self.types), "held", "gone")
            deleted = self.run(
                f"delete from {self.model.relation} where rowid in (select {row} from {old} as held"
                f" where exists (select 1 from {self.removed} as gone where {match}))"
            )
            if deleted > removed:  # equal rows, of which some stay
                survivors = (
                    f" union all select {self.columns} from {self.new} as held"
                    f" where exists (select 1 from {self.removed} as gone where {match})"
                )
        if added or survivors:
            self.run(
                f"insert into {self.model.relation} ({self.columns}) select {self.columns} from {self.added}{survivors}"
            )
        return Refreshed(removed, added, whole)

    def delta(self, done: Refreshed) -> Delta:
        """The rows that went and came, for the models below."""
        return Delta(self.removed if done.removed else None, self.added if done.added else None)

    def record_changes(self, done: Refreshed, version: int, as_of: datetime) -> None:
        """Write the changed rows to headwater.model_changes; a row that went and one that came under a key are an update."""
        if not done:
            return
        numbered = "row_number() over (partition by {key}) as nth"
        sides = {
            side: f"(select {self.key} as key, {numbered.format(key=self.key)}, to_json(image) as image from {table} as image)"
            for side, table in (("old", self.removed), ("new", self.added))
        }
        self.run(
            f"""insert into headwater.model_changes (model, key, op, old, new, version, as_of)
            select
                '{self.model.name}', cast(coalesce(old.key, new.key) as varchar),
                case when old.image is null then 'insert' when new.image is null then 'delete' else 'update' end,
                old.image, new.image, {version}, {moment(as_of)}
            from {sides["old"]} as old
            full outer join {sides["new"]} as new on old.key is not distinct from new.key and old.nth = new.nth"""
        )

    def content_change(self, done: Refreshed) -> str:
        """SQL of one row: relation, rows more, content more; for headwater.live_tables."""
        rows = f"cast({done.added} as bigint) - {done.removed}"
        content = " - ".join(
            f"coalesce((select sum(cast(hash({self.columns}) as hugeint)) from {table}), 0)" if count else "0"
            for table, count in ((self.added, done.added), (self.removed, done.removed))
        )
        return f"select '{self.model.relation}' as relation, {rows} as row_count, {content} as content"
