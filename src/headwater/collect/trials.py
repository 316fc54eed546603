"""Every expression of a mapping, tried upon the loaded files before a model is made of it.

An expression that DuckDB cannot bind (a function that there is not, a text that is multiplied) or that stops at a value would
else fail the build, in a generated model that nobody may edit. Here it is said by the name it has in `mapping.yml`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from headwater.collect import expressions
from headwater.collect.columns import identifier
from headwater.collect.mapping import FILE, Mapping, Part
from headwater.collect.parts import PartSql, Rows, Types, name
from headwater.records.entities import ENTITIES

Refusal = Callable[[str], str | None]
"""What the warehouse says against a query, in one line; None when it can be answered."""


@dataclass(frozen=True)
class _Trial:
    """One expression at its `place` in the mapping, and the query that shows whether it can be computed."""

    place: str
    written: str
    query: str


def problems(mapping: Mapping, types: Types, refusal: Refusal) -> list[str]:
    """A sentence for each expression that cannot be computed: place, expression, what DuckDB says, what to do.

    `types` are those of the raw tables, which must be there; what cannot fail upon a value is only bound, not computed.
    """
    said = []
    for entity in ENTITIES.values():
        parts = mapping.entities.get(entity.name, ())
        for number, part in enumerate(parts, 1):
            place = f"{entity.name}[{number}]" if len(parts) > 1 else entity.name
            made = PartSql(entity, part, types)
            rows: Rows = "counted"
            for trial in _around(place, made):
                error = refusal(trial.query)
                if error:
                    said.append(_sentence(trial, error, part, types))
                    rows = "all"
            if part.join and rows == "all":
                continue
            for trial in _fields(place, made, rows):
                error = refusal(trial.query)
                if error:
                    said.append(_sentence(trial, error, part, types))
    return said


def _around(place: str, made: PartSql) -> Iterator[_Trial]:
    part = made.part
    if part.join:
        written = " and ".join(part.join.values())
        yield _Trial(f"{place}.join", written, f"explain select 1 {made.source(_raw, 'all')}")
    if part.where:
        yield _Trial(f"{place}.where", part.where, f"select count(*) {made.source(_raw)}")


def _fields(place: str, made: PartSql, rows: Rows) -> Iterator[_Trial]:
    source = made.source(_raw, rows)
    for field in made.fields:
        written = str(made.part.fields[field.name])
        read = f"select {field.read} as {field.given} {source}"
        verb = "" if rows == "counted" and expressions.may_fail(written) else "explain "
        yield _Trial(f"{place}.{field.name}", written, f"{verb}select count({field.converted}) from ({read}) as given")
    if made.by:
        yield _Trial(f"{place}.by", str(made.part.by), f"explain select {made.by.sql} {source}")


def _sentence(trial: _Trial, error: str, part: Part, types: Types) -> str:
    """One line: where it stands, what stands there, what DuckDB says, what to do."""
    own = types.get(part.table, {})
    used = expressions.columns(trial.written)
    whole = next((column for column in own if column.lower() == trial.written.lower()), None)
    texts = [
        column.name
        for column in used
        if {c.lower(): t for c, t in types.get(column.table or part.table, {}).items()}.get(column.name.lower())
        == expressions.TEXT
    ]
    if whole is not None:
        todo = f". The file has a column of that name: put it in quotes, {expressions.quoted(whole)}"
    elif texts and "does not exist" not in error and "not found" not in error:
        first = identifier(texts[0])
        todo = (
            f". The columns of a CSV file are text: convert them first, like cast({first} as decimal(18, 4)) or "
            f"strptime({first}, '%d.%m.%Y')"
        )
    else:
        todo = ""
    return f"{FILE}: {trial.place}: found {trial.written!r}, which cannot be computed; DuckDB says: {error.rstrip('.!')}{todo}"


def _raw(table: str) -> str:
    return f"raw.{name(table)}"
