"""A person's rows taken out of the files that Headwater writes: exports, outbox, published segments, snapshots.

    .csv              the rows that name the person go, the others stay as they are
    .parquet          the same, written anew
    .json (a list)    its items that name the person go; an outbox file of the format json is one
    .duckdb, .part    published snapshots and unfinished copies go as a whole: compression hides what they hold
    .tmp, .block      so do DuckDB's temporary files, which a kill leaves behind
    anything else     the file goes as a whole when it names the person (the report, plans): `made_again` says by what

Each file is replaced by renaming, so nobody reads half of one. Files of the user's own are never touched: `mentions` finds
those that still name the person, for the receipt.
"""

import csv
import io
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headwater.live.traces import Person
from headwater.warehouse.connection import Warehouse

OURS = ("bi", "outbox", "warehouse", "target", "logs")
"""Folders of a project in which every file is made by Headwater."""
OUR_FILES = ("seeds/customer_segments.csv",)
_NEVER_KEPT = (".duckdb", ".part", ".new", ".tmp", ".block")
_NOT_READ = (".skops", ".wal", ".lock", ".key", ".sock", ".pid")
_ID_COLUMNS = (
    "customer_id",
    "user_id",
    "customerid",
    "userid",
    "person_id",
    "anonymous_id",
    "key",
    "_headwater_key",
    "external_id",
)


@dataclass(frozen=True)
class Scrubbed:
    """One file: rows taken out of it, or None when it was removed as a whole."""

    file: str
    rows: int | None


def scrub(warehouse: Warehouse, folder: Path, person: Person, *, keep: frozenset[Path] = frozenset()) -> list[Scrubbed]:
    """Clean every file of ours under `folder` but `keep`; says which had to be changed. Running it again changes nothing."""
    done = []
    for path in ours(folder):
        if path in keep or path.suffix in _NOT_READ:
            continue
        rows = _clean(warehouse, path, person)
        if rows != 0:
            done.append(Scrubbed(str(path.relative_to(folder)), rows))
    return done


_MADE_BY = (
    ("bi/", "`headwater export` makes it again"),
    ("outbox/plans/", "`headwater plan` makes it again"),
    ("outbox/", "the next `headwater activate` writes what is due then"),
    ("warehouse/published/", "`headwater up` publishes the next one by itself"),
    ("target/", "`headwater build` makes it again"),
    ("seeds/", "`headwater segment assign` makes it again"),
)


def made_again(file: str) -> str:
    """What makes a file anew that was removed as a whole; such a file holds nothing that is not in the warehouse."""
    whole = (said for place, said in _MADE_BY if file.startswith(place) and not file.endswith((".part", ".new")))
    return next(whole, "nothing needs it any more")


def mentions(folder: Path, person: Person, *, skip: frozenset[Path] = frozenset()) -> list[str]:
    """Every file under `folder` whose bytes hold a word that names the person, whoever wrote it; paths within the folder."""
    found = []
    words = [word.encode() for word in person.words if len(word) > 4]
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path not in skip and ".git" not in path.relative_to(folder).parts:
            body = path.read_bytes()
            if any(word in body for word in words):
                found.append(str(path.relative_to(folder)))
    return found


def ours(folder: Path) -> Iterator[Path]:
    """The files that Headwater wrote."""
    for name in OURS:
        yield from sorted(path for path in (folder / name).rglob("*") if path.is_file() and not path.is_symlink())
    yield from (folder / name for name in OUR_FILES if (folder / name).is_file())


def _clean(warehouse: Warehouse, path: Path, person: Person) -> int | None:
    if path.suffix == ".parquet":
        return _parquet(warehouse, path, person)
    if path.suffix in _NEVER_KEPT:
        path.unlink()
        return None
    text = path.read_bytes().decode("utf-8", "replace")
    if path.suffix == ".csv":
        return _csv(path, text, person)
    if path.suffix == ".json":
        return _json(path, text, person)
    if not person.pattern(text):
        return 0
    path.unlink()
    return None


def _csv(path: Path, text: str, person: Person) -> int:
    rows = list(csv.reader(io.StringIO(text, newline="")))
    if not rows:
        return 0
    holds, words = person.pattern, {*person.words, *person.person_ids}
    ids = [number for number, name in enumerate(rows[0]) if name.lower() in _ID_COLUMNS]

    def names(row: list[str]) -> bool:
        return any(number < len(row) and row[number] in words for number in ids) or any(map(holds, row))

    kept = [rows[0], *(row for row in rows[1:] if not names(row))]
    if len(kept) < len(rows):
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator="\r\n" if text.count("\r\n") > text.count("\n") / 2 else "\n").writerows(kept)
        _replace(path, out.getvalue())
    return len(rows) - len(kept)


def _json(path: Path, text: str, person: Person) -> int | None:
    if not person.pattern(text):
        return 0
    try:
        items: Any = json.loads(text)
    except ValueError:
        items = None
    if not isinstance(items, list):
        path.unlink()
        return None
    kept = [item for item in items if not person.pattern(json.dumps(item, ensure_ascii=False))]
    _replace(path, "[\n" + ",\n".join(json.dumps(item, ensure_ascii=False) for item in kept) + "\n]\n")
    return len(items) - len(kept)


def _parquet(warehouse: Warehouse, path: Path, person: Person) -> int:
    read = f"read_parquet({_text(path)})"
    columns = [row[0] for row in warehouse.execute(f"describe select * from {read}").fetchall() if row[1] == "VARCHAR"]
    own = [column for column in columns if column.lower() in _ID_COLUMNS]
    words = [*person.words, *person.person_ids]
    distinct = [word for word in words if person.pattern(word)]
    parts = [f"list_contains($distinct, {_name(column)})" for column in columns]
    parts += [f"list_contains($words, {_name(column)})" for column in own]
    if not parts:
        return 0
    where = " or ".join(f"coalesce({part}, false)" for part in parts)
    used = {"distinct": distinct} | ({"words": words} if own else {})
    count = int(warehouse.value(f"select count(*) from {read} where {where}", used))
    if count:
        aside = path.with_name(f".{path.name}.part")
        warehouse.execute(f"copy (select * from {read} where not ({where})) to {_text(aside)} (format parquet)", used)
        aside.replace(path)
    return count


def _replace(path: Path, text: str) -> None:
    aside = path.with_name(f".{path.name}.part")
    with aside.open("w", encoding="utf-8", newline="") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())
    aside.replace(path)


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def _name(column: str) -> str:
    return '"' + column.replace('"', '""') + '"'
