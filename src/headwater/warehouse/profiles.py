"""What a folder's files look like: the facts from which `collect.recognise` proposes a mapping.

Each file is loaded into a warehouse of its own in memory by the same code that loads it for good, so a profile sees
exactly the values that the raw table will hold. Of a long file only the first `SAMPLE_ROWS` rows are looked at;
`FileProfile.sampled` says so.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from headwater.clock import Clock, SystemClock
from headwater.errors import DataError
from headwater.records.files import ColumnProfile, Dependency, FileProfile, FileSource, Reference, Seen
from headwater.warehouse.connection import Warehouse
from headwater.warehouse.loading import load, raw_types, table_name

SAMPLE_ROWS = 1_000_000
FITTING = 0.9
"""Share of a column's values that must fit a kind; the others will be quarantined one by one."""
READABLE = (".csv", ".tsv", ".txt", ".parquet", ".csv.gz", ".tsv.gz", ".txt.gz")
FORMATS = (
    "%m/%d/%Y", "%d/%m/%Y", "%m/%d/%y", "%d/%m/%y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y%m%d",
    "%m/%d/%Y %H:%M", "%d/%m/%Y %H:%M", "%m/%d/%y %H:%M", "%d/%m/%y %H:%M", "%m/%d/%Y %H:%M:%S", "%d/%m/%Y %H:%M:%S",
    "%d.%m.%Y %H:%M", "%d.%m.%Y %H:%M:%S", "%Y/%m/%d %H:%M:%S", "%m/%d/%Y %I:%M %p", "%d %b %Y", "%b %d, %Y", "%d-%b-%Y", "%Y-%m",
)  # fmt: skip
NULL_WORDS = ("na", "n/a", "null", "none", "nan", "\\n", "-", "#n/a")
TRUTH_WORDS = ("true", "false", "t", "f", "yes", "no", "y", "n")
_NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT")
_DAY = "[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}"
_COMMA = r"[+-]?[0-9]{1,3}(\.[0-9]{3})*,[0-9]{1,4}|[+-]?[0-9]+,[0-9]{1,4}"
_YMD = "(length(v::varchar) = 8 and try_strptime(v::varchar, '%Y%m%d') between '1950-01-01' and '2100-01-01')"
_KEYS_TESTED = 8
_SAMPLES = 5
_FEW = 30
"""Different values up to which a text is a kind of label: status, channel, country."""
_LABELS, _MEASURES = 8, 8

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
    loaded = load(warehouse, {table: FileSource(path, path.name)}, clock, first_rows=SAMPLE_ROWS)[0]
    form = "parquet" if loaded.encoding == "parquet" else "csv"
    size = path.stat().st_size
    if loaded.outcome == "failed":
        return FileProfile(path.name, table, form, size_bytes=size, problem=loaded.warnings[0])
    relation = f'raw."{table}"'
    types = {name: kind for name, kind in raw_types(warehouse)[table].items() if name not in ("_file", "_line")}
    rows = loaded.loaded_rows
    columns = tuple(_column(warehouse, relation, name, kind, rows) for name, kind in types.items())
    base = FileProfile(
        path.name, table, form, rows, size, loaded.encoding, columns=columns, sampled=loaded.read_rows == SAMPLE_ROWS,
        warnings=loaded.warnings,
    )  # fmt: skip
    if not rows or not columns:
        return base
    picked = ", ".join(
        f"case when {_name(column.name)} is not null then hash({_name(column.name)}) end as {_name(column.name)}"
        for column in columns
    )
    warehouse.execute(f"create or replace temp table hashed as select {picked} from {relation}")
    different = warehouse.value("select count(*) from (select distinct * from hashed)")
    return replace(
        base,
        whole_row_duplicates=rows - different,
        dependencies=_dependencies(warehouse, "hashed", columns, rows),
        unique_pairs=_unique_pairs(warehouse, "hashed", columns, rows),
        sums=_sums(warehouse, relation, columns),
    )


def _sums(
    warehouse: Warehouse, relation: str, columns: Sequence[ColumnProfile]
) -> dict[tuple[str, str], dict[str, float]]:
    """What the number columns come to for each value of a label; of the first few of either."""
    measures = [c for c in columns if c.kind in ("integer", "decimal") and not c.decimal_comma and not c.formats][
        :_MEASURES
    ]
    found: dict[tuple[str, str], dict[str, float]] = {}
    for label in [c for c in columns if c.values][:_LABELS] if measures else []:
        sums = ", ".join(f"coalesce(sum(try_cast({_name(c.name)} as double)), 0)" for c in measures)
        value = f"left(trim({_name(label.name)}), 60)"
        rows = warehouse.execute(f"select {value} as v, {sums} from {relation} where v <> '' group by v").fetchall()
        for given, *amounts in rows:
            found[label.name, given] = {c.name: amount for c, amount in zip(measures, amounts, strict=True)}
    return found


