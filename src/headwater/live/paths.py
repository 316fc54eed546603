"""From a change to the keys it moves: the SQL that, over the changed rows of one table, gives every key they may concern.

`Tracer(origin).affected(query, columns)` answers for any SELECT: which values of these columns stand in rows that may be
there before the change and not after, or after and not before. It goes down to the table that changed and joins what it finds
there back to the wanted columns. It over-reaches rather than misses: other tables are read as they are now together with the
rows that this batch removed; of derived tables only those columns are used that can be told without aggregates and windows;
conditions on the clock, on right sides of left joins and on what is computed from many rows are left out.

Two kinds of origin: the rows `{delta}` of a table, and the rows of one SELECT whose moment is crossed by the clock. While
only the clock moves no table does, so there a derived table that the clock does not stand in is simply what it is now.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

from sqlglot import exp

from headwater.live.analysis import AS_OF
from headwater.live.expand import table_name
from headwater.live.level import (
    Level,
    Source,
    Unprovable,
    aliases,
    body,
    correlated,
    limited,
    outputs,
    own,
    spot,
)

DELTA = "__delta__"
PLUS = "__plus__"
MOST_OUTER_JOINS = 4
"""So many left joins may stand under one computed column; each doubles the SQL."""


@dataclass(frozen=True)
class TableChange:
    """Rows of a table came or went. `table` is `schema.table`."""

    table: str


@dataclass(frozen=True)
class ClockChange:
    """The clock crosses the moment of rows of `select` (a node of the tree): `crossing` is true for those rows."""

    select: exp.Select
    crossing: exp.Expr


Origin = TableChange | ClockChange


class Tracer:
    """Follows one origin through one tree."""

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.everything = False
        """Set when some change concerns every key: a source that nothing ties to the key."""
        self._answers: dict[tuple[str, int, tuple[str, ...]], tuple[list[exp.Query] | Unprovable, bool]] = {}
        self._levels: dict[int, Level] = {}

    def affected(self, query: exp.Expr, columns: Sequence[str]) -> list[exp.Query]:
        """SELECTs of `columns` (in this order and under these names) whose union holds every affected row; none = not concerned.

        Raises Unprovable when a wanted column cannot be told from single rows.
        """
        query = body(query)
        return self._answer("affected", query, tuple(columns))

    def _affected(self, query: exp.Expr, columns: Sequence[str]) -> list[exp.Query]:
        if not self._behind(query):
            return []
        if isinstance(query, exp.SetOperation):
            if limited(query):
                raise Unprovable("LIMIT over a UNION is not looked through")
            found = []
            for branch in (query.this, query.expression):
                names = [outputs(branch)[outputs(query).index(column)] for column in columns]
                found += [_renamed(part, names, columns) for part in self.affected(branch, names)]
            return found
        level = self._level(query)
        if level.opaque is not None:
            raise Unprovable(f"{level.opaque} is not looked through")
        exprs = [level.exprs[column] for column in columns]
        if level.limited or level.distinct_on:
            self.everything = True
            return self._rows(level, exprs, columns, guard=self._guard())
        for column, expression in zip(columns, exprs, strict=True):
            if not by_row(level, expression):
                raise Unprovable(f"{column} is computed from many rows ({_short(expression)})")
        return [*self._changed_rows(level, exprs, columns), *self._through_windows(level, exprs, columns)]

    def _through_windows(self, level: Level, exprs: Sequence[exp.Expr], names: Sequence[str]) -> list[exp.Query]:
        """Rows that change because another row of their partition did."""
        found: list[exp.Query] = []
        for window in level.windows:
            if len(exprs) == 1 and level.partitioned_by(window, exprs[0]):
                continue
            parts = list(level.partition(window))
            if not parts or not all(by_row(level, part) for part in parts):
                self.everything = True
                found += self._rows(level, exprs, names, guard=self._guard())
                continue
            labels = [f"_p{number}" for number in range(len(parts))]
            changed = self._changed_rows(level, parts, labels)
            if not changed:
                continue
            rows = self._rows(level, [*exprs, *parts], [*names, *labels])
            same = exp.and_(
                *[
                    exp.NullSafeEQ(
                        this=exp.column(label, table="_rows"), expression=exp.column(label, table="_changed")
                    )
                    for label in labels
                ]
            )
            found.append(
                exp.select(*[exp.column(name, table="_rows", quoted=True) for name in names])
                .from_(_derived(_union(rows), "_rows"))
                .join(_derived(_union(changed), "_changed"), on=same, join_type="semi")
            )
        return found

    def _changed_rows(self, level: Level, exprs: Sequence[exp.Expr], names: Sequence[str]) -> list[exp.Query]:
        """`exprs` of the rows of FROM and WHERE that change."""
        found: list[exp.Query] = []
        for source in level.sources.values():
            if self._behind(source.node):
                found += self._via(level, source, exprs, names)
        for subquery in level.subqueries():
            if self._behind(subquery):
                found += self._via_subquery(level, subquery, exprs, names)
        if isinstance(self.origin, ClockChange) and self.origin.select is level.select:
            found += self._rows(level, exprs, names, extra=self.origin.crossing)
        return found

    def _via(self, level: Level, source: Source, exprs: Sequence[exp.Expr], names: Sequence[str]) -> list[exp.Query]:
        if len(exprs) == 1:
            _, tied = level.ties(exprs[0])
            for alias, column in sorted(tied, key=lambda at: (at != spot(exprs[0]), at)):
                if alias == source.alias and self._traceable(source, [column]):
                    return [_renamed(part, [column], names) for part in self._of(source, [column])]
        reads = set().union(*(aliases(e) for e in exprs)) if exprs else set()
        mine = {c.name for e in exprs for c in own(e, exp.Column) if c.table == source.alias}
        if mine and not self._traceable(source, sorted(mine)):
            raise Unprovable(f"{', '.join(sorted(mine))} of {source.alias} cannot be told from single changed rows")
        return self._rows(level, exprs, names, anchor=source, needed=reads | {source.alias})

    def _via_subquery(
        self, level: Level, subquery: exp.Query, exprs: Sequence[exp.Expr], names: Sequence[str]
    ) -> list[exp.Query]:
        """A SELECT inside an expression changed: for `x in (select y …)` the rows with such an x, else all rows."""
        holder = subquery.parent
        while isinstance(holder, (exp.Subquery, exp.Paren)):
            holder = holder.parent
        one = isinstance(holder, exp.In) and len(outputs(subquery)) == 1 and not isinstance(holder.this, exp.Tuple)
        if isinstance(holder, exp.In) and one and not correlated(subquery) and by_row(level, holder.this):
            (column,) = outputs(subquery)
            if self._can("affected", subquery, [column]) and self._enumerable(level, holder.this):
                changed = _union(self.affected(subquery, [column]))
                values = exp.select(exp.column(column, table="_c", quoted=True)).from_(_derived(changed, "_c"))
                null = values.copy().where(exp.column(column, table="_c", quoted=True).is_(exp.null()))
                one_of = exp.In(this=holder.this.copy(), query=exp.Subquery(this=values))
                return self._rows(level, exprs, names, extra=exp.or_(one_of, exp.Exists(this=null)))
        self.everything = True
        return self._rows(level, exprs, names, guard=self._guard())

    # ---- rows of a level, over-reaching

    def rows_at(self, level: Level, expression: exp.Expr, name: str, where: exp.Expr) -> list[exp.Query]:
        """SELECTs whose union holds an expression of every row of a level where a condition holds."""
        return self._rows(level, [expression], [name], extra=where)

    def _rows(
        self,
        level: Level,
        exprs: Sequence[exp.Expr],
        names: Sequence[str],
        *,
        anchor: Source | None = None,
        needed: set[str] | None = None,
        extra: exp.Expr | None = None,
        guard: exp.Expr | None = None,
    ) -> list[exp.Query]:
        """SELECTs whose union holds `exprs` of every row that FROM and WHERE give or gave.

        `anchor`: only rows made with a changed row of this source. `extra`: only rows where this holds as well.
        """
        wanted = [*exprs, *([extra] if extra is not None else [])]
        reads = set(needed or ()) | set().union(*(aliases(e) for e in wanted)) if wanted else set(needed or ())
        included, cross = self._connected(level, reads, anchor)
        if cross and anchor is not None:
            self.everything = True
        outer = [a for a in included if level.sources[a].kind == "left"]
        doubtful = [a for a in outer if any(a in aliases(e) for e in wanted)]
        filtered = anchor is not None and any(anchor.alias in aliases(condition) for condition in level.where)
        if anchor is not None and filtered and anchor.alias in outer and anchor.alias not in doubtful:
            doubtful.append(anchor.alias)  # a row may pass the filter by having lost its match
        if len(doubtful) > MOST_OUTER_JOINS:
            raise Unprovable(f"more than {MOST_OUTER_JOINS} left joins stand under one computed column")
        found: list[exp.Query] = []
        for absent in chain.from_iterable(combinations(doubtful, n) for n in range(len(doubtful) + 1)):
            found.append(self._variant(level, exprs, names, included, set(absent), anchor, extra, guard))
        return found

    def _variant(
        self,
        level: Level,
        exprs: Sequence[exp.Expr],
        names: Sequence[str],
        included: Sequence[str],
        absent: set[str],
        anchor: Source | None,
        extra: exp.Expr | None,
        guard: exp.Expr | None,
    ) -> exp.Select:
        """One SELECT: the sources in `absent` found no match, so their columns are null."""
        present = [a for a in included if a not in absent or (anchor is not None and a == anchor.alias)]
        conditions: list[exp.Expr] = []
        columns: dict[str, set[str]] = {a: set() for a in present}

        def usable(condition: exp.Expr, nulls: set[str]) -> bool:
            if _on_the_clock(condition) or not _plain(condition) or not aliases(condition):
                return False
            for column in own(condition, exp.Column):
                if column.table in nulls:
                    continue
                if column.table not in columns:
                    return False
                source = level.sources[column.table]
                if anchor is not None and source.alias == anchor.alias:
                    if not self._traceable(source, [column.name]):
                        return False
                elif not self._told(source, column.name):
                    return False
            return True

        for condition in level.where:
            if usable(condition, absent):
                conditions.append(_nulled(condition, absent))
        for alias in present:
            source = level.sources[alias]
            if source.kind == "anti" and (anchor is None or anchor.alias != alias):
                continue
            conditions += [condition.copy() for condition in source.on if usable(condition, set())]
        shown = [_nulled(expression, absent) for expression in exprs]
        if extra is not None:
            conditions.append(_nulled(extra, absent))
        for expression in [*shown, *conditions]:
            for column in own(expression, exp.Column):
                if column.table in columns:
                    columns[column.table].add(column.name)
        listed = [exp.alias_(e.copy(), name, quoted=True) for e, name in zip(shown, names, strict=True)]
        select = exp.select(*(listed or [exp.alias_(exp.Literal.number(1), "_one", quoted=True)]))
        for number, alias in enumerate(present):
            source = level.sources[alias]
            if anchor is not None and alias == anchor.alias:
                relation = _derived(_union(self._of(source, sorted(columns[alias]))), alias)
            else:
                relation = self._source_rows(source, sorted(columns[alias]))
            select = select.from_(relation) if number == 0 else select.join(relation, join_type="cross")
        for condition in [*conditions, *([guard] if guard is not None else [])]:
            select = select.where(condition.copy())
        return select

    def _connected(self, level: Level, reads: set[str], anchor: Source | None) -> tuple[list[str], bool]:
        """The sources to join so that those in `reads` hang together by equalities, and whether some do not."""
        edges: list[tuple[str, str]] = []
        for x, y, source in level.equalities():
            ends: list[str | None] = []
            for side in (x, y):
                of = aliases(side)
                told = len(of) == 1 and of <= level.sources.keys() and _plain(side) and not _on_the_clock(side)
                for column in own(side, exp.Column) if told else ():
                    here = level.sources[column.table]
                    if anchor is not None and here.alias == anchor.alias:
                        told = told and self._traceable(here, [column.name])
                    else:
                        told = told and self._told(here, column.name)
                ends.append(next(iter(of)) if told else None)
            away = source is not None and source.kind == "anti" and (anchor is None or source.alias != anchor.alias)
            holds = source is None or source.alias in ends  # an ON says something of its own source only
            if ends[0] and ends[1] and ends[0] != ends[1] and holds and not away:
                edges.append((ends[0], ends[1]))
        if not reads:
            return [], False
        start = anchor.alias if anchor is not None else sorted(reads)[0]
        before: dict[str, str] = {start: start}
        queue = [start]
        for here in queue:
            if here not in reads and here != start and level.sources[here].kind == "left":
                continue  # a row need not have a match there, so it leads nowhere
            for a, b in edges:
                for one, other in ((a, b), (b, a)):
                    if one == here and other not in before:
                        before[other] = here
                        queue.append(other)
        included: list[str] = [start]
        cross = False
        for alias in sorted(reads):
            if alias not in before:
                cross = True
                included.append(alias)
                continue
            steps = []
            step = alias
            while step not in included:
                steps.append(step)
                step = before[step]
            included += reversed(steps)
        return list(dict.fromkeys(included)), cross

    # ---- what can be told

    def _told(self, source: Source, column: str) -> bool:
        """Whether all values a column of a source has or had can be enumerated."""
        inner = source.query
        return True if inner is None else self._can("rows", inner, [column])

    def _enumerable(self, level: Level, expression: exp.Expr) -> bool:
        return all(self._told(level.sources[c.table], c.name) for c in own(expression, exp.Column) if c.table)

    def _traceable(self, source: Source, columns: Sequence[str]) -> bool:
        inner = source.query
        return True if inner is None else self._can("affected", inner, columns)

    def _can(self, question: str, query: exp.Expr, columns: Sequence[str]) -> bool:
        before = self.everything
        try:
            self._asked(question, body(query), tuple(columns))
        except Unprovable:
            return False
        finally:
            self.everything = before
        return True

    def _answer(self, question: str, query: exp.Expr, columns: tuple[str, ...]) -> list[exp.Query]:
        return [part.copy() for part in self._asked(question, query, columns)]

    def _asked(self, question: str, query: exp.Expr, columns: tuple[str, ...]) -> list[exp.Query]:
        """Each question is worked out once: what can be told is asked again and again on the way up. Do not change the answer."""
        asked = (question, id(query), columns)
        if asked not in self._answers:
            before, self.everything = self.everything, False
            found: list[exp.Query] | Unprovable
            try:
                found = (self._affected if question == "affected" else self._rows_of)(query, columns)
            except Unprovable as reason:
                found = reason
            self._answers[asked] = (found, self.everything)
            self.everything = before
        answer, everything = self._answers[asked]
        if isinstance(answer, Unprovable):
            raise answer
        self.everything = self.everything or everything
        return answer

    def _level(self, select: exp.Expr) -> Level:
        if id(select) not in self._levels:
            self._levels[id(select)] = Level.of(select)
        return self._levels[id(select)]

    def _of(self, source: Source, columns: Sequence[str]) -> list[exp.Query]:
        """The changed rows of a source."""
        inner = source.query
        if inner is not None:
            return self.affected(inner, columns)
        delta = exp.Table(this=exp.to_identifier(DELTA), alias=exp.TableAlias(this=exp.to_identifier("_delta")))
        return [exp.select(*_named(columns, "_delta")).from_(delta)]

    def _source_rows(self, source: Source, columns: Sequence[str]) -> exp.Expr:
        inner = source.query
        if inner is None:
            return self._table(source)
        return _derived(_union(self.rows_of(inner, columns)), source.alias)

    def _table(self, source: Source) -> exp.Table:
        table = source.node.copy()
        assert isinstance(table, exp.Table)
        if isinstance(self.origin, TableChange):
            name = table_name(table)
            table.set("db", exp.to_identifier(PLUS, quoted=False))
            table.set("this", exp.to_identifier(name, quoted=True))
        return table

    def rows_of(self, query: exp.Expr, columns: Sequence[str]) -> list[exp.Query]:
        """SELECTs whose union holds every row (of `columns`) that a query gives or gave. Raises Unprovable."""
        return self._answer("rows", body(query), tuple(columns))

    def _rows_of(self, query: exp.Expr, columns: Sequence[str]) -> list[exp.Query]:
        if isinstance(query, exp.SetOperation):
            found = []
            for branch in (query.this, query.expression) if isinstance(query, exp.Union) else (query.this,):
                names = [outputs(branch)[outputs(query).index(column)] for column in columns]
                found += [_renamed(part, names, columns) for part in self.rows_of(branch, names)]
            return found
        level = self._level(query)
        if level.opaque is not None:
            raise Unprovable(f"{level.opaque} is not looked through")
        exprs = [level.exprs[column] for column in columns]
        for column, expression in zip(columns, exprs, strict=True):
            if not by_row(level, expression):
                if isinstance(self.origin, ClockChange) and not _on_the_clock(query):
                    return [exp.select(*_named(columns, "_now")).from_(_derived(query.copy(), "_now"))]  # type: ignore[arg-type]
                raise Unprovable(f"{column} is computed from many rows ({_short(expression)})")
        return self._rows(level, exprs, columns)

    def _behind(self, node: exp.Expr) -> bool:
        if isinstance(self.origin, TableChange):
            return any(table_name(table) == self.origin.table for table in node.find_all(exp.Table))
        return any(select is self.origin.select for select in node.find_all(exp.Select))

    def _guard(self) -> exp.Expr | None:
        """True when anything changed at all. A path of a table is asked only when rows of it changed."""
        if isinstance(self.origin, TableChange):
            return None
        rows = self._rows(Level(self.origin.select), [exp.Literal.number(1)], ["_one"], extra=self.origin.crossing)
        return exp.Exists(this=_union(rows))


def by_row(level: Level, expression: exp.Expr) -> bool:
    """Whether a column's value comes from one row of FROM (or of a group, when it is one of the group's columns)."""
    if expression.find(exp.Window, exp.Query, exp.Explode, exp.Unnest) or _on_the_clock(expression):
        return False
    if not level.aggregated:
        return True
    if level.group is None:
        return False
    return expression in level.group or (
        not any(True for _ in own(expression, exp.Column)) and not _aggregate(expression)
    )


def _aggregate(expression: exp.Expr) -> bool:
    return expression.find(exp.AggFunc, exp.Anonymous) is not None


def _on_the_clock(expression: exp.Expr) -> bool:
    return any(literal.this == AS_OF for literal in expression.find_all(exp.Literal))


def _plain(condition: exp.Expr) -> bool:
    return condition.find(exp.Query, exp.Window, exp.AggFunc) is None


def _nulled(expression: exp.Expr, absent: set[str]) -> exp.Expr:
    """The expression with the columns of the absent sources null (typed, so that DuckDB finds the same function)."""
    holder = exp.Paren(this=expression.copy())
    for column in [c for c in own(holder, exp.Column) if c.table in absent]:
        known = column.type is not None and column.type.this != exp.DataType.Type.UNKNOWN
        column.replace(exp.cast(exp.null(), column.type.copy()) if known else exp.null())  # type: ignore[union-attr]
    nulled: exp.Expr = holder.this
    return nulled


def _derived(query: exp.Query, alias: str) -> exp.Subquery:
    return exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))


def _named(names: Iterable[str], table: str) -> list[exp.Expr]:
    columns: list[exp.Expr] = [exp.column(name, table=table, quoted=True) for name in names]
    return columns or [exp.alias_(exp.Literal.number(1), "_one", quoted=True)]


def _union(parts: Sequence[exp.Query]) -> exp.Query:
    if not parts:
        return exp.select(exp.alias_(exp.Literal.number(1), "_one", quoted=True)).where(exp.false())
    together = parts[0]
    for part in parts[1:]:
        together = exp.union(together, part, distinct=False, copy=False)
    return together


def _renamed(query: exp.Query, names: Sequence[str], to: Sequence[str]) -> exp.Query:
    if list(names) == list(to):
        return query
    shown = [
        exp.alias_(exp.column(name, table="_r", quoted=True), new, quoted=True)
        for name, new in zip(names, to, strict=True)
    ]
    return exp.select(*shown).from_(_derived(query, "_r"))


def _short(expression: exp.Expr) -> str:
    text = " ".join(expression.sql("duckdb").split())
    return text if len(text) <= 60 else text[:57] + "…"
