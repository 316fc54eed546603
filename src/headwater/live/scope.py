"""The SQL of a model for a handful of keys: the filter on the key, pushed as far down as can be proved.

`select * from (<the model>) where key in (<keys>)` is always right and as slow as a full build. The filter moves below
projection of a plain column, GROUP BY that contains the key, windows partitioned by it, DISTINCT and UNION; a table tied to
the key by equality is read for those keys only. Where nothing is proved the filter stays where it is.
"""

from collections.abc import Callable

from sqlglot import exp

from headwater.live.expand import table_name
from headwater.live.level import Level, Source, body, limited, outputs

Keys = Callable[[], exp.Query]
"""Makes the SELECT of one column that holds the keys, a fresh copy each time."""


def restrict(query: exp.Expr, column: str, keys: Keys) -> exp.Query:
    """The rows of `query` whose `column` is one of the keys. A null is never one of them."""
    query = body(query)
    if isinstance(query, exp.SetOperation):
        if limited(query):
            return _outside(query, column, keys)
        place = outputs(query).index(column)
        both = query.copy()
        both.set("this", _branch(query.this, place, keys))
        both.set("expression", _branch(query.expression, place, keys))
        return both
    level = Level.of(query)
    if why_not_inside(level, column) is not None:
        return _outside(query, column, keys)
    return _inside(level, column, keys)


def read_whole(scoped: exp.Query, keys: str) -> frozenset[str]:
    """The tables that a restricted query still reads in full; `keys` is the name of the relation of keys."""
    whole = set()
    for table in scoped.find_all(exp.Table):
        select = table.find_ancestor(exp.Select)
        narrowed = select is not None and isinstance(select.expressions[0], exp.Star)
        if table.name != keys and not narrowed:
            whole.add(table_name(table))
    return frozenset(whole)


def why_not_inside(level: Level, column: str) -> str | None:
    """Why a filter on an output column cannot be moved into the SELECT; None when it can."""
    expression = level.exprs[column]
    if level.limited:
        return "LIMIT, OFFSET or a sample chooses among all rows"
    if level.distinct_on and expression not in level.distinct_on:
        return f"DISTINCT ON chooses rows by something else than {column}"
    if expression.find(exp.Window):
        return f"{column} is the result of a window function"
    if expression.find(exp.Query):
        return f"{column} is computed by a SELECT of its own"
    if not level.grouped_by(expression):
        return f"GROUP BY does not contain {column}"
    for window in level.windows:
        if not level.partitioned_by(window, expression):
            return f"a window is not partitioned by {column}"
    return None


def tied_columns(level: Level, expression: exp.Expr) -> dict[str, str]:
    """For each source that may be read for the keys only: which of its columns holds the key."""
    if level.opaque is not None:
        return {}
    strong, tied = level.ties(expression)
    found: dict[str, str] = {}
    for alias, column in sorted(tied, key=lambda at: (at not in strong, at)):
        found.setdefault(alias, column)
    at = (
        next(iter(strong & {(expression.table, expression.name)}), None) if isinstance(expression, exp.Column) else None
    )
    if at is not None:
        found[at[0]] = at[1]
    return found


def _inside(level: Level, column: str, keys: Keys) -> exp.Select:
    expression = level.exprs[column]
    tied = tied_columns(level, expression)
    select = level.select.copy()
    replaced = Level(select).sources
    for alias, name in tied.items():
        replaced[alias].node.replace(_scoped_source(level.sources[alias], name, keys))
    home = expression.table if isinstance(expression, exp.Column) else None
    if home not in tied or level.sources[home].kind != "inner":
        select.where(exp.In(this=expression.copy(), query=exp.Subquery(this=keys())), copy=False)
    return select


def _scoped_source(source: Source, column: str, keys: Keys) -> exp.Subquery:
    inner = source.query
    if inner is not None:
        scoped = restrict(inner, column, keys)
    else:
        table = source.node.copy()
        here = exp.column(column, table=source.alias, quoted=True)
        scoped = exp.select("*").from_(table).where(exp.In(this=here, query=exp.Subquery(this=keys())))
    return exp.Subquery(this=scoped, alias=exp.TableAlias(this=exp.to_identifier(source.alias, quoted=True)))


def _branch(branch: exp.Expr, place: int, keys: Keys) -> exp.Expr:
    return restrict(branch, outputs(branch)[place], keys)


def _outside(query: exp.Expr, column: str, keys: Keys) -> exp.Select:
    whole = exp.Subquery(this=query.copy(), alias=exp.TableAlias(this=exp.to_identifier("_whole")))
    names = [exp.column(name, table="_whole", quoted=True) for name in outputs(query)]
    here = exp.column(column, table="_whole", quoted=True)
    return exp.select(*names).from_(whole).where(exp.In(this=here, query=exp.Subquery(this=keys())))
