"""The SQL of a mapping: one scalar expression per field, over the columns of one file (and of files joined to it).

A conversion that the user writes (`cast`, `::`, `strptime`) becomes one that answers null where it fails, so that one bad
value is one quarantined row; `Expression.failed` tells such a null from a value that was never there.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import sqlglot
from sqlglot import exp
from sqlglot.errors import SqlglotError

TEXT, MOMENT = "VARCHAR", "TIMESTAMP"
_NEVER_FAIL = (
    exp.Column, exp.Identifier, exp.Literal, exp.Null, exp.Boolean, exp.DataType, exp.DataTypeParam, exp.Paren, exp.Case, exp.If,
    exp.And, exp.Or, exp.Not, exp.EQ, exp.NEQ, exp.In, exp.Is, exp.Nullif, exp.Coalesce, exp.Cast, exp.StrToTime, exp.DPipe,
    exp.Concat, exp.Lower, exp.Upper, exp.Trim, exp.Replace, exp.SplitPart,
)  # fmt: skip
_PLAIN_NAME = re.compile(r"(?=.*[^\W\d])[\w .#?!%&/+:-]+")


@dataclass(frozen=True)
class Column:
    """A column that an expression uses; `table` is the raw table it was qualified with, None when it was not."""

    table: str | None
    name: str


@dataclass(frozen=True)
class Expression:
    """An expression ready to stand in a select list.

    `sql` answers null where a conversion fails; `failed` is a condition that is true then, None when no conversion is in it.
    `sql_type` is the type where it is known for certain, else None. `columns` stand in the order in which they appear.
    """

    sql: str
    failed: str | None
    sql_type: str | None
    columns: tuple[Column, ...]


def problem(sql: object) -> str | None:
    """Why `sql` cannot be a mapping's expression, as the end of a sentence; None when it can."""
    if not isinstance(sql, (str, int, float)) or isinstance(sql, bool) or not str(sql).strip():
        return f"found {sql!r}, expected an SQL expression over the file's columns"
    try:
        trees = sqlglot.parse(str(sql), dialect="duckdb")
    except SqlglotError as error:
        return f"found {sql!r}, which is not SQL: {_first_line(error).rstrip('.')}{_hint(sql)}"
    tree = trees[0]
    if len(trees) > 1 or tree is None or isinstance(tree, exp.Alias) or tree.find(exp.Star):
        return f"found {sql!r}, expected one expression over the file's columns{_hint(sql)}"
    if isinstance(tree, (exp.Query, exp.DDL, exp.DML, exp.Command)) or tree.find(exp.Query):
        return f"found {sql!r}; a query cannot stand here, expected an expression over one row's columns"
    if tree.find(exp.AggFunc, exp.Window):
        return f"found {sql!r}; an aggregate cannot stand here, expected an expression over one row's columns"
    return None


def quoted(name: str) -> str:
    """A column's name as it is written in the mapping where it cannot stand bare: in double quotes, and these in single ones."""
    inner = name.replace('"', '""')
    return "'\"" + inner.replace("'", "''") + "\"'"


def _hint(sql: object) -> str:
    if not _PLAIN_NAME.fullmatch(str(sql)) or " as " in str(sql).lower():
        return ""
    return f". If that is the name of a column, put it in quotes: {quoted(str(sql))}"


def columns(sql: str) -> tuple[Column, ...]:
    """The columns that `sql` uses, each once, in the order of appearance."""
    found = [Column(node.table or None, node.name) for node in _parse(sql).find_all(exp.Column, bfs=False)]
    return tuple(dict.fromkeys(found))


def is_column(sql: str) -> bool:
    """Whether `sql` is nothing but the name of a column."""
    return isinstance(_parse(sql), exp.Column)


def may_fail(sql: str) -> bool:
    """Whether `sql`, once it is bound, may still stop at a value: false for texts that are cut, joined or softly converted."""
    return any(not isinstance(node, _NEVER_FAIL) for node in _parse(sql).walk())


def equalities(sql: str, table: str) -> tuple[tuple[str, str], ...]:
    """A join condition as pairs (expression over the other files, column of `table`); empty when it is anything else."""
    tree = _parse(sql)
    terms = list(tree.flatten()) if isinstance(tree, exp.And) else [tree]
    pairs = []
    for term in terms:
        if not isinstance(term, exp.EQ):
            return ()
        left, right = term.this, term.expression
        if isinstance(left, exp.Column) and left.table == table:
            left, right = right, left
        if not (isinstance(right, exp.Column) and right.table == table) or any(
            column.table == table for column in left.find_all(exp.Column)
        ):
            return ()
        pairs.append((_sql(left), right.name))
    return tuple(pairs)