def _column(warehouse: Warehouse, relation: str, name: str, sql_type: str, rows: int) -> ColumnProfile:
    """Facts of one column, all taken from its different values and how often each stands there."""
    if not rows:
        return ColumnProfile(name, sql_type, "empty", 1.0, 0, False)
    is_text = sql_type == "VARCHAR"
    quoted = f"nullif(trim({_name(name)}), '')" if is_text else _name(name)
    warehouse.execute(
        f"create or replace temp table looked_at as select {quoted} as v, count(*) as n from {relation} "
        f"where {quoted} is not null group by all"
    )
    facts = _text_facts(warehouse, name) if is_text else _typed_facts(warehouse, name, sql_type)
    present = facts.pop("present")
    samples = warehouse.execute(
        f"select left(cast(v as varchar), 60), n from looked_at order by n desc, v limit {_FEW}"
    ).fetchall()
    label = facts["kind"] == "text" and 1 < facts["distinct"] <= _FEW
    return ColumnProfile(
        name=name,
        sql_type=sql_type,
        null_share=1 - present / rows,
        unique=0 < facts["distinct"] == present == rows,
        samples=tuple(row[0] for row in samples[:_SAMPLES]),
        values=tuple(samples) if label else (),
        **facts,
    )


def _typed_facts(warehouse: Warehouse, name: str, sql_type: str) -> dict[str, Any]:
    """Facts of a Parquet column that is no text."""
    is_whole = sql_type in _NUMBERS
    is_number = is_whole or sql_type in ("DOUBLE", "FLOAT") or sql_type.startswith("DECIMAL")
    negative = "sum(n) filter (v < 0)" if is_number else "0"
    fractions = "count(*) filter (v <> floor(v))" if is_number and not is_whole else "0"
    other = f"count(*) filter ({_YMD} is not true)" if is_whole else "1"
    row = warehouse.rows(
        f"select coalesce(sum(n), 0)::bigint as present, count(*) as different, min(v)::varchar as low, max(v)::varchar as high, "
        f"coalesce({negative}, 0)::bigint as negatives, {fractions} as fractions, {other} as no_dates from looked_at"
    )[0]
    kind: Seen = "text"
    if not row["present"]:
        kind = "empty"
    elif is_number:
        kind = "decimal" if row["fractions"] else "integer"
    elif sql_type == "BOOLEAN":
        kind = "boolean"
    elif sql_type == "DATE":
        kind = "date"
    elif sql_type.startswith("TIMESTAMP"):
        kind = "timestamp"
    return {
        "present": row["present"],
        "kind": kind,
        "distinct": row["different"],
        "minimum": row["low"],
        "maximum": row["high"],
        "negative_share": row["negatives"] / row["present"] if row["present"] else 0.0,
        "formats": ("%Y%m%d",) if row["present"] and not row["no_dates"] else (),
        "trailing_point_zero": is_number and not is_whole and not row["fractions"],
        "two_valued": row["different"] == 2 and {row["low"], row["high"]} == {"0", "1"},
    }


