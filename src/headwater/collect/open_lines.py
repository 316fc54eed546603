"""What recognition could not settle, as sentences and as YAML that waits for a hand."""

from collections.abc import Sequence
from dataclasses import replace

from headwater.collect.columns import match
from headwater.collect.mapping import MADE_KEYS, OpenLine, Part, part_lines
from headwater.records.entities import ENTITIES
from headwater.records.files import FileProfile

BLANK = "<column>"
_SHOWN = 15


def listed(file: FileProfile, without: Sequence[str] = ()) -> str:
    """The columns of a file with what they look like; at most a screenful of them."""
    names = [f"{column.name} ({column.kind})" for column in file.columns if column.name not in without]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def unrecognised(file: FileProfile) -> OpenLine:
    """A file of which nothing was made."""
    return OpenLine(
        file.file,
        f"not recognised as anything; its columns: {listed(file)}. If it holds something, fill in a block below (from: {file.table})",
    )


def empty_block(entity: str, rest: Sequence[FileProfile]) -> OpenLine:
    """No file was recognised as the entity: a block to fill."""
    made = {ENTITIES[entity].key} if entity in MADE_KEYS else set()
    fields = {column: BLANK for column in ENTITIES[entity].required if column not in made}
    if entity == "orders":
        fields = {"order_id": BLANK, "customer_id": BLANK, "ordered_at": BLANK}
    return OpenLine(
        entity,
        f"no file was recognised as {entity}. If one is, name its columns here and take the # away",
        (f"  {entity}:", *part_lines(Part(rest[0].table if rest else "<file>", fields))),
    )


def incomplete_block(
    entity: str, file: FileProfile, part: Part, missing: Sequence[str], hints: dict[str, str]
) -> OpenLine:
    """All but some columns of the entity were found: the block is written, only the missing lines are to be filled."""
    found = {**part.fields, **{name: hints.get(name, BLANK) for name in missing}}
    fields = {column: found[column] for column in ENTITIES[entity].columns if column in found}
    free = listed(file, [column.name for column in match(file, entity).values()])
    return OpenLine(
        entity,
        f"{file.file} looks like {entity}, but no column was recognised as {' and '.join(missing)}"
        + (f" (others: {free})" if free else "")
        + "; fill in and take the # away",
        (f"  {entity}:", *part_lines(replace(part, fields=fields))),
    )
