"""Which keys of a live model a change touches, and the SQL for those keys: `analyse`.

The model's SQL is written out over tables (`expand`), the filter on its key is pushed down as far as can be proved (`scope`),
every table behind it gets the SQL from its changed rows to keys (`paths`), and every comparison with the clock the SQL for
the keys that are due (`windows`). What cannot be proved makes the model full, with the reason in a sentence; what would be
wrong in any mode (the clock in the wrong place, money as DOUBLE) is a ConfigError.
"""

import re
from collections.abc import Mapping, Sequence

from sqlglot import exp

from headwater.errors import ConfigError
from headwater.live import windows as clock
from headwater.live.additive import ROWS, SUMS, additive
from headwater.live.analysis import Additive, Analysis, KeyPath, Relation, Window
from headwater.live.expand import DIALECT, expand, tables
from headwater.live.level import Level, Unprovable, body, outputs
from headwater.live.paths import DELTA, PLUS, ClockChange, TableChange, Tracer
from headwater.live.scope import read_whole, restrict, why_not_inside

_TOUCHED = "__touched__"
_NOBODY = "select cast(null as varchar) as key"


def analyse(
    model: str,
    relation: str,
    sql: str,
    key: str | None,
    relations: Mapping[str, Relation],
    touch: Mapping[str, str],
) -> Analysis:
    """One model, from its compiled SQL (with AS_OF literals) and the tables and views that it may read.

    `relations` holds every table and view by `schema.table`. `touch` is the model's own SQL from `{delta}` to keys, by table
    name (with or without schema), for tables whose path lineage cannot find. Without a key the model is full.
    Pure: nothing is read but the arguments. Raises ConfigError when the model cannot be kept right in any mode.
    """
    tree = expand(model, sql, relations)
    _no_inexact_sums(model, tree)
    reads = tables(tree)
    columns = relations[relation].columns if relation in relations else dict.fromkeys(outputs(tree), "")
    moments = clock.moments(model, tree)
    declared = _declared(model, touch, reads)
    why_full: list[str] = []
    paths: list[KeyPath] = []
    due: list[Window] = []
    scoped, whole = sql, frozenset(reads)
    if key is None:
        why_full.append("it has no key (meta.headwater.key in its .yml)")
    elif key not in outputs(tree):
        raise ConfigError(
            f"the live model {model} has no column {key}, which meta.headwater.key names; its columns are "
            f"{', '.join(outputs(tree))}. Mend its .yml"
        )
    else:
        try:
            why_full += _refusals(tree, key)
            narrow = restrict(tree, key, _touched)
            scoped, whole = text(narrow), read_whole(narrow, _TOUCHED)
        except Unprovable as reason:
            why_full.append(str(reason))
        for table in reads:
            if table in declared:
                paths.append(KeyPath(table, declared[table], "as declared under touch"))
                continue
            try:
                paths.append(_path(tree, key, table))
            except Unprovable as reason:
                why_full.append(
                    f"no path leads from {table} to {key}: {reason}; declare one under meta.headwater.touch"
                )
    for moment in moments:
        try:
            due.append(_window(tree, key, moment))
        except Unprovable as reason:
            why_full.append(f"which keys are due cannot be told from {_words(moment.ts)}: {reason}")
            due.append(_window(tree, None, moment))
    for day in clock.days(tree):
        try:
            due.append(_midnight(tree, key, day))
        except Unprovable as reason:
            why_full.append(f"which keys another day concerns cannot be told: {reason}")
            due.append(_midnight(tree, None, day))
    if not why_full and paths and all(path.everything for path in paths):
        why_full.append(f"every change of any table concerns every {key}")
    sums, why_not = _additive(tree, key, moments) if key is not None and not why_full else (None, "")
    return Analysis(
        model=model,
        relation=relation,
        key=key or "",
        mode="full" if why_full else "keyed",
        columns=columns,
        scoped=scoped,
        whole=sql,
        reads=frozenset(reads),
        paths=tuple(paths),
        windows=tuple(_once(due)),
        why_full=tuple(dict.fromkeys(why_full)),
        read_whole=whole,
        additive=sums,
        why_not_additive=why_not,
    )


def _additive(tree: exp.Query, key: str, moments: Sequence[clock.Moment]) -> tuple[Additive | None, str]:
    """How a keyed model is kept by adding and taking away; or why it is not."""
    try:
        proof = additive(tree, key, moments)
        scoped = restrict(proof.sums, proof.key, _touched)
    except Unprovable as reason:
        return None, str(reason)
    crossing = None if proof.crossing is None else text(proof.crossing)
    return Additive(
        proof.table, proof.key, proof.groups, text(proof.sums), text(scoped), crossing, text(proof.visible)
    ), ""


