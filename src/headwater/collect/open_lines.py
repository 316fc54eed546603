"""What recognition could not settle, as sentences and as YAML that waits for a hand."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from headwater.collect.columns import match
from headwater.collect.mapping import FURTHER, MADE_KEYS, OpenLine, Part, part_lines
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


def known_part(part: Part, missing: Sequence[str], hints: Mapping[str, str]) -> Part:
    """The part of an open block, with the fields of which the column is known and only to be checked."""
    return replace(part, fields={**part.fields, **{name: hints[name] for name in missing if name in hints}})


def incomplete_block(
    entity: str,
    found: Sequence[tuple[FileProfile, Part, Sequence[str], dict[str, str]]],
    tables: Sequence[Sequence[str]],
    *,
    further: bool,
) -> OpenLine:
    """All but some columns of the entity were found: the block is written, only the missing lines are to be filled.

    Each of `found` is a file with its part, the fields that are open, and for those whose column is known but can be read in
    two ways the first way; `tables` are the raw tables that each stands for. `further`: other files fill the entity already.
    """
    several = further or len(found) > 1
    sentences, lines = [], [] if further else [f"  {entity}:"]
    for (file, part, missing, hints), alike in zip(found, tables, strict=True):
        values = {**part.fields, **{name: hints.get(name, BLANK) for name in missing}}
        fields = {column: values[column] for column in ENTITIES[entity].columns if column in values}
        lines += part_lines(replace(part, fields=fields), alike, several=several)
        blank = [name for name in missing if name not in hints]
        free = listed(file, [column.name for column in match(file, entity).values()])
        reasons = []
        if blank:
            reasons.append(
                f"no column was recognised as {' and '.join(blank)}" + (f" (others: {free})" if free else "")
            )
        if hints:
            named = " and ".join(f"{match(file, entity)[name].name} ({name})" for name in hints)
            reasons.append(f"{named} can be read in two ways, and the first stands here")
        todo = "fill in and take the # away" if blank else "check it and take the # away"
        sentences.append(f"{file.file} looks like {entity}, but {'; '.join(reasons)}; {todo}")
    return OpenLine(entity, ". ".join(sentences), tuple(lines), FURTHER if further else "")
