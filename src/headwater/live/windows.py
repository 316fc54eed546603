"""Where the clock stands in a model, and which keys move when only the clock moves.

The clock may stand in two comparisons only, those that `within_last` makes: `ts <= as_of` and `ts > as_of - interval w`. Each
changes its answer for a row exactly once, when the clock passes ts or ts + w; so the keys that are due between two moments
are those of the rows whose ts lies in (a0, a1] or in (a0 - w, a1 - w], whatever the comparison stands in (WHERE, CASE, NOT).

Beside them there is the day, `cast(as_of as date)`, as `as_of_day` makes it: at midnight every row of its SELECT is due.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from sqlglot import exp

from headwater.errors import ConfigError
from headwater.live.analysis import AS_OF
from headwater.live.expand import tables
from headwater.live.level import Level, aggregates, own
from headwater.live.paths import by_row

BEFORE, NOW = "__a0__", "__a1__"


@dataclass(frozen=True)
class Moment:
    """One expression that is compared with the clock, in one SELECT. `widths` are its intervals; None stands for `ts <= as_of`."""

    select: exp.Select
    ts: exp.Expr
    widths: tuple[exp.Expr | None, ...]

    @property
    def crossing(self) -> exp.Expr:
        """True for rows that enter or leave while the clock moves from BEFORE to NOW."""
        ranges = []
        for width in self.widths:
            low, high = _moment(BEFORE, width), _moment(NOW, width)
            ranges.append(
                exp.paren(
                    exp.and_(exp.GT(this=self.ts.copy(), expression=low), exp.LTE(this=self.ts.copy(), expression=high))
                )
            )
        return ranges[0] if len(ranges) == 1 else exp.paren(exp.or_(*ranges))

    def reads(self) -> frozenset[str]:
        """The tables that the moment comes from."""
        level = Level(self.select)
        return frozenset(
            name
            for column in own(self.ts, exp.Column)
            if column.table in level.sources
            for name in tables(level.sources[column.table].node)
        )


@dataclass(frozen=True)
class Day:
    """The calendar day of the clock, somewhere in one SELECT."""

    select: exp.Select

    @property
    def crossing(self) -> exp.Expr:
        """True when midnight lies between BEFORE and NOW."""
        before, now = (exp.cast(exp.Var(this=clock), exp.DataType.Type.DATE) for clock in (BEFORE, NOW))
        return exp.paren(exp.GT(this=now, expression=before))

    @property
    def next_moment(self) -> exp.Query:
        """The first midnight after BEFORE."""
        day = exp.cast(exp.cast(exp.Var(this=BEFORE), exp.DataType.Type.DATE), exp.DataType.Type.TIMESTAMP)
        width = exp.Interval(this=exp.Literal.string("1"), unit=exp.Var(this="DAY"))
        return exp.select(exp.alias_(exp.Add(this=day, expression=width), "moment"))


def days(tree: exp.Query) -> list[Day]:
    """Every SELECT in which the clock's day stands."""
    found = {
        id(select): select
        for literal in tree.find_all(exp.Literal)
        if literal.this == AS_OF
        and _is_day(literal)
        and isinstance(select := literal.find_ancestor(exp.Select), exp.Select)
    }
    return [Day(select) for select in found.values()]


def _is_day(literal: exp.Literal) -> bool:
    if not isinstance(literal.parent, exp.Cast):
        return False
    holder, _ = _up(literal.parent)
    return isinstance(holder, exp.Cast) and holder.is_type(exp.DataType.Type.DATE)


def moments(model: str, tree: exp.Query) -> list[Moment]:
    """Every comparison with the clock. Raises ConfigError when the clock stands anywhere else, or time comes from elsewhere."""
    _no_other_time(model, tree)
    found: dict[tuple[int, str], tuple[exp.Select, exp.Expr, list[exp.Expr | None]]] = {}
    for literal in tree.find_all(exp.Literal):
        if literal.this != AS_OF or _is_day(literal):
            continue
        ts, width, comparison = _comparison(model, literal)
        select = comparison.find_ancestor(exp.Select)
        if not isinstance(select, exp.Select) or aggregates(ts) or not by_row(Level(_ungrouped(select)), ts):
            raise _misplaced(model, comparison, "it is compared with something that is computed from many rows")
        entry = found.setdefault((id(select), ts.sql()), (select, ts, []))
        if width not in entry[2]:
            entry[2].append(width)
    return [Moment(select, ts, tuple(widths)) for select, ts, widths in found.values()]


