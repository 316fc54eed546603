"""The loader behind `warehouse.files`: one transaction per file, masks in the statement that stores, ledgers kept true."""

import csv
import difflib
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import duckdb

from headwater.clock import Clock, SystemClock, naive_utc
from headwater.errors import ConfigError, DataError
from headwater.records.counted import counted
from headwater.records.files import MASKS, FileLoad, FileSource
from headwater.warehouse import csv_lines
from headwater.warehouse.connection import Warehouse

MASK_KEY = "HEADWATER_MASK_KEY"
_LOADER = "1"  # part of the load id: raise it when the same bytes would now load differently
_BATCH_ROWS, _BATCH_LETTERS = 50_000, 8_000_000
_UNNESTED = """select unnest(from_json($rows, '[["varchar"]]')) as r"""
"""Rows of texts as one JSON parameter: without pandas DuckDB takes 0.1 ms for each Python text in a list or an array."""

Progress = Callable[[str, float], None]


@dataclass(frozen=True)
class SeedWrite:
    """`repaired` counts rows in which a value had blanks around it; `warnings` are sentences for the screen."""

    rows: int
    repaired: int
    warnings: tuple[str, ...] = ()


def load(
    warehouse: Warehouse,
    sources: Mapping[str, Path | FileSource],
    clock: Clock,
    on_progress: Progress | None = None,
    *,
    first_rows: int | None = None,
) -> list[FileLoad]:
    """Bring each file into `raw.<key>`; the answers stand in the order of `sources`.

    `on_progress` is called with the file's name and the share done of it, 0 to 1. Bad lines, missing and unreadable files
    are told in the answers and the ledgers, never raised. `first_rows` stops after that many rows of each file, for a look at
    it; such a load is never taken for the whole file. Raises ConfigError, before anything is touched, when a mask is
    unknown or the mask key is not set; and, all of them at once, when files lack needed columns: their raw tables stay as
    they were, while the other files are loaded.
    """
    full = {table: _source(source) for table, source in sources.items()}
    key = _mask_key(full)
    loads: list[FileLoad] = []
    lacking: list[str] = []
    for table, source in full.items():
        if on_progress:
            on_progress(source.file, 0.0)
        try:
            loads.append(_load_one(warehouse, table, source, _Job(clock, key, on_progress, first_rows)))
        except _Lacking as error:
            lacking += error.sentences
        if on_progress:
            on_progress(source.file, 1.0)
    if lacking:
        raise ConfigError("\n".join(["the mapping needs columns that are not there:", *lacking]))
    return loads


def write_seed(path: Path, columns: Mapping[str, str], target: Path) -> SeedWrite:
    """Write columns of a small file as a dbt seed: `columns` maps the seed's column to the file's; values are trimmed.

    Read by the same reader as every file; a line that is no row is left out and told in `warnings`. The same file gives
    the same bytes. Raises DataError when the file or a column is not there.
    """
    with Warehouse(":memory:") as warehouse:
        loaded = load(warehouse, {"seed": FileSource(path, path.name)}, SystemClock())[0]
        have = raw_types(warehouse).get("seed", {})
        absent = [column for column in columns.values() if column not in have]
        if loaded.outcome not in ("loaded", "empty") or absent:
            found = ", ".join(column for column in have if column not in ("_file", "_line")) or "no column"
            raise DataError(
                f"{path} cannot fill {target.name}: expected the columns {', '.join(columns.values())}, found {found}. "
                + " ".join(loaded.warnings)
            )
        texts = {name: f"cast({_name(column)} as varchar)" for name, column in columns.items()}
        picked = ", ".join(f"trim({text}) as {_name(name)}" for name, text in texts.items())
        untidy = " or ".join(f"{text} <> trim({text})" for text in texts.values())
        rows = warehouse.execute(f"select {picked} from raw.seed order by _line").fetchall()
        repaired = warehouse.value(f"select count(*) from raw.seed where {untidy}")
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    return SeedWrite(len(rows), repaired, loaded.warnings)


def raw_types(warehouse: Warehouse) -> dict[str, dict[str, str]]:
    """Column types of all raw tables: table to column to type, in the order of the columns."""
    types: dict[str, dict[str, str]] = {}
    for row in warehouse.rows(
        "select table_name, column_name, data_type from duckdb_columns() where schema_name = 'raw' "
        "and database_name = current_database() order by table_name, column_index"
    ):
        types.setdefault(row["table_name"], {})[row["column_name"]] = row["data_type"]
    return types


