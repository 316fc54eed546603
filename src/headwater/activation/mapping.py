"""What a sync sends, as SQL: which column or template fills which field, and which text is a row's key.

A field is filled by one of

    last_name                      a column of the model
    "{first_name} {last_name}"     a template; when one of its columns is null, so is the field
    "{company|Unknown}"            a default for a null column
    "'Lapsed'"                     a constant, in single quotes

`{{` and `}}` stand for the braces themselves. A field that is null is not sent, so that it never wipes what the
destination has, unless the sync says `write_nulls`. The key is always text, normalised by `key_form`; a key that is null
or blank afterwards cannot be sent.
"""

import difflib
import re
from collections.abc import Collection
from dataclasses import dataclass

from headwater.activation.settings import SyncSettings
from headwater.errors import ConfigError
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

_PART = re.compile(r"\{\{|\}\}|\{([^{}|]+)(?:\|([^{}]*))?\}")
_TRIMMED = "case when {0} like ' %' or {0} like '% ' then trim({0}) else {0} end"  # a third of the time of a bare trim
_KEY_FORMS = {
    "as_is": "{0}",
    "trim": _TRIMMED,
    "lower": f"lower({_TRIMMED})",
    "digits": "regexp_replace({0}, '[^0-9]', '', 'g')",
}


def quoted(name: str) -> str:
    """The name as an SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """The text as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True)
class Field:
    """One field of the destination: its name, the SQL that fills it, the SQL type of the outcome."""

    name: str
    expression: str
    type: str

    @property
    def nested(self) -> bool:
        """Whether the value is a list, a struct, a map or JSON."""
        return self.type.endswith("]") or self.type.startswith(("STRUCT", "MAP", "JSON", "UNION"))

    @property
    def approximate(self) -> bool:
        return self.type in ("DOUBLE", "FLOAT")

    def json(self, value: str) -> str:
        """SQL that renders the non-null `value` as JSON text: moments in ISO 8601 UTC, decimals with all their digits."""
        if self.type.startswith("TIMESTAMP"):
            return f"cast(to_json({self.text(value)}) as varchar)"
        return f"cast(to_json({value}) as varchar)"

    def text(self, value: str) -> str:
        """SQL that renders the non-null `value` as a destination gets it where it gets text: as `json`, but text is bare."""
        if self.type.startswith("TIMESTAMP"):
            stamp = f"strftime(cast({value} as timestamp), '%Y-%m-%dT%H:%M:%S.%fZ')"
            return f"replace({stamp}, '.000000Z', 'Z')"
        if self.nested:
            return self.json(value)
        return value if self.type == "VARCHAR" else f"cast({value} as varchar)"


@dataclass(frozen=True)
class FieldMap:
    """A sync's mapping, checked against the model as it is in the warehouse now.

    `key` is SQL for the normalised key (null when there is none); `columns` are the model's columns.
    """

    relation: str
    key: str
    fields: tuple[Field, ...]
    columns: tuple[str, ...]
    where: str | None
    write_nulls: bool

    def has(self, column: str) -> bool:
        return column in self.columns


def resolve(
    warehouse: Warehouse, sync: SyncSettings, *, relation: str | None = None, masked: Collection[str] = ()
) -> FieldMap:
    """Check the sync's mapping against the warehouse.

    `relation` is what `tag:<name>` stands for; without it the model is looked for in the schema `main`.
    Raises ConfigError with all problems at once: a model or column that is not there, a masked column that would leave
    the house, two fields that differ only in case, a condition that is not SQL.
    """
    relation = relation or _relation(sync)
    if not warehouse.exists(relation):
        raise ConfigError(
            f"sync {sync.name!r} reads the model {relation!r}, which is not in the warehouse. Run `headwater build`, or mend `model` of the sync"
        )
    name = ".".join(quoted(part) for part in relation.split("."))
    columns = {row["column_name"]: row["column_type"] for row in warehouse.rows(f"describe select * from {name}")}
    problems: list[str] = []
    sources = dict(sync.fields) or {column: column for column in columns}
    expressions = {
        field: _expression(sync, f"fields.{field}", source, columns, masked, problems)
        for field, source in sources.items()
    }
    key = f"cast({_expression(sync, 'key', sync.key, columns, masked, problems)} as varchar)"
    problems += _names(sync, sources)
    if sync.where:
        problems += _condition(warehouse, sync, name, masked)
    if sync.decisions and "decision_id" not in columns:
        problems.append(
            f"  syncs.{sync.name}.decisions: is true, but the model {relation!r} has no column decision_id; add it, or say `decisions: false`"
        )
    problems += [
        f"  syncs.{sync.name}.requires: found {field!r}; the sync has no such field. Fields: {', '.join(sources)}"
        for field in sync.requires
        if field not in sources
    ]
    problems += [
        f"  syncs.{sync.name}.parents.{parent}: found {column!r}; the model {relation!r} has no such column. Columns: {', '.join(columns)}"
        for parent, column in sync.parents.items()
        if column not in columns
    ]
    if sync.settle_seconds and sync.settle_by not in columns:
        problems.append(
            f"  syncs.{sync.name}.settle_by: found {sync.settle_by!r}; the model {relation!r} has no such column. Columns: {', '.join(columns)}"
        )
    if problems:
        raise ConfigError("\n".join([f"the sync {sync.name!r} has {counted(len(problems), 'problem')}:", *problems]))
    return FieldMap(
        relation=name,
        key=f"nullif({_KEY_FORMS[sync.key_form].format(key)}, '')",
        fields=_typed(warehouse, name, expressions),
        columns=tuple(columns),
        where=sync.where,
        write_nulls=sync.write_nulls,
    )


