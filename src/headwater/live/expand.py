"""A model's compiled SQL as one tree: views and CTEs written out where they are used, every column with its source.

A CTE used twice becomes two derived tables, because each use is scoped to other keys. Views are looked through, so that what
is left at the leaves are tables: the things that change. Columns that nobody reads are dropped on the way.
"""

from collections.abc import Mapping

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.annotate_types import annotate_types
from sqlglot.optimizer.pushdown_projections import pushdown_projections
from sqlglot.optimizer.qualify import qualify

from headwater.errors import ConfigError
from headwater.live.analysis import Relation

DIALECT = "duckdb"


def expand(model: str, sql: str, relations: Mapping[str, Relation]) -> exp.Query:
    """The model's SELECT over tables only, qualified and typed. Raises ConfigError, naming the model, when it cannot be read."""
    try:
        tree = _written_out(_parse(sql), {}, relations, ())
        schema: dict[str, object] = {}
        for name in tables(tree):
            if name not in relations:
                raise ConfigError(
                    f"the live model {model} reads {name}, which is no table or view that the engine knows; known are "
                    f"{', '.join(sorted(relations))}. Read it through ref() or source(), and declare it in sources.yml"
                )
            database, _, table = name.partition(".")
            columns = {f'"{column}"': kind for column, kind in relations[name].columns.items()}
            schema.setdefault(database, {})[table] = columns  # type: ignore[index]
        qualified = qualify(tree, dialect=DIALECT, schema=schema, validate_qualify_columns=True)
        pruned = pushdown_projections(qualified)
        return annotate_types(pruned, schema=schema, dialect=DIALECT)
    except SqlglotError as error:
        sentence = " ".join(str(error).split())
        raise ConfigError(
            f"the SQL of the live model {model} cannot be read: {sentence}. Mend it, or take the model out of the live ones "
            "(materialize it as a table or a view instead of live_kind())"
        ) from error


def tables(node: exp.Expr) -> list[str]:
    """Every table at the leaves, as `schema.table`, each once, in the order of the text."""
    return list(dict.fromkeys(table_name(table) for table in node.find_all(exp.Table)))


def table_name(table: exp.Table) -> str:
    return f"{table.db}.{table.name}"


def _parse(sql: str) -> exp.Query:
    tree = sqlglot.parse_one(sql, dialect=DIALECT)
    if not isinstance(tree, exp.Query):
        raise SqlglotError(f"expected one SELECT, found {type(tree).__name__.upper()}")
    return tree


def _written_out(
    node: exp.Expr, named: Mapping[str, exp.Query], relations: Mapping[str, Relation], inside: tuple[str, ...]
) -> exp.Query:
    """`node` with CTEs and views in the place of their names. `named` are the CTEs in reach, `inside` the views on the way."""
    with_ = node.args.get("with_")
    if with_ is not None:
        if with_.args.get("recursive"):
            raise SqlglotError("a recursive CTE cannot be kept fresh by key")
        known = dict(named)
        for cte in with_.expressions:
            columns = cte.args["alias"].args.get("columns")
            body = _written_out(cte.this.copy(), known, relations, inside)
            known[cte.alias.lower()] = _renamed(body, columns) if columns else body
        with_.pop()
        named = known
    for child in list(node.iter_expressions()):
        if isinstance(child, exp.Table) and isinstance(child.this, exp.Identifier):
            _resolve(child, named, relations, inside)
        elif not isinstance(child, exp.Identifier):
            _written_out(child, named, relations, inside)
    return node  # type: ignore[return-value]


def _resolve(
    table: exp.Table, named: Mapping[str, exp.Query], relations: Mapping[str, Relation], inside: tuple[str, ...]
) -> None:
    for join in table.args.get("joins") or ():
        _written_out(join, named, relations, inside)
    alias = table.alias or table.name
    body = None if table.db else named.get(table.name.lower())
    name = f"{table.db or 'main'}.{table.name}".lower()
    relation = next((r for key, r in relations.items() if key.lower() == name), None)
    if body is None and relation is not None and relation.sql is not None:
        if name in inside:
            raise SqlglotError(f"the view {name} reads itself")
        body = _written_out(_parse(relation.sql), {}, relations, (*inside, name))
    if body is None:
        database, _, short = name.partition(".")
        table.set("catalog", None)
        table.set("db", exp.to_identifier(database, quoted=True))
        table.set("this", exp.to_identifier(short, quoted=True))
        if not table.alias:
            table.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
        return
    derived = exp.Subquery(this=body.copy(), alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    for kept in ("joins", "pivots", "sample"):
        if table.args.get(kept):
            derived.set(kept, table.args[kept])
    table.replace(derived)


def _renamed(body: exp.Query, columns: list[exp.Identifier]) -> exp.Query:
    """The CTE `name(a, b) as (…)` with its columns named a, b."""
    alias = exp.TableAlias(this=exp.to_identifier("_cte"), columns=[column.copy() for column in columns])
    return exp.select(*[exp.column(column.copy(), table="_cte") for column in columns]).from_(
        exp.Subquery(this=body, alias=alias)
    )