def prepare(sql: str, home: str, aliases: Mapping[str, str], types: Mapping[str, Mapping[str, str]]) -> Expression:
    """Make `sql` stand in a query where the file `home` and the joined files have the `aliases`.

    `types` (table to column to type) says what is known of the columns; a column that is not in it has no known type.
    Column names are matched without regard to case, as DuckDB does.
    """
    tree = _parse(sql)
    used = columns(sql)
    for node in list(tree.find_all(exp.Column)):
        table = node.table or home
        node.set("table", exp.to_identifier(aliases.get(table, table)))
        node.set("this", exp.to_identifier(_spelled(node.name, types.get(table, {})), quoted=True))
    holder = exp.Paren(this=tree)
    failures: list[str] = []
    for node in reversed(list(holder.find_all(exp.Cast, exp.StrToTime, exp.TsOrDsToTimestamp))):
        soft = _soft(node)
        if soft is None:
            continue
        argument = node.this
        failures.append(f"({_sql(soft)} is null and nullif(trim(cast({_sql(argument)} as varchar)), '') is not null)")
        node.replace(soft)
    inner = holder.this
    known = _type_of(inner, home, {alias: table for table, alias in aliases.items()}, types)
    return Expression(_sql(inner), " or ".join(failures) or None, known, used)


def _soft(node: exp.Expression) -> exp.Expression | None:
    """The conversion that answers null instead of failing; None when it cannot fail."""
    if isinstance(node, exp.StrToTime):
        text = node.this.copy()
        if not (isinstance(text, exp.Cast) and text.to.is_type(*exp.DataType.TEXT_TYPES)):
            text = exp.cast(text, exp.DataType.Type.VARCHAR)
        return exp.Anonymous(this="try_strptime", expressions=[text, exp.Literal.string(_pattern(node))])
    if isinstance(node, exp.TryCast) or (isinstance(node, exp.Cast) and node.to.is_type(*exp.DataType.TEXT_TYPES)):
        return None
    if isinstance(node, exp.Cast):
        return exp.TryCast(this=node.this.copy(), to=node.to.copy())
    return None


def _pattern(node: exp.StrToTime) -> str:
    """The strptime pattern as DuckDB writes it."""
    rendered = exp.StrToTime(this=exp.Literal.string("x"), format=node.args["format"].copy()).sql(dialect="duckdb")
    return sqlglot.parse_one(rendered.replace("STRPTIME", "f", 1), dialect="duckdb").expressions[1].name


def _type_of(
    node: exp.Expression, home: str, tables: Mapping[str, str], types: Mapping[str, Mapping[str, str]]
) -> str | None:
    if isinstance(node, exp.Paren):
        return _type_of(node.this, home, tables, types)
    if isinstance(node, exp.Column):
        return types.get(tables.get(node.table, home), {}).get(node.name)
    if isinstance(node, exp.Anonymous) and node.name.lower() == "try_strptime":
        return MOMENT
    if isinstance(node, exp.Cast):
        return TEXT if node.to.is_type(*exp.DataType.TEXT_TYPES) else node.to.sql(dialect="duckdb").upper()
    if isinstance(node, (exp.DPipe, exp.Concat, exp.ConcatWs, exp.Upper, exp.Lower, exp.Trim)):
        return TEXT
    if isinstance(node, exp.Literal):
        return TEXT if node.is_string else ("BIGINT" if node.is_int else None)
    if isinstance(node, exp.Nullif):
        return _type_of(node.this, home, tables, types)
    return None


def _spelled(name: str, known: Mapping[str, str]) -> str:
    return next((column for column in known if column.lower() == name.lower()), name)


def _parse(sql: str) -> exp.Expression:
    return cast(exp.Expression, sqlglot.parse_one(str(sql), dialect="duckdb"))


def _sql(node: exp.Expression) -> str:
    return node.sql(dialect="duckdb", normalize_functions="lower")


def _first_line(error: Exception) -> str:
    return re.sub(r" for <class [^>]*>", "", str(error).strip().splitlines()[0])
