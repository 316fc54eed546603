"""One SELECT as lineage reads it: its sources, which of their columns are equal, what is grouped, what is windowed.

sources     the tables and derived tables of FROM, each with how it is joined
ties        which columns hold the same value as a given column in every row of the SELECT
commutes    whether a filter on an output column may be moved below grouping and windows
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, TypeVar

from sqlglot import exp

Node = TypeVar("Node", bound=exp.Expr)
JoinKind = Literal["inner", "left", "semi", "anti"]
Spot = tuple[str, str]
"""A column of a source: (alias, column name)."""


class Unprovable(Exception):
    """What the SQL does cannot be followed to keys; the message completes "… because"."""


@dataclass(frozen=True)
class Source:
    """One entry of FROM. `on` are the conditions of its join, each a conjunct; `left` = its columns are null without a match."""

    alias: str
    node: exp.Table | exp.Subquery
    kind: JoinKind
    on: tuple[exp.Expr, ...] = ()

    @property
    def query(self) -> exp.Expr | None:
        """The derived table's SELECT or UNION; None for a table."""
        return None if isinstance(self.node, exp.Table) else body(self.node)


class Level:
    """One SELECT. `opaque` says, in words, why its FROM cannot be looked through; None when it can."""

    def __init__(self, select: exp.Select) -> None:
        self.select = select
        self.opaque: str | None = None
        self.sources: dict[str, Source] = {}
        self.exprs = {e.alias_or_name: e.unalias() for e in select.expressions}
        where = select.args.get("where")
        self.where = tuple(conjuncts(where.this)) if where else ()
        self._read_from()
        group = select.args.get("group")
        self.group: tuple[exp.Expr, ...] | None = tuple(group.expressions) if group else None
        self.plain_group = group is None or not any(
            group.args.get(k) for k in ("grouping_sets", "cube", "rollup", "all", "totals")
        )
        parts = [*select.expressions, select.args.get("having"), select.args.get("qualify")]
        self.windows = [w for part in parts if part for w in own(part, exp.Window)]
        self.aggregated = group is not None or any(aggregates(part) for part in parts if part)
        distinct = select.args.get("distinct")
        self.distinct_on: tuple[exp.Expr, ...] = ()
        if distinct is not None and distinct.args.get("on") is not None:
            on = distinct.args["on"]
            self.distinct_on = tuple(on.expressions) if isinstance(on, exp.Tuple) else (on,)
        self.limited = limited(select)

    @classmethod
    def of(cls, query: exp.Expr) -> "Level":
        """The level of a SELECT; raises Unprovable for anything else."""
        if not isinstance(query, exp.Select):
            raise Unprovable(f"{type(query).__name__.upper()} is not looked through")
        return cls(query)

    def _read_from(self) -> None:
        first = self.select.args.get("from_")
        if first is None:
            return
        self._add(first.this, "inner", ())
        for join in self.select.args.get("joins") or ():
            side, kind, method = (str(join.args.get(k) or "").upper() for k in ("side", "kind", "method"))
            on = join.args.get("on")
            if side in ("RIGHT", "FULL"):
                self.opaque = f"a {side} JOIN"
            elif method:
                self.opaque = f"a {method} JOIN"
            elif join.args.get("using"):
                self.opaque = "a JOIN with USING"
            joined: JoinKind = "inner"
            if kind in ("SEMI", "ANTI"):
                joined = "semi" if kind == "SEMI" else "anti"
            elif side == "LEFT":
                joined = "left"
            self._add(join.this, joined, tuple(conjuncts(on)) if on is not None else ())
        if self.select.args.get("laterals"):
            self.opaque = "a LATERAL join"

    def _add(self, node: exp.Expr, kind: JoinKind, on: tuple[exp.Expr, ...]) -> None:
        plain = isinstance(node, (exp.Table, exp.Subquery)) and not any(
            node.args.get(k) for k in ("joins", "laterals", *_MODIFIERS)
        )
        if isinstance(node, exp.Table) and not isinstance(node.this, exp.Identifier):
            plain = False
        if isinstance(node, exp.Subquery) and not isinstance(body(node), (exp.Select, exp.SetOperation)):
            plain = False
        if not plain:
            self.opaque = f"a source that is neither table nor SELECT ({node.sql('duckdb')[:60]})"
            return
        self.sources[node.alias_or_name] = Source(node.alias_or_name, node, kind, on)  # type: ignore[arg-type]

    def equalities(self) -> Iterator[tuple[exp.Expr, exp.Expr, Source | None]]:
        """Each `x = y` that holds, with the source whose left, semi or anti join says so (None: it holds in every row)."""
        for conjunct in self.where:
            if isinstance(conjunct, exp.EQ):
                yield conjunct.this, conjunct.expression, None
        for source in self.sources.values():
            for conjunct in source.on:
                if isinstance(conjunct, exp.EQ):
                    yield conjunct.this, conjunct.expression, None if source.kind == "inner" else source

    def ties(self, start: exp.Expr) -> tuple[set[Spot], set[Spot]]:
        """Columns that equal `start`: (in every row, in every row where they are not null). `start` is in the first.

        The first is closed under the equalities of WHERE and inner joins; the second adds the columns of the right side of a
        left, semi or anti join that are equated to one of them, and what is equal to those.
        """
        at = spot(start)
        if at is None or at[0] not in self.sources:
            return set(), set()
        always = [pair for pair in self._pairs() if pair[2] is None]
        strong = _closed({at}, always)
        tied = set(strong)
        while True:
            reached = {
                mine
                for left, right, source in self._pairs()
                if source is not None
                for mine, other in ((left, right), (right, left))
                if mine[0] == source.alias and other[0] != source.alias and other in tied
            }
            grown = _closed(tied | reached, always)
            if grown == tied:
                return strong, tied
            tied = grown

    def _pairs(self) -> list[tuple[Spot, Spot, Source | None]]:
        return [
            (left, right, source)
            for x, y, source in self.equalities()
            if (left := spot(x)) and (right := spot(y)) and left[0] in self.sources and right[0] in self.sources
            if same_type(x, y)
        ]

    def grouped_by(self, expression: exp.Expr) -> bool:
        """Whether the expression is one of GROUP BY, or there are no groups."""
        if not self.aggregated:
            return True
        return self.group is not None and self.plain_group and expression in self.group

    def partitioned_by(self, window: exp.Window, expression: exp.Expr) -> bool:
        """Whether every partition of the window holds one value of the expression only."""
        strong, _ = self.ties(expression)
        return any(part == expression or (spot(part) in strong) for part in self.partition(window))

    def partition(self, window: exp.Window) -> tuple[exp.Expr, ...]:
        """What a window is partitioned by, its name (`over w`) looked up; () when it goes over all rows."""
        named = window.args.get("alias")
        if named is not None:
            for known in self.select.args.get("windows") or ():
                if known.name.lower() == named.name.lower():
                    return self.partition(known)
        return tuple(window.args.get("partition_by") or ())

    def subqueries(self) -> Iterator[exp.Query]:
        """SELECTs inside expressions: IN, EXISTS, scalar."""
        parts = [*self.select.expressions, *self.where]
        parts += [self.select.args[k] for k in ("having", "qualify", "group") if self.select.args.get(k)]
        parts += [conjunct for source in self.sources.values() for conjunct in source.on]
        for part in parts:
            yield from outermost_queries(part)


