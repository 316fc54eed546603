"""From `mapping.yml` to dbt models: what every mart builds on, with every bad row accounted for.

For each mapped entity three models are made:

    stg_<entity>__checked    view: every row of its files, converted, with what is wrong (`_reasons`) or mended (`_repairs`)
    stg_<entity>__findings   table: only the rows with something found, repeats of a key included; `_outcome` is
                             quarantined, collapsed (an exact repeat) or kept (mended)
    stg_<entity>             view: the entity's columns; checked rows without those that the findings keep out
                             (events and customers: these rows stand in stg_<entity>__files, and stg_<entity> adds what
                             the collector landed, see `landed`)

The checks run once, for the findings; `stg_<entity>` is a scan with conversions and an anti-join to a small table. Entities
that the shop does not have are empty views. Over all: `quarantined_rows` (one row per bad row and reason) and `row_counts`
(read = kept + orphaned + quarantined + collapsed + excluded + unreadable, per entity, in rows and in money; a test holds it
to that).

`render` is pure; `write` puts the files into a project and refuses to overwrite one that was edited by hand.
"""

import hashlib
import re
from collections.abc import Iterable
from collections.abc import Mapping as Dictionary
from pathlib import Path

from headwater.collect import checks, counts, descriptions, landed
from headwater.collect.mapping import FILE, Mapping
from headwater.collect.parts import PartSql, Types, name, quote
from headwater.errors import ConfigError
from headwater.records.entities import ENTITIES, SQL_TYPES, Entity
from headwater.records.files import FileProfile

FOLDER = "models/staging"
COUNTS_TEST = "tests/staging_counts_conserved.sql"

_MADE = f"Made by Headwater from {FILE}; change that file, not this one (digest "
_HEADER = re.compile(rf"^(?:--|#) {re.escape(_MADE)}([0-9a-f]{{12}})\)\n")


def types_of(profiles: Iterable[FileProfile]) -> dict[str, dict[str, str]]:
    """Column types by raw table, as `warehouse.files.raw_types` gives them once the files are loaded."""
    return {
        p.table: {c.name: c.sql_type for c in p.columns} | {"_file": "VARCHAR", "_line": "BIGINT"}
        for p in profiles
        if p.columns
    }


def render(mapping: Mapping, types: Types | None = None) -> dict[str, str]:
    """The generated files, path within the project to text. The same mapping and types give the same texts.

    `types` (raw table to column to SQL type) spares conversions that the columns do not need; without them the models
    give the same rows, only slower.
    """
    parts = _parts(mapping, types)
    files: dict[str, str] = {}
    for entity in ENTITIES.values():
        if entity.name in landed.LANDED:
            files[f"{FOLDER}/stg_{entity.name}.sql"] = landed.staged(entity)
        own = f"{FOLDER}/{landed.file_model(entity.name)}.sql"
        if entity.name not in parts:
            files[own] = _empty(entity)
            continue
        files[f"{FOLDER}/stg_{entity.name}__checked.sql"] = checks.checked(entity, parts[entity.name])
        files[f"{FOLDER}/stg_{entity.name}__findings.sql"] = checks.findings(entity, parts[entity.name])
        files[own] = checks.staged(entity, parts[entity.name])
    files[f"{FOLDER}/quarantined_rows.sql"] = counts.quarantined_rows(parts)
    files[f"{FOLDER}/row_counts.sql"] = counts.row_counts(parts)
    files[COUNTS_TEST] = counts.conserved()
    files[f"{FOLDER}/_raw.yml"] = descriptions.raw(mapping)
    files[f"{FOLDER}/_staging.yml"] = descriptions.models(mapping)
    return {path: _signed(path, body) for path, body in files.items()}


def write(files: Dictionary[str, str], project: Path) -> list[str]:
    """Put the rendered files into the project; the answer names those that changed (removed ones included).

    Raises ConfigError, before anything is written, when a file was edited by hand since it was made.
    """
    stale = [
        str(path.relative_to(project))
        for path in sorted((project / FOLDER).glob("*"))
        if path.is_file() and str(path.relative_to(project)) not in files and _made_digest(path) is not None
    ]
    edited = [path for path in [*files, *stale] if (project / path).exists() and not _untouched(project / path)]
    if edited:
        raise ConfigError(
            f"edited by hand, but made from {FILE}: {', '.join(edited)}. Say the same in {FILE} or in a model of your own, "
            "then delete these files and run again; they are made anew"
        )
    changed = []
    for path, body in files.items():
        target = project / path
        if target.exists() and target.read_text(encoding="utf-8") == body:
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        aside = target.with_name(target.name + ".new")
        aside.write_text(body, encoding="utf-8")
        aside.replace(target)
        changed.append(path)
    for path in stale:
        (project / path).unlink()
    return changed + stale


def as_of_sql(mapping: Mapping, types: Types | None = None) -> str:
    """One row, one column: the newest moment of an order or event in the raw tables, at most the time of the load.

    Moments that lie more than a day after the load are wrong and left out (they are quarantined). Without orders and
    events it is the time of the load. Where the collector has landed anything, it is the newest of this, of what was
    landed, and of the clock as it stands: it never goes back behind what live models have seen.
    """
    moments = []
    for entity, column in (("orders", "ordered_at"), ("events", "occurred_at")):
        for part in _parts(mapping, types).get(entity, ()):
            field = next(f for f in part.fields if f.name == column)
            source = part.source(lambda table: f"raw.{name(table)}")
            loaded = f"(select max(loaded_at) from headwater.file_loads where raw_table = {quote(part.part.table)})"
            moments.append(
                f"select max(moment) as moment from (select {field.converted} as moment from "
                f"(select {field.read} as {field.given} {source}) as given) as moments "
                f"where moment <= {loaded} + interval 1 day"
            )
    loaded = "(select max(loaded_at) from headwater.file_loads)"
    files = loaded
    if moments:
        newest = f"select least(max(moment), {loaded}) from ({' union all '.join(moments)}) as newest"
        files = f"coalesce(({newest}), {loaded})"
    landed_at = landed.newest_moment()
    return (
        f"select case when {landed_at} is null then {files} "
        f"else greatest({files}, {landed_at}, (select max(as_of) from headwater.clock)) end as as_of"
    )


def _parts(mapping: Mapping, types: Types | None) -> dict[str, list[PartSql]]:
    return {
        entity.name: [PartSql(entity, part, types or {}) for part in mapping.entities[entity.name]]
        for entity in ENTITIES.values()
        if mapping.entities.get(entity.name)
    }


def _empty(entity: Entity) -> str:
    columns = ",\n".join(f"    cast(null as {SQL_TYPES[field.type]}) as {field.name}" for field in entity.fields)
    return f"{{{{ config(materialized='view') }}}}\n\nselect\n{columns}\nwhere false\n"


def _signed(path: str, body: str) -> str:
    mark = "#" if path.endswith(".yml") else "--"
    return f"{mark} {_MADE}{_digest(body)})\n{body}"


def _digest(body: str) -> str:
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def _made_digest(path: Path) -> str | None:
    try:
        found = _HEADER.match(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return None
    return found[1] if found else None


def _untouched(path: Path) -> bool:
    text = path.read_text(encoding="utf-8")
    found = _HEADER.match(text)
    return found is not None and found[1] == _digest(text[found.end() :])