def _source(source: Path | FileSource) -> FileSource:
    return source if isinstance(source, FileSource) else FileSource(source, source.name)


def _mask_key(sources: Mapping[str, FileSource]) -> bytes | None:
    problems = [
        f"  {source.file}, column {column}: found mask {mask!r}; known masks: {', '.join(MASKS)}"
        for source in sources.values()
        for column, mask in source.mask.items()
        if mask not in MASKS
    ]
    if problems:
        raise ConfigError("\n".join(["unknown masks in the mapping:", *problems]))
    hashed = [f"{s.file}: {c}" for s in sources.values() for c, mask in s.mask.items() if mask == "hash"]
    key = os.environ.get(MASK_KEY, "")
    if hashed and not key:
        raise ConfigError(
            f"the mapping hashes {', '.join(hashed)}, but {MASK_KEY} is not set in the environment. Nothing was loaded. "
            f"Set it to a long random text (keep it: another key gives other hashes), or use the mask 'constant' or 'drop'"
        )
    return key.encode() if any(source.mask for source in sources.values()) and key else None


@dataclass(frozen=True)
class _Job:
    """What all files of one call share."""

    clock: Clock
    key: bytes | None
    on_progress: Progress | None
    first_rows: int | None

    @property
    def limit(self) -> str:
        return "" if self.first_rows is None else f" limit {self.first_rows}"


def _load_one(warehouse: Warehouse, table: str, source: FileSource, job: _Job) -> FileLoad:
    if not source.path.is_file():
        kept = _kept(warehouse, table)
        return _not_loaded(
            warehouse, table, source, "missing",
            f"{source.file} is not at {source.path}{'; ' + kept if kept else ''}. Put the file there, or take it out of the mapping",
        )  # fmt: skip
    try:
        load_id, sha256, size = _identity(table, source, job)
        known = warehouse.rows(
            "select * from headwater.file_loads where raw_table = ? and load_id = ?", [table, load_id]
        )
        if known and warehouse.exists(f"raw.{table}"):
            return _unchanged(warehouse, table, source, known[0])
        is_parquet = _is_parquet(source.path)
        form = None if is_parquet else csv_lines.shape(source.path, source.delimiter, source.encoding)
        if form is not None and form.header:
            _check_masks(source, form.header)
            _check_needed(source, form.header)
        identity = (load_id, sha256, size)
        with _keys(warehouse, job.key):
            if form is not None and form.plain:
                try:
                    return _load_now(warehouse, table, source, job, identity, form, quick=True)
                except (duckdb.Error, _NotPlain):
                    pass  # DuckDB and the look at the bytes do not agree: read it line by line
            return _load_now(warehouse, table, source, job, identity, form, quick=False)
    except (duckdb.Error, DataError, OSError) as error:
        text = str(error) if isinstance(error, DataError) else f"{source.file} cannot be read: {_first_line(error)}"
        todo = "mend the file and run again"
        kept = _kept(warehouse, table)
        advice = f"{kept}; {todo}" if kept else todo.capitalize()
        return _not_loaded(warehouse, table, source, "failed", f"{text}. {advice}")


def _kept(warehouse: Warehouse, table: str) -> str:
    """What stays of the file's rows, where it has been loaded before."""
    known = warehouse.value("select count(*) from headwater.file_loads where raw_table = ?", [table])
    return f"raw.{table} keeps what it held" if known else ""


def _not_loaded(
    warehouse: Warehouse, table: str, source: FileSource, outcome: Literal["missing", "failed"], sentence: str
) -> FileLoad:
    """The raw table stays as it is; where there is none an empty one is made, so that the models can be built."""
    names = ", ".join([*(f"{_name(column)} varchar" for column in source.columns), "_file varchar", "_line bigint"])
    warehouse.execute(f"create table if not exists raw.{_name(table)} ({names})")
    _add_missing(warehouse, table, source, [])
    return FileLoad(source.file, table, outcome, warnings=(sentence,))


def _unchanged(warehouse: Warehouse, table: str, source: FileSource, row: dict[str, Any]) -> FileLoad:
    if columns := json.loads(row["columns"]):
        _check_needed(source, columns)
    warnings = [*json.loads(row["warnings"]), *_add_missing(warehouse, table, source, json.loads(row["columns"]))]
    return FileLoad(
        source.file, table, "unchanged", row["read_rows"], row["loaded_rows"], row["rejected_rows"], row["repaired_rows"],
        row["encoding"], tuple(warnings),
    )  # fmt: skip