def _no_inexact_sums(model: str, tree: exp.Query) -> None:
    """A sum of DOUBLE depends on the order of its rows, so the rows of some keys would differ from those of all."""
    inexact = (exp.DataType.Type.DOUBLE, exp.DataType.Type.FLOAT)
    for node in tree.find_all(exp.Sum, exp.Avg):
        if node.this.type is not None and node.this.type.this in inexact:
            raise ConfigError(
                f"the live model {model} computes {node.sql(DIALECT).replace(chr(34), '')[:100]} of a DOUBLE, whose last digits depend "
                "on the order of the rows; money must be DECIMAL: cast the column to decimal(18, 4) before it is summed"
            )


def _refusals(tree: exp.Query, key: str) -> list[str]:
    """Why the shape of the outermost SELECT makes the model full."""
    query = body(tree)
    if not isinstance(query, exp.Select):
        return []
    level = Level(query)
    reason = why_not_inside(level, key)
    if reason is not None:
        return [f"{reason}, so a row of one {key} depends on rows of others"]
    expression = level.exprs[key]
    source = level.sources.get(expression.table) if isinstance(expression, exp.Column) else None
    strong, _ = level.ties(expression)
    if source is not None and source.kind == "left" and not any(level.sources[a].kind == "inner" for a, _ in strong):
        return [f"{key} comes from the right side of a left join, so it is null where there is no match"]
    return []


def _path(tree: exp.Query, key: str, table: str) -> KeyPath:
    tracer = Tracer(TableChange(table))
    found = tracer.affected(tree, [key])
    words = f"every {key}: nothing ties it to {table}" if tracer.everything else f"{table} → {key}"
    return KeyPath(table, text(_keys(found, key)), words, everything=tracer.everything)


def _window(tree: exp.Query, key: str | None, moment: clock.Moment) -> Window:
    widths = [clock.text_of(width) for width in moment.widths]
    width = next((w for w in widths if w is not None), None)
    if key is None:
        due = _NOBODY
    else:
        due = text(_keys(Tracer(ClockChange(moment.select, moment.crossing)).affected(tree, [key]), key))
    level = Level(moment.select)
    tracer = Tracer(ClockChange(moment.select, moment.crossing))
    parts: list[exp.Query] = []
    for at, after in clock.next_moments(moment.ts, moment.widths):
        try:
            parts += tracer.rows_at(level, at, "moment", after)
        except Unprovable:
            if key is not None:
                raise
            parts.append(clock.as_it_stands(moment.select, at, after))
    moments_after = exp.Subquery(this=_together(parts), alias=exp.TableAlias(this=exp.to_identifier("_next")))
    earliest = exp.select(exp.alias_(exp.Min(this=exp.column("moment", table="_next")), "moment")).from_(moments_after)
    reads = moment.reads()
    ts = _words(moment.ts)
    words = f"{ts} within {width} of the clock" if width else f"{ts} until the clock"
    return Window(width, due, text(earliest), words, reads)


def _midnight(tree: exp.Query, key: str | None, day: clock.Day) -> Window:
    due = (
        _NOBODY
        if key is None
        else text(_keys(Tracer(ClockChange(day.select, day.crossing)).affected(tree, [key]), key))
    )
    return Window(None, due, text(day.next_moment), "every row is computed anew at midnight UTC", daily=True)


def _words(expression: exp.Expr) -> str:
    return expression.sql(DIALECT).replace('"', "")


def _keys(parts: Sequence[exp.Query], key: str) -> exp.Query:
    together = exp.Subquery(this=_together(parts), alias=exp.TableAlias(this=exp.to_identifier("_keys")))
    return exp.select(exp.alias_(exp.column(key, table="_keys", quoted=True), "key")).distinct().from_(together)


def _together(parts: Sequence[exp.Query]) -> exp.Query:
    together = parts[0]
    for part in parts[1:]:
        together = exp.union(together, part, distinct=False, copy=False)
    return together


def _touched() -> exp.Query:
    return exp.select(exp.column("key", table="_touched")).from_(
        exp.Table(this=exp.to_identifier(_TOUCHED), alias=exp.TableAlias(this=exp.to_identifier("_touched")))
    )


def _declared(model: str, touch: Mapping[str, str], reads: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, sql in touch.items():
        matching = [table for table in reads if name in (table, table.partition(".")[2])]
        if not matching:
            raise ConfigError(
                f"the live model {model} declares touch: {name}, but reads no such table; it reads {', '.join(reads)}. "
                "Name one of these under meta.headwater.touch"
            )
        found[matching[0]] = sql
    return found


def _once(windows: Sequence[Window]) -> list[Window]:
    return list({(w.due, w.next_due): w for w in windows}.values())


def text(query: exp.Expr) -> str:
    """SQL with the engine's placeholders: {delta}, {plus:schema.table}, {touched}, {rows}, {sums}, {a0}, {a1}."""
    sql = query.sql(DIALECT, comments=False)
    sql = re.sub(rf'{PLUS}\."([^"]+)"', r"{plus:\1}", sql)
    placeholders = {
        DELTA: "delta", _TOUCHED: "touched", ROWS: "rows", SUMS: "sums", clock.BEFORE: "a0", clock.NOW: "a1"
    }  # fmt: skip
    for name, shown in placeholders.items():
        sql = sql.replace(name, "{" + shown + "}")
    return sql