def body(node: exp.Expr) -> exp.Expr:
    """Without the parentheses around a SELECT. Raises Unprovable when something hangs on the parentheses."""
    while isinstance(node, (exp.Subquery, exp.Paren)):
        if any(node.args.get(k) for k in _MODIFIERS):
            raise Unprovable("LIMIT, PIVOT or a sample of a SELECT in parentheses is not looked through")
        node = node.this
    if isinstance(node, exp.SetOperation) and node.args.get("by_name"):
        raise Unprovable("UNION BY NAME is not looked through; name the columns in one order and write UNION ALL")
    return node


def limited(query: exp.Expr) -> bool:
    """Whether LIMIT, OFFSET or a sample takes some of the rows."""
    return any(query.args.get(k) for k in ("limit", "offset", "sample", "fetch"))


def conjuncts(node: exp.Expr) -> Iterator[exp.Expr]:
    """The parts of a condition that must all be true."""
    if isinstance(node, exp.Paren):
        yield from conjuncts(node.this)
    elif isinstance(node, exp.And):
        yield from conjuncts(node.this)
        yield from conjuncts(node.expression)
    elif not (isinstance(node, exp.Boolean) and node.this):
        yield node


def spot(node: exp.Expr | None) -> Spot | None:
    """(alias, column) of a plain column; None for anything else."""
    while isinstance(node, exp.Paren):
        node = node.this
    return (node.table, node.name) if isinstance(node, exp.Column) and node.table else None


