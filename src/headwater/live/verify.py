"""Live rows against the same SQL computed in full at the clock, in one read transaction.

    check(warehouse, project)                        every model, every row
    check(warehouse, project, models=["user_alerts"])
    check(warehouse, project, keys=100)              in every model, the rows of about 100 random keys

A difference is a row that should not be there (`live`) or that should (`missing`). Keys that wait for their turn (the window
ended, or the model is throttled) are late, keys that keep their last good row because their SQL fails are stale; both are
counted and neither is wrong. A model is compared with what the tables that it reads hold: when every model agrees with the
ones before it, all agree with a build from nothing.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from headwater.clock import Clock, naive_utc
from headwater.live import contents
from headwater.live.deltas import at_moment, casts, column_list, quoted
from headwater.live.project import LiveModel, Project
from headwater.warehouse import Warehouse

CAP = 20
"""So many differing rows of a model are named; all are counted."""


@dataclass(frozen=True)
class Difference:
    """One row. `found`: live (it stands in the table and should not) or missing (the other way round)."""

    model: str
    key: str | None
    found: str
    row: dict[str, Any]


@dataclass(frozen=True)
class Verified:
    """One model. `rows` were compared, `wrong` of them differ (`differences` names the first), `late` and `stale` keys were
    left out. `skipped`: why the model could not be compared at all; it is neither right nor wrong then."""

    model: str
    rows: int = 0
    wrong: int = 0
    late: int = 0
    stale: int = 0
    differences: tuple[Difference, ...] = ()
    skipped: str | None = None

    @property
    def clean(self) -> bool:
        return not self.wrong and self.skipped is None


def check(
    warehouse: Warehouse,
    project: Project,
    *,
    models: Sequence[str] | None = None,
    keys: int | None = None,
    clock: Clock | None = None,
) -> list[Verified]:
    """Compare the models (all when None) and, with a clock, write how they fared to headwater.live_models.

    Reads in a snapshot of its own; call it from the engine's thread, between two steps. Raises ConfigError for an unknown model.
    """
    chosen = project.models if models is None else tuple(project.model(name) for name in models)
    done = []
    w = warehouse
    w.execute("begin transaction")
    try:
        as_of = w.value("select max(as_of) from headwater.clock")
        for model in chosen:
            done.append(_checked(w, model, as_of, keys))
    finally:
        w.execute("rollback")
    if clock is not None:
        _note(w, done, naive_utc(clock.now()), partial=keys is not None)
    return done


def _checked(w: Warehouse, model: LiveModel, as_of: datetime, keys: int | None) -> Verified:
    types = contents.types(w, model.relation)
    owed = w.execute(
        "select count(key), bool_or(key is null), any_value(because) from headwater.due_keys where model = ?",
        [model.name],
    ).fetchone() or (0, None, None)
    stale = int(w.value("select count(*) from headwater.stale_keys where model = ?", [model.name]))
    if owed[1]:
        return Verified(model.name, late=int(owed[0]), stale=stale, skipped=f"late: {owed[2]}")
    columns, key = column_list(list(types)), quoted(model.key)
    left_out = f"(select key from headwater.due_keys where model = '{model.name}' union all select key from headwater.stale_keys where model = '{model.name}')"
    considered = f"coalesce(cast({key} as varchar) not in {left_out}, true)" if owed[0] or stale else "true"
    expected_sql = model.analysis.whole
    if keys is not None and model.analysis.mode != "full":
        _sample(w, model, types[model.key], as_of, keys)
        expected_sql = model.analysis.scoped.replace("{touched}", "verify_keys")
        considered += f" and {key} in (select key from verify_keys)"
    w.execute(
        f"create or replace temp table verify_expected as select * from (select {casts(types)}"
        f" from ({at_moment(expected_sql, as_of)})) where {considered}"
    )
    live = f"(select {columns} from {model.relation} where {considered})"
    expected = f"(select {columns} from verify_expected)"
    rows = int(w.value(f"select count(*) from {live}"))
    differences: list[Difference] = []
    wrong = 0
    for found, one, other in (("live", live, expected), ("missing", expected, live)):
        w.execute(f"create or replace temp table verify_wrong as {one} except all {other}")
        wrong += int(w.value("select count(*) from verify_wrong"))
        named = w.rows(
            f"select cast({key} as varchar) as key, cast(to_json(wrong) as varchar) as image from verify_wrong as wrong"
            f" order by 1, 2 limit {CAP}"
        )
        differences += [Difference(model.name, r["key"], found, json.loads(r["image"])) for r in named]
    differences.sort(key=lambda d: (d.key or "", d.found))
    return Verified(model.name, rows, wrong, int(owed[0]), stale, tuple(differences[: 2 * CAP]))


def _sample(w: Warehouse, model: LiveModel, kind: str, as_of: datetime, keys: int) -> None:
    """`verify_keys`: random keys of the table, and keys that random rows of its sources lead to, in the table or not."""
    parts = [
        f"select {quoted(model.key)} as key from (select {quoted(model.key)} from {model.relation} using sample {keys} rows)"
    ]
    share = max(1, keys // max(1, len(model.analysis.paths)))
    for path in model.analysis.paths:
        if path.everything:
            continue
        rows = f"(select * from {path.source} using sample {share} rows)"
        sql = at_moment(path.sql.replace("{delta}", rows), as_of)
        for table in model.analysis.reads:
            sql = sql.replace(f"{{plus:{table}}}", table)
        parts.append(f"select key from ({sql}) limit {keys}")
    union = " union all ".join(f"(select cast(key as {kind}) as key from ({part}))" for part in parts)
    w.execute(f"create or replace temp table verify_keys as select distinct key from ({union}) where key is not null")


def _note(w: Warehouse, done: Sequence[Verified], now: datetime, *, partial: bool) -> None:
    """A partial check that finds nothing does not clear what a whole one has found."""
    with w.transaction():
        for one in done:
            if one.skipped is None and not (partial and not one.wrong):
                w.execute(
                    "update headwater.live_models set verified_at = ?, verified_rows = ?, wrong_rows = ? where model = ?",
                    [now, one.rows, one.wrong, one.model],
                )
