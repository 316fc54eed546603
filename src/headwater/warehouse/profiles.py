"""What a folder's files look like: the facts from which `collect.recognise` proposes a mapping.

Each file is loaded into a warehouse of its own in memory by the same code that loads it for good, so a profile sees
exactly the values that the raw table will hold. Of files above `SAMPLE_BYTES` only the first `SAMPLE_ROWS` rows are
looked at; `FileProfile.sampled` says so.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from headwater.clock import Clock, SystemClock
from headwater.errors import DataError
from headwater.records.files import ColumnProfile, Dependency, FileProfile, FileSource, Reference, Seen
from headwater.warehouse.connection import Warehouse

SAMPLE_BYTES = 256_000_000
SAMPLE_ROWS = 2_000_000
READABLE = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz")
FORMATS = (
    "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d",
    "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%y %H:%M", "%d/%m/%y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%Y-%m",
)  # fmt: skip
NULL_WORDS = ("na", "n/a", "null", "none", "nan", "\\n", "-", "#n/a")
TRUTH_WORDS = ("true", "false", "t", "f", "yes", "no", "y", "n")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
"""(DuckDB's names of integer types.)"""
_KEYS_TESTED = 8
_SAMPLES = 5

Progress = Callable[[str, float], None]


def profile(folder: Path, *, clock: Clock | None = None, on_progress: Progress | None = None) -> list[FileProfile]:
    """The profile of every file in `folder` (not of folders inside it), by name; `folder` may also be one file.

    A file that cannot be read has `problem` set and no columns. Raises DataError when there is nothing to look at.
    """
    if folder.is_file():
        paths = [folder]
    elif folder.is_dir():
        paths = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    else:
        raise DataError(f"{folder} does not exist; expected a folder with CSV or Parquet files. Check the path")
    if not any(path.name.lower().endswith(READABLE) for path in paths):
        there = ", ".join(path.name for path in paths) or "nothing"
        raise DataError(
            f"{folder} holds no file that can be read (found {there}); expected {', '.join(READABLE)}. Export your tables as one of these"
        )
    from headwater.warehouse.files import table_name  # noqa: PLC0415  (files offers profile beside load)

    profiles: list[FileProfile] = []
    taken: set[str] = set()
    with tempfile.TemporaryDirectory(prefix="headwater-") as spill, Warehouse(":memory:") as warehouse:
        warehouse.execute(f"set temp_directory = '{spill}'")
        for path in paths:
            name = table_name(path.name)
            table, nth = name, 2
            while table in taken:
                table, nth = f"{name}_{nth}", nth + 1
            if not path.name.lower().endswith(READABLE):
                profiles.append(
                    FileProfile(
                        path.name, table, "other", problem=f"{path.name} is neither CSV nor Parquet; it is not read"
                    )
                )
                continue
            taken.add(table)
            if on_progress:
                on_progress(path.name, 0.0)
            profiles.append(_profile_one(warehouse, path, table, clock or SystemClock()))
            if on_progress:
                on_progress(path.name, 1.0)
        return _with_references(warehouse, profiles)


def _profile_one(warehouse: Warehouse, path: Path, table: str, clock: Clock) -> FileProfile:
    from headwater.warehouse.files import load  # noqa: PLC0415

    loaded = load(warehouse, {table: FileSource(path, path.name)}, clock)[0]
    form = "parquet" if loaded.encoding == "parquet" else "csv"
    size = path.stat().st_size
    if loaded.outcome == "failed":
        return FileProfile(path.name, table, form, size_bytes=size, problem=loaded.warnings[0])
    relation = f'raw."{table}"'
    types = {
        row["column_name"]: row["data_type"]
        for row in warehouse.rows(
            "select column_name, data_type from duckdb_columns() where schema_name = 'raw' and table_name = ? order by column_index",
            [table],
        )
        if row["column_name"] not in ("_file", "_line")
    }
    rows = loaded.loaded_rows
    sampled = rows > SAMPLE_ROWS
    if sampled:
        relation = f"(select * from {relation} where _line <= {SAMPLE_ROWS})"
        rows = warehouse.value(f"select count(*) from {relation}")
    columns = tuple(_column(warehouse, relation, name, kind, rows) for name, kind in types.items())
    base = FileProfile(
        path.name, table, form, loaded.loaded_rows, size, loaded.encoding, columns=columns, sampled=sampled,
        warnings=loaded.warnings,
    )  # fmt: skip
    if not rows or not columns:
        return base
    names = ", ".join(_name(column.name) for column in columns)
    different = warehouse.value(f"select count(*) from (select distinct {names} from {relation})")
    return replace(
        base,
        whole_row_duplicates=rows - different,
        dependencies=_dependencies(warehouse, relation, columns, rows),
        unique_pairs=_unique_pairs(warehouse, relation, columns, rows),
    )


@dataclass(frozen=True)
class _Texts:
    """The SQL of one column as trimmed text, null words and blanks as null."""

    name: str

    @property
    def value(self) -> str:
        words = ", ".join(f"'{word}'" for word in NULL_WORDS)
        text = f"nullif(trim({_name(self.name)}), '')"
        return f"case when lower({text}) not in ({words}) then {text} end"


def _column(warehouse: Warehouse, relation: str, name: str, sql_type: str, rows: int) -> ColumnProfile:
    quoted = _name(name)
    if not rows:
        return ColumnProfile(name, sql_type, "empty", 1.0, 0, False)
    if sql_type == "VARCHAR":
        return _text_column(warehouse, relation, name, rows)
    is_number = sql_type in _NUMBERS or sql_type in ("DOUBLE", "FLOAT") or sql_type.startswith("DECIMAL")
    negative = f"count(*) filter ({quoted} < 0)" if is_number else "0"
    whole = f"count(*) filter ({quoted} <> floor({quoted}))" if is_number else "0"
    ymd = (
        f"count(*) filter (try_strptime(cast({quoted} as varchar), '%Y%m%d') between '1970-01-01' and '2100-01-01')"
        if sql_type in _NUMBERS
        else "0"
    )
    low_high = (f"cast(min({quoted}) as varchar)", f"cast(max({quoted}) as varchar)")
    row = warehouse.execute(
        f"select count({quoted}), count(distinct {quoted}), {low_high[0]}, {low_high[1]}, {negative}, {whole}, {ymd} from {relation}"
    ).fetchone()
    assert row is not None
    present, distinct, low, high, negatives, fractions, dates = row
    kind: Seen = "text"
    if not present:
        kind = "empty"
    elif is_number:
        kind = "integer" if not fractions else "decimal"
    elif sql_type == "BOOLEAN":
        kind = "boolean"
    elif sql_type == "DATE":
        kind = "date"
    elif sql_type.startswith("TIMESTAMP"):
        kind = "timestamp"
    return ColumnProfile(
        name, sql_type, kind, 1 - present / rows, distinct, unique=0 < distinct == present == rows,
        samples=_samples(warehouse, relation, f"cast({quoted} as varchar)"), minimum=low, maximum=high,
        negative_share=negatives / present if present else 0.0,
        formats=("%Y%m%d",) if present and dates == present else (),
        trailing_point_zero=is_number and sql_type not in _NUMBERS and not fractions,
        two_valued=distinct == 2 and {low, high} == {"0", "1"},
    )  # fmt: skip


def _text_column(warehouse: Warehouse, relation: str, name: str, rows: int) -> ColumnProfile:
    text = _Texts(name).value
    plain = f"nullif(trim({_name(name)}), '')"
    truth = ", ".join(f"'{word}'" for word in TRUTH_WORDS)
    row = warehouse.rows(
        f"""
        select
            count(*) as present, count(distinct v) as distinct_values, min(v) as low, max(v) as high,
            count(*) filter (regexp_full_match(v, '[+-]?[0-9]+')) as integers,
            count(*) filter (try_cast(v as double) is not null and regexp_full_match(v, '[-+0-9.eE]+')) as numbers,
            count(*) filter (regexp_full_match(v, '[+-]?[0-9]+\\.0+')) as point_zero,
            count(*) filter (regexp_full_match(v, '[+-]?[0-9]{{1,3}}(\\.[0-9]{{3}})*,[0-9]{{1,4}}|[+-]?[0-9]+,[0-9]{{1,4}}')) as commas,
            count(*) filter (regexp_full_match(v, '[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}') and try_cast(v as date) is not null) as dates,
            count(*) filter (regexp_matches(v, '^[0-9]{{4}}-[0-9]{{1,2}}-[0-9]{{1,2}}[ T][0-9]') and try_cast(v as timestamp) is not null) as moments,
            count(*) filter (lower(v) in ({truth})) as truths,
            count(*) filter (v in ('0', '1')) as bits,
            count(*) filter (regexp_full_match(v, '[^@ ]+@[^@ ]+\\.[A-Za-z]+')) as emails,
            count(*) filter (regexp_full_match(v, '0[0-9]+')) as zeros,
            count(*) filter (v like '-%' and try_cast(v as double) < 0) as negatives
        from (select {text} as v from {relation}) where v is not null
        """
    )[0]
    present = row["present"]
    kind: Seen = "text"
    if not present:
        kind = "empty"
    elif row["integers"] == present:
        kind = "integer"
    elif row["numbers"] == present or row["commas"] == present:
        kind = "decimal"
    elif row["dates"] == present:
        kind = "date"
    elif row["moments"] + row["dates"] == present:
        kind = "timestamp"
    elif row["truths"] == present:
        kind = "boolean"
    formats = _formats(warehouse, relation, text) if kind in ("text", "integer") and present else ()
    if formats and kind == "text":
        kind = "timestamp" if any("%H" in f or "%I" in f for f in formats) else "date"
    words = ()
    if kind not in ("text", "empty"):
        words = tuple(
            value[0]
            for value in warehouse.execute(
                f"select distinct {plain} from {relation} where {plain} is not null and {text} is null order by 1"
            ).fetchall()
        )
    else:
        present = warehouse.value(f"select count({plain}) from {relation}")
        row["distinct_values"] = warehouse.value(f"select count(distinct {plain}) from {relation}")
    low, high = row["low"], row["high"]
    if kind in ("integer", "decimal") and not row["commas"]:
        low, high = (
            str(value)
            for value in warehouse.execute(
                f"select min(cast(v as double)), max(cast(v as double)) from (select {text} as v from {relation})"
            ).fetchall()[0]
        )
    return ColumnProfile(
        name, "VARCHAR", kind, 1 - present / rows, row["distinct_values"],
        unique=0 < row["distinct_values"] == present == rows,
        samples=_samples(warehouse, relation, plain), minimum=low, maximum=high,
        negative_share=row["negatives"] / present if present else 0.0,
        formats=formats, null_words=words,
        email_share=row["emails"] / present if present else 0.0,
        leading_zero=row["zeros"] > 0, decimal_comma=0 < row["commas"] == present,
        trailing_point_zero=kind == "decimal" and row["point_zero"] == present,
        two_valued=row["bits"] == present > 0,
    )  # fmt: skip


def _formats(warehouse: Warehouse, relation: str, text: str) -> tuple[str, ...]:
    """The patterns that read every value; whole-number columns are dates only as yyyymmdd of a likely year."""
    first = warehouse.execute(f"select {text} as v from {relation} where v is not null limit 200").fetchall()
    values = [row[0] for row in first]
    likely = [
        pattern
        for pattern in FORMATS
        if warehouse.value(
            "select bool_and(try_strptime(v, ?) between '1900-01-01' and '2100-01-01') from (select unnest(?) as v)",
            [pattern, values],
        )
        and (pattern != "%Y%m%d" or all(len(value) == 8 for value in values))
    ]
    if not likely:
        return ()
    checks = ", ".join(
        f"coalesce(bool_and(coalesce(try_strptime(v, '{pattern}') between '1900-01-01' and '2100-01-01', false)), false)"
        for pattern in likely
    )
    row = warehouse.execute(
        f"select {checks} from (select distinct {text} as v from {relation}) where v is not null"
    ).fetchone()
    assert row is not None
    return tuple(pattern for pattern, holds in zip(likely, row, strict=True) if holds)


def _samples(warehouse: Warehouse, relation: str, value: str) -> tuple[str, ...]:
    """The most frequent values of the first rows, most frequent first; cut at 60 characters."""
    return tuple(
        row[0][:60]
        for row in warehouse.execute(
            f"select v, count(*) from (select {value} as v from {relation} limit 20000) where v is not null "
            f"group by v order by 2 desc, 1 limit {_SAMPLES}"
        ).fetchall()
    )


def _is_key_like(column: ColumnProfile, rows: int) -> bool:
    """Could the column name something? Not a measure, more than a handful of values."""
    measures = column.kind == "decimal" and not column.trailing_point_zero
    return not measures and column.kind not in ("empty", "boolean") and column.distinct > max(2, rows // 2000)


def _dependencies(
    warehouse: Warehouse, relation: str, columns: Sequence[ColumnProfile], rows: int
) -> tuple[Dependency, ...]:
    """For each key-like, repeating column: which other columns it decides. One pass over the file per such column."""
    found: list[Dependency] = []
    candidates = [c for c in columns if _is_key_like(c, rows) and not c.unique][:_KEYS_TESTED]
    for column in candidates:
        others = [other for other in columns if other is not column and other.kind != "empty"]
        if not others:
            continue
        mixed = ", ".join(f"min({_name(o.name)}) <> max({_name(o.name)}) as m{i}" for i, o in enumerate(others))
        counts = ", ".join(f"count(*) filter (m{i})" for i in range(len(others)))
        row = warehouse.execute(
            f"select count(*), {counts} from (select {mixed} from {relation} where {_name(column.name)} is not null "
            f"group by {_name(column.name)})"
        ).fetchone()
        assert row is not None
        found += [
            Dependency(column.name, other.name, row[0], count) for other, count in zip(others, row[1:], strict=True)
        ]
    return tuple(found)


def _unique_pairs(
    warehouse: Warehouse, relation: str, columns: Sequence[ColumnProfile], rows: int
) -> tuple[tuple[str, str], ...]:
    """Pairs (repeating id, small number) that are a key together, as an order's id and the number of the line."""
    ids = [c for c in columns if _is_key_like(c, rows) and not c.unique and c.null_share == 0][:_KEYS_TESTED]
    numbers = [
        c
        for c in columns
        if c.kind == "integer" and c.null_share == 0 and c.distinct <= 1000 and c.minimum in ("0", "1", "0.0", "1.0")
    ]
    return tuple(
        (one.name, other.name)
        for one in ids
        for other in numbers
        if one is not other
        and one.distinct * other.distinct >= rows
        and warehouse.value(
            f"select count(*) from (select distinct {_name(one.name)}, {_name(other.name)} from {relation})"
        )
        == rows
    )


def _with_references(warehouse: Warehouse, profiles: list[FileProfile]) -> list[FileProfile]:
    """Which columns of one file are found in a column of like name in another file."""

    def plain(name: str) -> str:
        return "".join(letter for letter in name.lower() if letter.isalnum())

    def key_like(profile: FileProfile, column: ColumnProfile) -> bool:
        return _is_key_like(column, 0) and (column.unique or column.distinct * 50 > profile.row_count)

    answers = []
    for one in profiles:
        found = []
        for column in one.columns:
            for other in profiles:
                if other is one or not key_like(one, column):
                    continue
                for target in other.columns:
                    if plain(target.name) != plain(column.name) or target.kind == "empty":
                        continue
                    share = warehouse.value(
                        f"""
                        with wanted as (select distinct cast({_name(column.name)} as varchar) as v from raw."{one.table}" where v is not null),
                        there as (select distinct cast({_name(target.name)} as varchar) as v from raw."{other.table}")
                        select count(*) filter (v in (select v from there)) / count(*) from wanted
                        """
                    )
                    found.append(Reference(column.name, other.table, target.name, float(share or 0.0)))
        answers.append(replace(one, references=tuple(found)))
    return answers


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