def _load_now(
    warehouse: Warehouse,
    table: str,
    source: FileSource,
    job: _Job,
    identity: tuple[str, str, int],
    form: csv_lines.Shape | None,
    *,
    quick: bool,
) -> FileLoad:
    """Table, rejects and ledger row in one transaction."""
    encoding = form.encoding if form else "parquet"
    with warehouse.transaction():
        _forget(warehouse, table)
        if form is None:
            columns, read, rejected = _load_parquet(warehouse, table, source, job)
        elif quick:
            columns, read, rejected = _load_plain(warehouse, table, source, job, form)
        else:
            columns, read, rejected = _load_records(warehouse, table, source, job, form, identity[0])
        repaired = form.latin_lines if form and form.encoding == "latin-1" else 0
        said = [f"{source.file}: {text}" for text in (form.warnings if form else ())]
        said += _sentences(source, form, read, rejected, repaired)
        missing = _add_missing(warehouse, table, source, columns)
        warehouse.execute(
            "insert into headwater.file_loads values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                identity[0], source.file, table, *identity[1:], read, read - rejected, rejected, naive_utc(job.clock.now()),
                encoding, repaired, json.dumps(columns), json.dumps(said),
            ],
        )  # fmt: skip
    outcome = "loaded" if read else "empty"
    return FileLoad(source.file, table, outcome, read, read - rejected, rejected, repaired, encoding, (*said, *missing))


class _Lacking(Exception):
    """The file lacks columns that the mapping needs: one sentence each."""

    def __init__(self, sentences: list[str]) -> None:
        super().__init__("; ".join(sentences))
        self.sentences = sentences


class _NotPlain(Exception):
    """The file looked plain and is not: read it line by line."""


def _identity(table: str, source: FileSource, job: _Job) -> tuple[str, str, int]:
    with source.path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    parts = [_LOADER, table, source.file, sha256, str(source.delimiter), str(source.encoding)]
    parts += [f"{column}={mask}" for column, mask in sorted(source.mask.items())]
    if job.first_rows is not None:
        parts.append(f"first {job.first_rows}")
    if job.key and "hash" in source.mask.values():
        parts.append(hmac.new(job.key, b"headwater", "sha256").hexdigest())
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16], sha256, source.path.stat().st_size


def _load_parquet(warehouse: Warehouse, table: str, source: FileSource, job: _Job) -> tuple[list[str], int, int]:
    scan = f"read_parquet({_scanned(source.path)}, file_row_number = true)"
    described = warehouse.execute(f"describe select * from {scan}").fetchall()
    given = [str(row[0]) for row in described if row[0] != "file_row_number"]
    header, _ = csv_lines.distinct(given)
    _check_masks(source, header)
    _check_needed(source, header)
    picked = [_masked(_name(old), new, source) for old, new in zip(given, header, strict=True)]
    warehouse.execute(
        f"create or replace table raw.{_name(table)} as select {_list(picked)}{_text(source.file)} as _file, "
        f"file_row_number + 1 as _line from {scan}{job.limit}"
    )
    return header, warehouse.value(f"select count(*) from raw.{_name(table)}"), 0


def _load_plain(
    warehouse: Warehouse, table: str, source: FileSource, job: _Job, form: csv_lines.Shape
) -> tuple[list[str], int, int]:
    """DuckDB reads the file; valid only when every line after the header turns out to be one row."""
    columns = ", ".join(f"{_text(name)}: 'VARCHAR'" for name in form.header)
    scan = (
        f"read_csv({_scanned(source.path)}, auto_detect = false, header = false, skip = {form.header_line}, "
        f"columns = {{{columns}}}, delim = {_text(form.delimiter)}, quote = '\"', escape = '\"', nullstr = '', "
        f"strict_mode = true, null_padding = false, max_line_size = {csv_lines.MAX_LINE + 2}, "
        f"compression = '{'gzip' if form.gzipped else 'none'}')"
    )
    picked = [_masked(_name(name), name, source) for name in form.header]
    warehouse.execute(
        f"create or replace table raw.{_name(table)} as select {_list(picked)}{_text(source.file)} as _file, "
        f"row_number() over () + {form.header_line} as _line from {scan}{job.limit}"
    )
    read = warehouse.value(f"select count(*) from raw.{_name(table)}")
    if read != min(form.lines - form.header_line, job.first_rows or form.lines):
        raise _NotPlain
    return list(form.header), read, 0


