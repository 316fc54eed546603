"""Which models can be kept by adding and taking away: sums and counts over the rows of one table. `additive` proves it.

Of such a model the engine keeps the sums themselves, one row per group in the schema `sums`: the columns of the group, `_n`
rows, and for each summed or counted expression its sum `_s…` and how many were not null `_c…`. What a change or the clock
does to a group is then known from the changed rows alone, however long the history is; the model's rows are computed from
the sums. Not additive: min and max (the greatest may go), averages (DuckDB's avg rounds in a way that a sum and a count
cannot repeat; sum(x) / count(x) is), DISTINCT, joins, sums of DOUBLE.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlglot import exp

from headwater.live import windows as clock
from headwater.live.analysis import AS_OF
from headwater.live.expand import DIALECT, table_name
from headwater.live.level import Level, Unprovable, aggregates, body, own

ROWS, SUMS = "__rows__", "__sums__"
_CROSSED = "crossed"
_EXACT = (*exp.DataType.INTEGER_TYPES, exp.DataType.Type.DECIMAL)


@dataclass(frozen=True)
class Proof:
    """`key`: the column of the sums that holds the model's key. `sums` reads ROWS in the place of `table`; `crossing` the same
    for rows that the clock crosses, None when it crosses none; `visible` is the model, read from SUMS."""

    table: str
    key: str
    groups: tuple[str, ...]
    sums: exp.Select
    crossing: exp.Select | None
    visible: exp.Query


def additive(tree: exp.Query, key: str, moments: Sequence[clock.Moment]) -> Proof:
    """The proof for one expanded model. Raises Unprovable with the reason."""
    query, column = body(tree), key
    level = _level(query)
    while not level.aggregated:
        _plain(level)
        source = _only_source(level)
        expression = level.exprs[column]
        if source.query is None:
            raise Unprovable("it sums and counts nothing")
        if not isinstance(expression, exp.Column):
            raise Unprovable(f"{column} is computed of what is summed")
        query, column = source.query, expression.name
        level = _level(body(query))
    below = level.select
    table = _one_table(level)
    if level.group is None or not level.plain_group or level.exprs[column] not in level.group:
        raise Unprovable(f"its sums are not grouped by {column}")
    inside = {id(select) for select in below.find_all(exp.Select)}
    for moment in moments:
        if id(moment.select) not in inside:
            raise Unprovable(f"the clock is compared with {moment.ts.sql(DIALECT)}, which is computed of sums")
    if len({id(moment.select) for moment in moments}) > 1:
        raise Unprovable("the clock stands in several SELECTs")
    if clock.days(tree):
        raise Unprovable("the day of the clock moves every row")
    return _Writer(tree, level, column, key, table, moments).proof()


class _Writer:
    """Writes the three queries; the tree that it reads stays as it is."""

    def __init__(
        self, tree: exp.Query, level: Level, column: str, key: str, table: str, moments: Sequence[clock.Moment]
    ) -> None:
        self.tree, self.level, self.table, self.moments = tree, level, table, moments
        self.column = column
        group = level.group or ()
        named = {expression: name for name, expression in reversed(level.exprs.items()) if expression in group}
        self.groups = {expression: named.get(expression, f"_g{number}") for number, expression in enumerate(group)}
        if key not in self.groups.values():
            self.groups[level.exprs[column]] = (
                key  # under its own name, by which a person is found who is to be forgotten
            )
        self.summed: list[exp.Expr] = []
        self.counted: list[exp.Expr] = []

    def proof(self) -> Proof:
        shown = [
            exp.alias_(self._from_sums(expression), name, quoted=True) for name, expression in self.level.exprs.items()
        ]
        having = self.level.select.args.get("having")
        model = exp.select(*shown).from_(_placeholder(SUMS, "_sums"))
        if having is not None:
            model = model.where(self._from_sums(having.this))
        sums = self._sums(self.level.select.copy())
        crossing = self._crossing() if self.moments else None
        names = tuple(self.groups.values())
        return Proof(self.table, self.groups[self.level.exprs[self.column]], names, sums, crossing, self._around(model))

    def _around(self, model: exp.Select) -> exp.Query:
        """The tree with the model's own SELECT in the place of the one that aggregates."""
        self.level.select.meta[_CROSSED] = True
        whole = self.tree.copy()
        del self.level.select.meta[_CROSSED]
        place = next(select for select in whole.find_all(exp.Select) if select.meta.get(_CROSSED))
        if place is whole:
            return model
        place.replace(model)
        return whole

    def _crossing(self) -> exp.Select:
        place = self.moments[0].select
        place.meta[_CROSSED] = True
        rows = self.level.select.copy()
        del place.meta[_CROSSED]
        crossed = next(select for select in rows.find_all(exp.Select) if select.meta.get(_CROSSED))
        crossed.where(exp.or_(*[moment.crossing for moment in self.moments]), copy=False)
        return self._sums(rows)

    def _sums(self, rows: exp.Select) -> exp.Select:
        """`rows` with the sums as its columns, over ROWS. Called once all aggregates are known."""
        listed: list[exp.Expr] = [exp.alias_(e.copy(), name, quoted=True) for e, name in self.groups.items()]
        listed.append(exp.alias_(exp.Count(this=exp.Star()), "_n", quoted=True))
        for number, expression in enumerate(self.summed):
            total = exp.Coalesce(this=exp.Sum(this=expression.copy()), expressions=[exp.Literal.number(0)])
            listed.append(exp.alias_(total, f"_s{number}", quoted=True))
        for number, expression in enumerate(self.counted):
            listed.append(exp.alias_(exp.Count(this=expression.copy()), f"_c{number}", quoted=True))
        rows.set("expressions", listed)
        for part in ("having", "order"):
            rows.set(part, None)
        for table in list(rows.find_all(exp.Table)):
            table.replace(_placeholder(ROWS, table.alias_or_name))
        return rows

    def _from_sums(self, expression: exp.Expr) -> exp.Expr:
        """The same over the columns of the sums."""

        def replaced(node: exp.Expr) -> exp.Expr:
            if node in self.groups:
                return _column(self.groups[node])
            if isinstance(node, exp.AggFunc):
                return self._of(node)
            return node

        found = expression.copy().transform(replaced)
        if any(column.table != "_sums" for column in own(found, exp.Column)):
            raise Unprovable(f"{expression.sql(DIALECT)} is neither a group nor a sum")
        return found

    def _of(self, node: exp.AggFunc) -> exp.Expr:
        if isinstance(node.parent, (exp.Filter, exp.WithinGroup, exp.IgnoreNulls, exp.RespectNulls)):
            raise Unprovable(f"{_words(node.parent)} is written with FILTER or an order; write sum(case when … end)")
        if isinstance(node, exp.Count) and isinstance(node.this, exp.Star):
            return _column("_n")
        if not isinstance(node, (exp.Sum, exp.Count)) or node.expressions:
            instead = "; write sum(x) / count(x)" if isinstance(node, exp.Avg) else ""
            raise Unprovable(f"{_words(node)} is neither a sum nor a count{instead}")
        if isinstance(node.this, exp.Distinct):
            raise Unprovable(f"{_words(node)} counts each value once")
        if isinstance(node, exp.Count):
            return _column(f"_c{_place(self.counted, node.this)}")
        if node.this.type is None or node.this.type.this not in _EXACT:
            raise Unprovable(
                f"{_words(node)} is not of whole or decimal numbers, so a sum depends on the order of its rows"
            )
        known = exp.GT(this=_column(f"_c{_place(self.counted, node.this)}"), expression=exp.Literal.number(0))
        return exp.Case(ifs=[exp.If(this=known, true=_column(f"_s{_place(self.summed, node.this)}"))])


