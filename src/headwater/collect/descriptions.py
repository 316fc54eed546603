"""What dbt docs say of the generated models, and the tests on them."""

from typing import Any

import yaml

from headwater.collect import counts, landed
from headwater.collect.mapping import Mapping
from headwater.records.entities import ENTITIES, SQL_TYPES, Entity

_PLACE = {
    "_row": "number of the row among all files of the entity",
    "_table": "raw table of the row",
    "_file": "file of the row",
    "_line": "line of the file on which the row starts; the row's number for Parquet",
}
_FOUND = {
    "_reasons": "what is wrong: a list of column_name, value, reason, advice; empty when nothing is",
    "_repairs": "what was mended, one sentence each; empty when nothing was",
    "_amount": "money of the row in the shop's currency, null where it has none or it cannot be read",
}


def raw(mapping: Mapping) -> str:
    """The source `raw`: one table per file."""
    tables = [
        {
            "name": table,
            "description": f"One row per row of the file {mapping.files[table].path}, as it stands there.",
            "config": {
                "loaded_at_query": f"select max(loaded_at) from headwater.file_loads where raw_table = '{table}'",
                "freshness": {"warn_after": {"count": 7, "period": "day"}},
            },
            "columns": [
                {"name": name, "description": f"{text[0].upper()}{text[1:]}."}
                for name, text in list(_PLACE.items())[2:]
            ],
        }
        for table in mapping.tables()
    ]
    if not tables:
        return "version: 2\n"
    source = {
        "name": "raw",
        "schema": "raw",
        "description": "The shop's files, loaded by `headwater seed`.",
        "tables": tables,
    }
    return _yaml({"version": 2, "sources": [source]})


def models(mapping: Mapping) -> str:
    """Grain, columns and tests of the generated models."""
    listed: list[dict[str, Any]] = []
    for entity in ENTITIES.values():
        listed.append(_staged(entity))
        if entity.name in landed.LANDED:
            listed.append(_staged(entity) | {"name": landed.file_model(entity.name), "description": _of_files(entity)})
        if mapping.entities.get(entity.name):
            listed += [_checked(entity), _findings(entity)]
    listed.append(
        _model(
            "quarantined_rows",
            "One row per row of a file that was left out, and reason why (a row may have several).",
            {
                "entity": "entity that the row was read for",
                "file": "file of the row",
                "line": "line of the file, from 1",
                "column_name": "column of the file (or of the entity, for keys)",
                "value": "what stands there, at most 200 characters",
                "reason": "what is wrong with it",
                "advice": "what to do",
            },
            ("entity", "file", "line", "reason", "advice"),
        )
    )
    listed.append(
        _model(
            "row_counts",
            f"One row per entity, outcome and reason. read = {' + '.join(counts.PLACES)}, in rows and in money; a row with several "
            "reasons counts under its first. For information, of kept rows: repaired, netted, duplicate, unattributed, ended.",
            {
                "entity": "entity",
                "outcome": f"read; {', '.join(counts.PLACES)}; repaired, netted, duplicate, unattributed, ended",
                "reason": "why, empty where the outcome says it all",
                "row_count": "rows of the file (kept: rows of the staging model; order_lines: those whose order is there)",
                "amount": "their money in the shop's currency, null where they have none",
            },
            ("outcome", "row_count"),
        )
    )
    return _yaml({"version": 2, "models": listed})


def _staged(entity: Entity) -> dict[str, Any]:
    columns = []
    for field in entity.fields:
        column: dict[str, Any] = {
            "name": field.name,
            "description": f"{field.text[0].upper()}{field.text[1:]}.",
            "data_type": SQL_TYPES[field.type],
        }
        tests = (["unique"] if field.name == entity.key else []) + (["not_null"] if field.required else [])
        if tests:
            column["data_tests"] = tests
        columns.append(column)
    return {"name": f"stg_{entity.name}", "description": f"One row per {entity.grain}.", "columns": columns}


def _of_files(entity: Entity) -> str:
    return f"One row per {entity.grain}, as the shop's files have it; stg_{entity.name} adds what the collector landed."


def _checked(entity: Entity) -> dict[str, Any]:
    return _model(
        f"stg_{entity.name}__checked",
        f"One row per row of the files that fill {entity.name}, good or bad, converted.",
        _PLACE | _FOUND,
        ("_row",),
    )


def _findings(entity: Entity) -> dict[str, Any]:
    return _model(
        f"stg_{entity.name}__findings",
        f"One row per row of the files that fill {entity.name} of which something is to be said.",
        _PLACE
        | {"_key": f"{entity.key} of the row", "_outcome": "quarantined, collapsed (an exact repeat) or kept (mended)"}
        | _FOUND,
        ("_row", "_outcome"),
    )


def _model(name: str, text: str, columns: dict[str, str], never_null: tuple[str, ...]) -> dict[str, Any]:
    listed = []
    for column, described in columns.items():
        entry: dict[str, Any] = {"name": column, "description": f"{described[0].upper()}{described[1:]}."}
        if column in never_null:
            entry["data_tests"] = ["not_null"]
        listed.append(entry)
    return {"name": name, "description": text, "columns": listed}


def _yaml(content: dict[str, Any]) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=120)