def _load_records(
    warehouse: Warehouse,
    table: str,
    source: FileSource,
    job: _Job,
    form: csv_lines.Shape,
    load_id: str,
) -> tuple[list[str], int, int]:
    picked = [_masked(_name(name), name, source) for name in form.header]
    stored = [name for name in form.header if _mask(source, name) != "drop"]
    columns = ", ".join([*(f"{_name(name)} varchar" for name in stored), "_file varchar", "_line bigint"])
    warehouse.execute(f"create or replace table raw.{_name(table)} ({columns})")
    read = rejected = 0
    parts = csv_lines.records(source.path, form) if form.header else iter(())
    for rows, rejects in _batches(islice(parts, job.first_rows)):
        if rows:
            listed = json.dumps([[str(row.line), *row.values] for row in rows])
            values = ", ".join(f"r[{i}] as {_name(name)}" for i, name in enumerate(form.header, 2))
            warehouse.execute(
                f"insert into raw.{_name(table)} select {_list(picked)}{_text(source.file)}, line from "
                f"(select cast(r[1] as bigint) as line, {values} from ({_UNNESTED}))",
                {"rows": listed},
            )
        if rejects:
            _store_rejects(warehouse, source, load_id, rejects, job.key)
        read, rejected = read + len(rows) + len(rejects), rejected + len(rejects)
        if job.on_progress and form.lines:
            job.on_progress(source.file, min([*rows[-1:], *rejects[-1:]][0].line / form.lines, 1.0))
    return list(form.header), read, rejected


def _batches(
    parts: Iterator[csv_lines.Row | csv_lines.Reject],
) -> Iterator[tuple[list[csv_lines.Row], list[csv_lines.Reject]]]:
    """Rows and rejects in the order of the file, as many as one statement takes well."""
    rows: list[csv_lines.Row] = []
    rejects: list[csv_lines.Reject] = []
    letters = 0
    for part in parts:
        if isinstance(part, csv_lines.Row):
            rows.append(part)
            letters += sum(len(value) for value in part.values if value)
        else:
            rejects.append(part)
        if len(rows) + len(rejects) >= _BATCH_ROWS or letters >= _BATCH_LETTERS:
            yield rows, rejects
            rows, rejects, letters = [], [], 0
    if rows or rejects:
        yield rows, rejects


def _store_rejects(
    warehouse: Warehouse, source: FileSource, load_id: str, rejects: Iterable[csv_lines.Reject], key: bytes | None
) -> None:
    listed = [
        (str(one.line), _hidden(one.value, key) if source.mask else one.value[:200], one.reason, one.advice)
        for one in rejects
    ]
    warehouse.execute(
        "insert into headwater.file_rejects select $load_id, $file, cast(r[1] as bigint), null, r[2], r[3], r[4] "
        f"from ({_UNNESTED})",
        {"rows": json.dumps(listed), "load_id": load_id, "file": source.file},
    )


def _hidden(value: str, key: bytes | None) -> str:
    digest = hmac.new(key, value.encode(), "sha256").hexdigest()[:16] if key else "none, no key"
    return f"hidden, the file has masked columns ({len(value)} characters, digest {digest})"


def _mask(source: FileSource, name: str) -> str | None:
    """The mask of a column; names are matched without regard to case."""
    return {column.lower(): mask for column, mask in source.mask.items()}.get(name.lower())