def _comparison(model: str, literal: exp.Literal) -> tuple[exp.Expr, exp.Expr | None, exp.Expr]:
    clock = literal.parent
    if not isinstance(clock, exp.Cast):
        raise _misplaced(model, literal, "it stands as a text")
    holder, child = _up(clock)
    if isinstance(holder, exp.LTE) and holder.expression is child:
        return holder.this, None, holder
    if isinstance(holder, exp.Sub) and holder.this is child and isinstance(holder.expression, exp.Interval):
        over, inner = _up(holder)
        if isinstance(over, exp.GT) and over.expression is inner:
            return over.this, holder.expression, over
        raise _misplaced(model, over, "only `ts > as_of - interval` is")
    raise _misplaced(model, holder, "only `ts <= as_of` and `ts > as_of - interval` are")


def _up(node: exp.Expr) -> tuple[exp.Expr, exp.Expr]:
    """The node around, parentheses skipped, and its child on the way."""
    child, parent = node, node.parent
    while isinstance(parent, exp.Paren):
        child, parent = parent, parent.parent
    assert parent is not None
    return parent, child


def as_it_stands(select: exp.Select, expression: exp.Expr, where: exp.Expr) -> exp.Query:
    """The moments that a SELECT's FROM gives when the clock stands at BEFORE, where nothing simpler is known."""
    query = exp.select(exp.alias_(expression.copy(), "moment"))
    for part in ("from_", "joins"):
        if select.args.get(part):
            value = select.args[part]
            query.set(part, [v.copy() for v in value] if isinstance(value, list) else value.copy())
    query = query.where(where.copy())
    for literal in [found for found in query.find_all(exp.Literal) if found.this == AS_OF]:
        assert literal.parent is not None
        literal.parent.replace(exp.Var(this=BEFORE))
    return query


def _ungrouped(select: exp.Select) -> exp.Select:
    """The SELECT as its rows are before grouping: a comparison inside an aggregate is made row by row."""
    bare = exp.select(exp.Literal.number(1))
    for part in ("from_", "joins", "where"):
        if select.args.get(part):
            value = select.args[part]
            bare.set(part, [v.copy() for v in value] if isinstance(value, list) else value.copy())
    return bare


def _no_other_time(model: str, tree: exp.Query) -> None:
    kinds = (exp.CurrentTimestamp, exp.CurrentDate, exp.CurrentTime, exp.CurrentDatetime, exp.Rand, exp.Uuid)
    said = next(tree.find_all(*kinds), None)
    named = next(
        (
            f
            for f in tree.find_all(exp.Anonymous)
            if str(f.this).lower() in ("now", "today", "nextval", "gen_random_uuid")
        ),
        None,
    )
    wrong = said or named
    if wrong is not None:
        raise ConfigError(
            f"the live model {model} calls {wrong.sql('duckdb')}, which says something else whenever it is asked; use "
            "within_last(ts, '30 days') for time, and a column for anything random"
        )


def _misplaced(model: str, place: exp.Expr, because: str) -> ConfigError:
    text = " ".join(place.sql("duckdb").replace(AS_OF, "as_of").split())
    return ConfigError(
        f"the live model {model} uses the clock in {text[:120]}, where it cannot be kept fresh: {because} allowed in a table. "
        "Use within_last(ts, '30 days'), and compute ages in a view over the model (days_since); what is the same all day may "
        "be computed of as_of_day()"
    )


def text_of(width: exp.Expr | None) -> str | None:
    """'30 days' of an interval."""
    if width is None:
        return None
    return f"{width.this.name} {str(width.args['unit']).lower()}"


def _moment(clock: str, width: exp.Expr | None) -> exp.Expr:
    at: exp.Expr = exp.Var(this=clock)
    return at if width is None else exp.Sub(this=at, expression=width.copy())


def next_moments(ts: exp.Expr, widths: tuple[exp.Expr | None, ...]) -> Iterator[tuple[exp.Expr, exp.Expr]]:
    """For each width: (when a row enters or leaves, the condition that this is after BEFORE)."""
    for width in widths:
        moment = ts.copy() if width is None else exp.Add(this=ts.copy(), expression=width.copy())
        yield moment, exp.GT(this=ts.copy(), expression=_moment(BEFORE, width))