def aliases(node: exp.Expr) -> set[str]:
    """The sources that an expression reads, subqueries in it left out."""
    return {column.table for column in own(node, exp.Column)}


def own(node: exp.Expr, kind: type[Node]) -> Iterator[Node]:
    """Nodes of a kind inside an expression, without those inside SELECTs in it."""
    for found in node.walk(prune=lambda n: isinstance(n, exp.Query)):
        if isinstance(found, kind):
            yield found


def outermost_queries(node: exp.Expr) -> Iterator[exp.Query]:
    """SELECTs inside an expression, not those inside them."""
    for found in node.walk(prune=lambda n: isinstance(n, exp.Query)):
        if isinstance(found, exp.Query) and not isinstance(found, exp.Subquery):
            yield found
        elif isinstance(found, exp.Subquery):
            inner = body(found)
            if isinstance(inner, exp.Query):
                yield inner


def outputs(query: exp.Expr) -> list[str]:
    """Names of the columns of a SELECT or UNION."""
    while isinstance(query, (exp.Subquery, exp.Paren, exp.SetOperation)):
        query = query.this
    return [e.alias_or_name for e in query.expressions]


def correlated(query: exp.Query) -> bool:
    """Whether a subquery reads columns of the SELECT around it."""
    inside = {s.alias_or_name for s in query.find_all(exp.Table, exp.Subquery)}
    return any(column.table not in inside for column in query.find_all(exp.Column))


def same_type(x: exp.Expr, y: exp.Expr) -> bool:
    """False when both types are known and differ: an equality of unlike types converts, and then equal is not the same."""
    kinds = [e.type.this for e in (x, y) if e.type is not None and e.type.this != exp.DataType.Type.UNKNOWN]
    if len(kinds) < 2:
        return True
    kinds = [exp.DataType.Type.VARCHAR if kind in exp.DataType.TEXT_TYPES else kind for kind in kinds]
    return kinds[0] == kinds[1]


def _closed(spots: set[Spot], pairs: Iterable[tuple[Spot, Spot, Source | None]]) -> set[Spot]:
    pairs, reached = list(pairs), set(spots)
    while True:
        more = {b for x, y, _ in pairs for a, b in ((x, y), (y, x)) if a in reached} - reached
        if not more:
            return reached
        reached |= more


def aggregates(part: exp.Expr) -> bool:
    """Whether an expression aggregates rows (not over a window, not inside a SELECT of its own)."""
    for node in part.walk(prune=lambda n: isinstance(n, (exp.Query, exp.Window))):
        if isinstance(node, exp.AggFunc):
            return True
        if isinstance(node, exp.Anonymous) and str(node.this).lower() in _UNTYPED_AGGREGATES:
            return True
        if isinstance(node, exp.Window) and any(aggregates(child) for child in _window_parts(node)):
            return True
    return False


def _window_parts(window: exp.Window) -> Iterator[exp.Expr]:
    """What a window function reads: its arguments, partition and order, without the function itself."""
    function = window.this
    yield from function.iter_expressions()
    yield from window.args.get("partition_by") or ()
    if window.args.get("order"):
        yield window.args["order"]


_MODIFIERS = ("pivots", "sample", "limit", "offset", "fetch", "where", "group", "with_")

# aggregate functions of DuckDB that sqlglot knows only by name
_UNTYPED_AGGREGATES = frozenset(
    {
        *("arbitrary", "arg_max_null", "arg_max_nulls_last", "arg_min_null", "arg_min_nulls_last", "bitstring_agg"),
        *("count_star", "entropy", "favg", "fill", "fsum", "histogram", "histogram_exact", "kahan_sum", "kurtosis_pop"),
        *("mad", "mean", "product", "reservoir_quantile", "sem", "sum_no_overflow", "sumkahan"),
    }
)