def _relation(sync: SyncSettings) -> str:
    if sync.model.startswith("tag:"):
        raise ConfigError(
            f"sync {sync.name!r} reads {sync.model!r}, but no model of that tag was found. Run `headwater build`, or tag a model with {sync.model[4:]!r}"
        )
    return sync.model if "." in sync.model else f"main.{sync.model}"


def key_columns(sync: SyncSettings) -> list[str]:
    """The columns that a row's key is made of."""
    if "{" not in sync.key:
        return [sync.key]
    return list(dict.fromkeys(found[1].strip() for found in _PART.finditer(sync.key) if found[1] is not None))


def _expression(
    sync: SyncSettings, place: str, source: str, columns: dict[str, str], masked: Collection[str], problems: list[str]
) -> str:
    """SQL for one field; problems are added to the list and the expression is then of no use."""
    if len(source) >= 2 and source[0] == source[-1] == "'":
        return literal(source[1:-1])
    if "{" not in source and "}" not in source:
        return _column(sync, place, source, columns, masked, problems)
    parts: list[str] = []
    end = 0
    for found in _PART.finditer(source):
        parts.append(_plain(sync, place, source[end : found.start()], source, problems))
        end = found.end()
        if found.group(1) is None:
            parts.append(literal(found.group()[0]))
            continue
        value = f"cast({_column(sync, place, found.group(1).strip(), columns, masked, problems)} as varchar)"
        parts.append(value if found.group(2) is None else f"coalesce({value}, {literal(found.group(2))})")
    parts.append(_plain(sync, place, source[end:], source, problems))
    return "(" + " || ".join(part for part in parts if part) + ")"


def _plain(sync: SyncSettings, place: str, text: str, source: str, problems: list[str]) -> str:
    if "{" in text or "}" in text:
        problems.append(
            f"  syncs.{sync.name}.{place}: found {source!r}; a brace is open. Write {{column}}, or {{{{ and }}}} for braces themselves"
        )
    return literal(text) if text else ""


def _column(
    sync: SyncSettings, place: str, name: str, columns: dict[str, str], masked: Collection[str], problems: list[str]
) -> str:
    if name not in columns:
        near = difflib.get_close_matches(name, columns, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"it has: {', '.join(columns)}"
        problems.append(f"  syncs.{sync.name}.{place}: the model has no column {name!r}; {hint}")
    elif name in masked:
        problems.append(
            f"  syncs.{sync.name}.{place}: the column {name!r} is declared masked and must not leave the house; take this line out of the sync"
        )
    elif columns[name] == "JSON":
        return f"json({quoted(name)})"
    return quoted(name)


def _names(sync: SyncSettings, sources: dict[str, str]) -> list[str]:
    seen: dict[str, str] = {}
    problems = []
    for field in sources:
        if field.startswith("_headwater_"):
            problems.append(f"  syncs.{sync.name}.fields.{field}: names that begin with _headwater_ are ours")
        if field.lower() in seen:
            problems.append(
                f"  syncs.{sync.name}.fields: {seen[field.lower()]!r} and {field!r} differ only in case; keep one"
            )
        seen[field.lower()] = field
    return problems


def _condition(warehouse: Warehouse, sync: SyncSettings, relation: str, masked: Collection[str]) -> list[str]:
    try:
        warehouse.rows(f"describe select 1 from {relation} where ({sync.where})")
    except Exception as error:  # the warehouse's own error says what is wrong with the condition
        return [f"  syncs.{sync.name}.where: found {sync.where!r}; the warehouse says: {_first_line(error)}"]
    if not masked:
        return []
    import sqlglot  # noqa: PLC0415 (heavy, and needed only where columns are masked)
    from sqlglot import expressions  # noqa: PLC0415

    named = {
        column.name for column in sqlglot.parse_one(sync.where or "true", dialect="duckdb").find_all(expressions.Column)
    }
    return [
        f"  syncs.{sync.name}.where: the column {name!r} is declared masked; a condition on it tells what it holds"
        for name in sorted(named & set(masked))
    ]


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]


def _typed(warehouse: Warehouse, relation: str, expressions: dict[str, str]) -> tuple[Field, ...]:
    if not expressions:
        return ()
    listed = ", ".join(f"{expression} as {quoted(name)}" for name, expression in expressions.items())
    types = [row["column_type"] for row in warehouse.rows(f"describe select {listed} from {relation}")]
    return tuple(
        Field(name, expression, type_) for (name, expression), type_ in zip(expressions.items(), types, strict=True)
    )