def _check_masks(source: FileSource, header: Sequence[str]) -> None:
    """A mask for a column that is not there may be a slip that would let another one through: the file is not loaded."""
    for column in source.mask:
        if column.lower() not in {name.lower() for name in header}:
            near = difflib.get_close_matches(column, header, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise DataError(
                f"{source.file} has no column {column!r}, which the mapping masks: found {', '.join(header)}{hint} "
                "Nothing of the file was loaded"
            )


def _check_needed(source: FileSource, header: Sequence[str]) -> None:
    """A column that a required field is made of must be there, else every row of the file would be quarantined."""
    have = {name.lower() for name in header} | {"_file", "_line"}
    absent = [column for column in source.needed if column.lower() not in have]
    if absent:
        raise _Lacking([_lacks(source, column, header) + " Mend mapping.yml, or the file" for column in absent])


def _lacks(source: FileSource, column: str, header: Sequence[str]) -> str:
    near = {name.lower(): name for name in reversed(header)}
    found = difflib.get_close_matches(column.lower(), near, n=1)
    hint = f"; did you mean {near[found[0]]!r}?" if found else "."
    for name in header:  # E-Mail, written without quotes, is a difference of two columns
        if re.search(r"\W", name) and column.lower() in re.split(r"\W+", name.lower()):
            hint = f"; did you mean {name!r}? In the mapping such a name stands in quotes: '{_name(name)}'."
            break
    there = f"found {', '.join(header)}" if header else "the file has no header"
    return f"  {source.file} has no column {column!r}, which the mapping uses: {there}{hint}"


def _masked(column: str, name: str, source: FileSource) -> str | None:
    """The column as it is stored; None when it is dropped. The hash is HMAC-SHA256 of the value trimmed and in lower case."""
    mask = _mask(source, name)
    if mask is None:
        return f"{column} as {_name(name)}"
    if mask == "drop":
        return None
    if mask == "constant":
        return f"case when {column} is not null then 'masked' end as {_name(name)}"
    value = f"encode(lower(trim(cast({column} as varchar), ' ' || chr(9) || chr(10) || chr(13))))"
    inner = f"unhex(sha256(getvariable('headwater_mask_inner') || {value}))"
    return f"sha256(getvariable('headwater_mask_outer') || {inner}) as {_name(name)}"


@contextmanager
def _keys(warehouse: Warehouse, key: bytes | None) -> Iterator[None]:
    """The two padded keys of HMAC as session variables, so that the key stands in no statement."""
    if key is None:
        yield
        return
    block = (hashlib.sha256(key).digest() if len(key) > 64 else key).ljust(64, b"\0")
    pads = {"inner": bytes(byte ^ 0x36 for byte in block), "outer": bytes(byte ^ 0x5C for byte in block)}
    for name, pad in pads.items():
        warehouse.execute(f"set variable headwater_mask_{name} = unhex('{pad.hex()}')")
    try:
        yield
    finally:
        for name in pads:
            warehouse.connection.execute(f"reset variable headwater_mask_{name}")


def _forget(warehouse: Warehouse, table: str) -> None:
    warehouse.execute(
        "delete from headwater.file_rejects where load_id in (select load_id from headwater.file_loads where raw_table = ?)",
        [table],
    )
    warehouse.execute("delete from headwater.file_loads where raw_table = ?", [table])


def _add_missing(warehouse: Warehouse, table: str, source: FileSource, columns: list[str]) -> list[str]:
    """Columns that the mapping uses and the raw table lacks become nulls; told unless a mask dropped them."""
    have = {column.lower() for column in raw_types(warehouse).get(table, {})}
    in_file = {column.lower() for column in columns}
    warnings = []
    for column in source.columns:
        if column.lower() in ("_file", "_line"):
            continue
        if column.lower() not in have:
            warehouse.execute(f"alter table raw.{_name(table)} add column {_name(column)} varchar")
            have.add(column.lower())
        if column.lower() in in_file:
            continue
        warnings.append(f"{_lacks(source, column, columns).strip()} It is read as empty; mend the file or the mapping")
    return warnings


def _sentences(source: FileSource, form: csv_lines.Shape | None, read: int, rejected: int, repaired: int) -> list[str]:
    said = []
    if repaired:
        said.append(
            f"{source.file} is not UTF-8: {counted(repaired, 'line with other letters was', 'lines with other letters were')} read as latin-1. "
            "If names look wrong, export the file again as UTF-8"
        )
    if rejected:
        said.append(
            f"{source.file}: {rejected:,} of {read:,} rows cannot be read; each stands in headwater.file_rejects with line, "
            "value and what to do"
        )
    if form is not None and not form.header:
        said.append(
            f"{source.file} is empty: not even a header. Put the file's content there, or take it out of the mapping"
        )
    elif not read:
        said.append(f"{source.file} has a header and no row")
    return said


def _is_parquet(path: Path) -> bool:
    with path.open("rb") as file:
        found = file.read(4) == b"PAR1"
    if path.name.lower().endswith(".parquet") and not found:
        raise DataError(f"{path.name} is named .parquet and is no Parquet file. Export it again")
    return found


def _scanned(path: Path) -> str:
    """The path as a text literal, letters that DuckDB reads as a pattern taken literally."""
    return _text("".join(f"[{letter}]" if letter in "*?[" else letter for letter in str(path)))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200]


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _list(parts: Iterable[str | None]) -> str:
    kept = [part for part in parts if part is not None]
    return "".join(f"{part}, " for part in kept)


def table_name(file: str) -> str:
    """The raw table of a file: its name in lower snake case without endings, `f_` before a digit."""
    stem = re.sub(r"(\.(csv|tsv|txt|parquet|gz))+$", "", file.rsplit("/", 1)[-1], flags=re.IGNORECASE)
    stem = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", stem)
    slug = re.sub(r"[^a-z0-9]+", "_", stem.lower()).strip("_") or "file"
    return f"f_{slug}" if slug[0].isdigit() else slug
