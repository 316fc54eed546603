"""What a column may be: which field its name and its values fit, and the SQL that reads it as that field."""

from collections.abc import Sequence

from sqlglot.errors import SqlglotError

from headwater.collect import expressions, vocabulary
from headwater.records.entities import ENTITIES, Field, Type
from headwater.records.files import ColumnProfile, FileProfile

NEARLY = 0.98
"""Share of different values from which a column counts as a key: real exports have a few repeats."""

_NO_STATUS = ("state", "country", "city", "customer_segment")
"""Fields by whose names a column may also say how an order stands."""
EPOCHS = {"epoch seconds": (2e8, 4.2e9), "epoch milliseconds": (2e11, 4.2e12)}


def match(profile: FileProfile, entity: str) -> dict[str, ColumnProfile]:
    """Field to column, by name and values; each column at most once, the best names first.

    A column without values is taken only when it is named exactly as the field.
    """
    offers = []
    for order, field in enumerate(ENTITIES[entity].fields):
        for column in profile.columns:
            rank = vocabulary.rank(column.name, vocabulary.FIELDS[entity][field.name], _context(profile, entity))
            if rank is not None and fits(column, field, profile.row_count):
                bare = vocabulary.words(column.name) in (("id",), ("name",), ("title",), ("type",))
                if bare and not about(profile, entity):
                    continue
                offers.append((rank, order, field.name, column))
    chosen: dict[str, ColumnProfile] = {}
    for _, _, name, column in sorted(offers, key=lambda offer: offer[:2]):
        if name not in chosen and column.name not in {c.name for c in chosen.values()}:
            chosen[name] = column
    for column in profile.columns:
        if chosen and column.kind == "empty" and column.name in ENTITIES[entity].columns:
            chosen.setdefault(column.name, column)
    return {field.name: chosen[field.name] for field in ENTITIES[entity].fields if field.name in chosen}


def alike(one: FileProfile, other: FileProfile) -> bool:
    """Whether two files are parts of one: the same columns in the same order, with the same kinds of values."""
    kinds = {"decimal": "number", "integer": "number", "date": "moment", "timestamp": "moment"}
    return len(one.columns) == len(other.columns) and all(
        a.name.lower() == b.name.lower()
        and ("empty" in (a.kind, b.kind) or kinds.get(a.kind, a.kind) == kinds.get(b.kind, b.kind))
        for a, b in zip(one.columns, other.columns, strict=True)
    )


def _context(profile: FileProfile, entity: str) -> Sequence[str]:
    return vocabulary.CONTEXT[entity]


def about(profile: FileProfile, entity: str) -> bool:
    """Whether the file's name says that it holds this entity."""
    last = [word for word in vocabulary.words(profile.table) if not word.isdigit()]
    return any(word in vocabulary.SUBJECTS[entity] for word in last)


def named(profile: FileProfile, synonyms: Sequence[str], context: Sequence[str] = ()) -> list[ColumnProfile]:
    """The columns whose name means one of the synonyms, best first."""
    ranked = [(vocabulary.rank(column.name, synonyms, context), column) for column in profile.columns]
    return [column for _, column in sorted(((r, c) for r, c in ranked if r is not None), key=lambda pair: pair[0])]


def is_key(column: ColumnProfile, rows: int) -> bool:
    """Whether the column tells (nearly) every row from every other."""
    present = rows * (1 - column.null_share)
    return column.unique or (column.null_share <= 1 - NEARLY and present > 0 and column.distinct >= NEARLY * present)


def is_id(column: ColumnProfile, rows: int) -> bool:
    """Whether the values can be ids: texts or whole numbers, not a flag."""
    return (column.kind in ("text", "integer") or (column.kind == "decimal" and column.trailing_point_zero)) and not (
        column.two_valued and rows > 20
    )


def is_moment(column: ColumnProfile) -> bool:
    return column.kind in ("date", "timestamp") or bool(column.formats) or epoch(column) is not None


def is_number(column: ColumnProfile) -> bool:
    return column.kind in ("integer", "decimal") and not column.formats


def epoch(column: ColumnProfile) -> str | None:
    """Whether whole numbers count the seconds or milliseconds since 1970."""
    if column.kind != "integer" or column.minimum is None or column.maximum is None:
        return None
    low, high = float(column.minimum), float(column.maximum)
    return next((name for name, (start, end) in EPOCHS.items() if start <= low and high <= end), None)


def fits(column: ColumnProfile, field: Field, rows: int) -> bool:
    """Whether the values can be read as the field; names are not looked at."""
    if column.kind == "empty":
        return False
    kinds: dict[Type, bool] = {
        "text": column.kind not in ("date", "timestamp")
        and not (column.kind == "decimal" and not column.trailing_point_zero),
        "integer": is_number(column) and (column.kind == "integer" or column.trailing_point_zero),
        "decimal": is_number(column),
        "timestamp": is_moment(column),
        "date": is_moment(column),
        "boolean": column.kind == "boolean" or column.two_valued,
    }
    if field.type == "text" and field.name.endswith("_id"):
        return is_id(column, rows)
    if field.name == "nps_score":
        return kinds["integer"] and float(column.minimum or 0) >= 0 and float(column.maximum or 0) <= 10
    if field.name in _NO_STATUS and says_status(column):
        return False
    if field.name == "status" and vocabulary.words(column.name)[-1:] == ("state",):
        return says_status(column)
    if field.name == "email":
        return column.email_share > 0.5
    return kinds[field.type]


def says_status(column: ColumnProfile) -> bool:
    """Whether most of the few values of a text say how an order stands."""
    return 2 * sum(vocabulary.is_status(value) for value, _ in column.values) > len(column.values)


def ambiguous(column: ColumnProfile) -> bool:
    """Whether the column is a date of which day and month cannot be told apart."""
    return len(column.formats) > 1 and column.kind in ("date", "timestamp") and column.sql_type == "VARCHAR"


def sql(column: ColumnProfile, kind: Type) -> str:
    """The expression that reads the column as `kind`."""
    text = identifier(column.name)
    for word in column.null_words:
        text = f"nullif({text}, '{word}')"
    if kind == "text" and column.trailing_point_zero:
        return f"split_part({text}, '.', 1)" if column.sql_type == "VARCHAR" else f"cast({text} as bigint)"
    if kind in ("integer", "decimal") and column.decimal_comma:
        return f"replace(replace({text}, '.', ''), ',', '.')"
    if kind in ("timestamp", "date"):
        unit = epoch(column)
        if column.formats:
            pattern = column.formats[0]
            return (
                f"strptime({text}, '{pattern}')"
                if column.sql_type == "VARCHAR"
                else f"strptime(cast({text} as varchar), '{pattern}')"
            )
        if unit:
            number = f"cast({text} as bigint)" if column.sql_type == "VARCHAR" else text
            return f"epoch_ms({number})" if unit == "epoch milliseconds" else f"make_timestamp({number} * 1000000)"
    return text


def identifier(name: str) -> str:
    """The column's name as SQL: bare where that reads as a column, else in quotes."""
    if name.isascii() and name.replace("_", "a").isalnum() and not name[0].isdigit():
        try:
            if expressions.columns(name) == (expressions.Column(None, name),):
                return name
        except SqlglotError:
            pass
    return '"' + name.replace('"', '""') + '"'