def _text_facts(warehouse: Warehouse, name: str) -> dict[str, Any]:
    """Facts of a column of texts: what all values, or all but the null words, can be read as."""
    words = ", ".join(f"'{word}'" for word in NULL_WORDS)
    truth = ", ".join(f"'{word}'" for word in TRUTH_WORDS)
    row = warehouse.rows(
        f"""
        select
            count(*) as different,
            sum(n)::bigint as present,
            coalesce(sum(n) filter (regexp_full_match(v, '[+-]?[0-9]+')), 0)::bigint as integers,
            coalesce(sum(n) filter (try_cast(v as double) is not null and regexp_full_match(v, '[-+0-9.eE]+')), 0)::bigint as numbers,
            coalesce(sum(n) filter (regexp_full_match(v, '[+-]?[0-9]+\\.0+')), 0)::bigint as point_zero,
            coalesce(sum(n) filter (regexp_full_match(v, '{_COMMA}')), 0)::bigint as commas,
            coalesce(sum(n) filter (regexp_full_match(v, '{_DAY}') and try_cast(v as date) is not null), 0)::bigint as dates,
            coalesce(sum(n) filter (regexp_matches(v, '^{_DAY}[ T][0-9]') and try_cast(v as timestamp) is not null), 0)::bigint as moments,
            coalesce(sum(n) filter (lower(v) in ({truth})), 0)::bigint as truths,
            count(*) filter (v not in ('0', '1')) = 0 as bits,
            coalesce(sum(n) filter (v like '%@%' and regexp_full_match(v, '[^@ ]+@[^@ ]+\\.[A-Za-z]+')), 0)::bigint as emails,
            count(*) filter (regexp_full_match(v, '0[0-9]+')) > 0 as zeros,
            coalesce(sum(n) filter (v like '-%' and try_cast(v as double) < 0), 0)::bigint as negatives,
            min(try_cast(v as double)) as low_number, max(try_cast(v as double)) as high_number, min(v) as low, max(v) as high
        from looked_at where lower(v) not in ({words})
        """
    )[0]
    present = row["present"] or 0
    fits = row["integers"]
    kind: Seen = "text"
    if not present:
        kind = "empty"
    elif _most(row["numbers"], present):
        kind, fits = ("integer" if row["integers"] == row["numbers"] else "decimal"), row["numbers"]
    elif _most(row["commas"], present):
        kind, fits = "decimal", row["commas"]
    elif _most(row["moments"] + row["dates"], present):
        kind, fits = ("timestamp" if row["moments"] else "date"), row["moments"] + row["dates"]
    elif _most(row["truths"], present):
        kind, fits = "boolean", row["truths"]
    formats, read = _formats(warehouse, words, whole=kind == "integer") if kind in ("text", "integer") else ((), 0)
    if formats and kind == "text":
        kind, fits = ("timestamp" if any("%H" in f or "%I" in f for f in formats) else "date"), read
    all_values = warehouse.execute("select count(*), coalesce(sum(n), 0)::bigint from looked_at").fetchall()[0]
    if kind in ("text", "empty"):
        null_words: tuple[str, ...] = ()
        kind = "text" if all_values[0] else "empty"
        row["different"], present = all_values
    else:
        null_words = tuple(
            value[0]
            for value in warehouse.execute(f"select v from looked_at where lower(v) in ({words}) order by v").fetchall()
        )
    is_number = kind in ("integer", "decimal") and not row["commas"]
    return {
        "present": present,
        "kind": kind,
        "distinct": row["different"],
        "minimum": f"{row['low_number']:g}" if is_number else row["low"],
        "maximum": f"{row['high_number']:.17g}" if is_number else row["high"],
        "misfits": present - fits if kind not in ("text", "empty") else 0,
        "negative_share": row["negatives"] / present if present else 0.0,
        "formats": formats,
        "null_words": null_words,
        "email_share": row["emails"] / present if present else 0.0,
        "leading_zero": row["zeros"],
        "decimal_comma": kind == "decimal" and fits == row["commas"] > row["numbers"],
        "trailing_point_zero": kind == "decimal" and fits == row["point_zero"],
        "two_valued": kind == "integer" and row["bits"] and row["different"] == 2,
    }


def _most(count: int, present: int) -> bool:
    """Whether so many values fit that the others are mistakes."""
    return count >= FITTING * present


def _formats(warehouse: Warehouse, words: str, *, whole: bool) -> tuple[tuple[str, ...], int]:
    """The patterns that read (nearly) every value, all that read the most, and how many rows those are.

    Whole numbers are dates only when every one of them is yyyymmdd of a likely year.
    """
    likely = ["%Y%m%d"] if whole else [pattern for pattern in FORMATS if pattern != "%Y%m%d"]
    best = 0
    for limit in ("limit 50", ""):
        checks = ", ".join(f"coalesce(sum(n) filter ({_reads(pattern)}), 0)::bigint" for pattern in likely)
        row = warehouse.execute(
            f"select sum(n)::bigint, {checks} from (select v, n from looked_at where lower(v) not in ({words}) {limit})"
        ).fetchone()
        assert row is not None
        enough = row[0] if whole else FITTING * (row[0] or 0) * (0.8 if limit else 1)
        best = max(row[1:])
        likely = [
            p for p, hits in zip(likely, row[1:], strict=True) if hits and hits >= enough and (limit or hits == best)
        ]
        if not likely:
            return (), 0
    return tuple(likely), best


def _reads(pattern: str) -> str:
    if pattern == "%Y%m%d":
        return _YMD
    return f"try_strptime(v, '{pattern}') between '1900-01-01' and '2100-01-01'"


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
    """Which columns of one file are found in a column of like name that is (nearly) a key of another file."""

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
                    if plain(target.name) != plain(column.name) or target.distinct < 0.9 * other.row_count:
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