def _level(query: exp.Expr) -> Level:
    level = Level.of(query)
    if level.opaque is not None:
        raise Unprovable(f"it has {level.opaque}")
    return level


def _plain(level: Level) -> None:
    """Each row of such a SELECT comes from one row of its source."""
    if level.windows or level.select.args.get("qualify"):
        raise Unprovable("it has a window function")
    if level.limited or level.select.args.get("distinct"):
        raise Unprovable("it has LIMIT or DISTINCT")
    if any(True for _ in level.subqueries()):
        raise Unprovable("it has a SELECT within an expression")
    if any(aggregates(expression) for expression in level.where):
        raise Unprovable("it has an aggregate in WHERE")


def _only_source(level: Level):
    if len(level.sources) != 1:
        raise Unprovable("it reads several tables")
    return next(iter(level.sources.values()))


def _one_table(level: Level) -> str:
    """The table whose rows are summed, through SELECTs that only choose and compute."""
    _plain(level)
    source = _only_source(level)
    while source.query is not None:
        inner = _level(body(source.query))
        if inner.aggregated:
            raise Unprovable("it sums what is summed already")
        _plain(inner)
        source = _only_source(inner)
    assert isinstance(source.node, exp.Table)
    return table_name(source.node)


def _placeholder(name: str, alias: str) -> exp.Table:
    return exp.Table(this=exp.to_identifier(name), alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))


def _column(name: str) -> exp.Column:
    return exp.column(name, table="_sums", quoted=True)


def _place(known: list[exp.Expr], expression: exp.Expr) -> int:
    if expression not in known:
        known.append(expression)
    return known.index(expression)


def _words(node: exp.Expr) -> str:
    return " ".join(node.sql(DIALECT).replace('"', "").replace(AS_OF, "as_of").split())[:80]
