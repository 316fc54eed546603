"""`mapping.yml`: which columns of which files fill which entity. Short, written by `init`, meant to be edited.

    folder: ../exports                 where the files are, relative to the project
    files:                             raw table: file (or {path, delimiter, encoding})
      sales: Sales.csv
    mask:                              raw table.column: hash | constant | drop (before it is stored anywhere)
      sales.email: hash
    entities:
      orders:                          an entity, or a list of them when several files fill it
        from: sales
        join: {people: sales.person = people.id}       columns of a joined file are written people.name
        where: kind <> 'test'                          rows that do not count; they are counted as excluded
        collapse: first                                several rows per key: the first (or last) value of each field
        by: placed                                     … in the order of this moment; else in the order of the file
        fields:
          order_id: sale || '-' || person              SQL over the columns of the file, DuckDB's dialect
          ordered_at: strptime(placed, '%d.%m.%Y')     a value that cannot be converted is a quarantined row
    mql_score: {from: scores, event_name: event, mql_score: points}     fills the seed mql_score at `init`

Keys that a file often lacks are made: order_line_id and event_id from the position in the file, ad_spend_id,
product_price_id and campaign_response_id from the columns that make them up. `_file` and `_line` may be used like columns.
"""

import difflib
from collections.abc import Iterable, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from headwater.collect import expressions
from headwater.errors import ConfigError
from headwater.records.entities import ENTITIES
from headwater.records.files import MASKS, FileSource, Mask
from headwater.settings import read_yaml

FILE = "mapping.yml"
Collapse = Literal["first", "last"]
Negative = Literal["refund", "quarantine"]

FURTHER = "*"
"""`OpenLine.within` of a further part of an entity."""

MADE_KEYS: dict[str, str | None] = {
    "order_lines": None,
    "events": None,
    "ad_spend": "cast({spent_on} as varchar) || '/' || {channel} || '/' || coalesce({campaign_id}, '')",
    "product_prices": "{product_id} || '@' || cast({valid_from} as varchar)",
    "campaign_responses": "{campaign_id} || '/' || {customer_id} || '/' || cast({sent_at} as varchar)",
}
"""Entities whose key may be left out: None = from the position in the file, else SQL over the entity's own columns."""


@dataclass(frozen=True)
class Part:
    """What one file brings to one entity. `fields` maps the entity's columns to SQL over the file's."""

    table: str
    fields: Dictionary[str, str]
    where: str | None = None
    join: Dictionary[str, str] = field(default_factory=dict)
    collapse: Collapse | None = None
    by: str | None = None
    negative_quantity: Negative = "quarantine"


@dataclass(frozen=True)
class OpenLine:
    """Something that could not be mapped: a sentence, and the lines of YAML that would close it (to be mended by hand).

    The lines stand as comments where they belong, the # in place of nothing: taken away, valid YAML is left. Without `within`
    they are a block of their own at the end. `within` is a raw table: they are keys of the subject's part that is made from
    it. `within` FURTHER: they are one more part of the subject.
    """

    subject: str
    sentence: str
    lines: tuple[str, ...] = ()
    within: str = ""

    @property
    def entity(self) -> str:
        return self.subject.split(".")[0]


@dataclass(frozen=True)
class SeedSource:
    """A file that holds the lead scores: its raw table and the two columns."""

    table: str
    event_name: str
    mql_score: str


@dataclass(frozen=True)
class FileEntry:
    """Where a raw table comes from."""

    path: str
    delimiter: str | None = None
    encoding: str | None = None


@dataclass(frozen=True)
class Mapping:
    """A whole mapping. `notes` are assumptions that were made, by entity; `currency` is the code that most orders carry.

    `notes`, `open` and `currency` belong to the proposal and are not read back from the file.
    """

    folder: str = "."
    files: Dictionary[str, FileEntry] = field(default_factory=dict)
    entities: Dictionary[str, tuple[Part, ...]] = field(default_factory=dict)
    mask: Dictionary[str, Mask] = field(default_factory=dict)
    mql_score: SeedSource | None = None
    notes: tuple[tuple[str, str], ...] = ()
    open: tuple[OpenLine, ...] = ()
    currency: str | None = None

    def tables(self) -> tuple[str, ...]:
        """The raw tables that the mapping uses, in the order of `files`."""
        used = {part.table for parts in self.entities.values() for part in parts}
        used |= {table for parts in self.entities.values() for part in parts for table in part.join}
        return tuple(table for table in self.files if table in used)

    def columns(self, table: str) -> tuple[str, ...]:
        """The columns of a raw table that the mapping uses, in the order in which they are named."""
        return self._columns(table, needed=False)

    def needed(self, table: str) -> tuple[str, ...]:
        """Those of `columns` without which no row could be read rightly: of required fields, of `where`, of joins."""
        return self._columns(table, needed=True)

    def _columns(self, table: str, *, needed: bool) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for entity, part in ((name, part) for name, parts in self.entities.items() for part in parts):
            if table != part.table and table not in part.join:
                continue
            required = ENTITIES[entity].required
            texts = [text for name, text in part.fields.items() if name in required or not needed]
            texts += [text for text in (part.where, None if needed else part.by, *part.join.values()) if text]
            for column in (column for text in texts for column in expressions.columns(text)):
                if (column.table or part.table) == table and column.name.lower() not in ("_file", "_line"):
                    found.setdefault(column.name)
        return tuple(
            {name.lower(): name for name in reversed(found)}[low] for low in dict.fromkeys(n.lower() for n in found)
        )

    def sources(self, project: Path) -> dict[str, FileSource]:
        """What `warehouse.files.load` needs: every raw table that the mapping uses, with its masks and columns."""
        answer = {}
        for table in self.tables():
            entry = self.files[table]
            masks = {key.split(".", 1)[1]: mask for key, mask in self.mask.items() if key.split(".", 1)[0] == table}
            answer[table] = FileSource(
                (project / self.folder / entry.path).resolve(), entry.path, masks, self.columns(table),
                entry.delimiter, entry.encoding, self.needed(table),
            )  # fmt: skip
        return answer

    def masked_fields(self) -> frozenset[str]:
        """The entities' columns that are made from a masked column; no sync may map one."""
        masked = {key.lower() for key in self.mask}
        return frozenset(
            name
            for part in (part for parts in self.entities.values() for part in parts)
            for name, text in part.fields.items()
            if any(
                f"{column.table or part.table}.{column.name}".lower() in masked for column in expressions.columns(text)
            )
        )

    def seed(self, project: Path) -> tuple[Path, dict[str, str]] | None:
        """What `warehouse.files.write_seed` needs for the seed mql_score: the file, and the seed's columns by name."""
        if self.mql_score is None:
            return None
        path = (project / self.folder / self.files[self.mql_score.table].path).resolve()
        return path, {"event_name": self.mql_score.event_name, "mql_score": self.mql_score.mql_score}

    def sentences(self) -> list[str]:
        """What `init` says: what is mapped, what was assumed, what is open."""
        said = []
        for name in ENTITIES:
            parts = self.entities.get(name, ())
            if parts:
                files = ", ".join(dict.fromkeys(self.files[part.table].path for part in parts))
                said.append(f"{name}: {len({f for p in parts for f in p.fields})} columns from {files}")
        if self.mql_score:
            said.append(f"seed mql_score: from {self.files[self.mql_score.table].path}")
        said += [f"{entity}: {text}" for entity, text in self.notes]
        said += [f"open, {line.subject}: {line.sentence}" for line in self.open]
        return said


def read(path: Path) -> Mapping:
    """The mapping in the file `path`.

    Raises ConfigError with all problems of the file at once: place, what was found, what is allowed.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist; it says which columns of your files are what. Make it with `headwater init NAME --from FOLDER`"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not valid YAML: {error}") from error
    problems: list[str] = []
    mapping = _Reader(problems).mapping(raw)
    if problems:
        raise ConfigError("\n".join([f"{path} has {len(problems)} problem(s):", *(f"  {text}" for text in problems)]))
    return mapping


def write(mapping: Mapping, path: Path) -> None:
    """Write the mapping, its notes and its open lines; the same mapping always gives the same bytes."""
    path.write_text(text(mapping), encoding="utf-8")


class _Reader:
    """Reads one document and collects every problem in `problems`."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems

    def mapping(self, raw: Any) -> Mapping:
        if not isinstance(raw, dict):
            self.problems.append(f"found {type(raw).__name__}, expected the keys {', '.join(_TOP)}")
            return Mapping()
        self.known("", raw, _TOP)
        files = self.files(raw.get("files") or {})
        entities: dict[str, tuple[Part, ...]] = {}
        given = self.table("entities", raw.get("entities") or {})
        for name in given:
            if name not in ENTITIES:
                self.problems.append(f"entities.{name}: there is no such entity{_near(name, ENTITIES)}")
        for name in ENTITIES:
            if name in given and given[name] is not None:
                entities[name] = self.entity(name, given[name], files)
        return Mapping(
            folder=str(raw.get("folder") or "."), files=files, entities=entities,
            mask=self.masks(raw.get("mask") or {}, files), mql_score=self.seed(raw.get("mql_score"), files),
        )  # fmt: skip

    def files(self, raw: Any) -> dict[str, FileEntry]:
        answer = {}
        for name, value in self.table("files", raw).items():
            if not (
                isinstance(name, str) and name.replace("_", "").isalnum() and name == name.lower() and name.isascii()
            ):
                self.problems.append(f"files.{name}: a raw table is named in lower case letters, digits and _")
            if isinstance(value, str):
                answer[name] = FileEntry(value)
            elif isinstance(value, dict) and isinstance(value.get("path"), str):
                self.known(f"files.{name}", value, ("path", "delimiter", "encoding"))
                answer[name] = FileEntry(value["path"], value.get("delimiter"), value.get("encoding"))
            else:
                answer[name] = FileEntry("")
                self.problems.append(
                    f"files.{name}: found {value!r}, expected a file name or {{path, delimiter, encoding}}"
                )
        return answer

    def masks(self, raw: Any, files: Dictionary[str, FileEntry]) -> dict[str, Mask]:
        answer: dict[str, Mask] = {}
        for key, value in self.table("mask", raw).items():
            table, dot, column = str(key).partition(".")
            if not dot or not column:
                self.problems.append(f"mask.{key}: expected a key like table.column")
            elif table not in files:
                self.problems.append(f"mask.{key}: there is no file named {table!r} under files{_near(table, files)}")
            if value not in MASKS:
                self.problems.append(f"mask.{key}: found {value!r}, expected one of {', '.join(MASKS)}")
            else:
                answer[str(key)] = value
        return answer

    def seed(self, raw: Any, files: Dictionary[str, FileEntry]) -> SeedSource | None:
        if raw is None:
            return None
        raw = self.table("mql_score", raw)
        self.known("mql_score", raw, ("from", "event_name", "mql_score"))
        for key in ("from", "event_name", "mql_score"):
            if not isinstance(raw.get(key), str):
                self.problems.append(f"mql_score.{key}: found {raw.get(key)!r}, expected a name")
        if isinstance(raw.get("from"), str) and raw["from"] not in files:
            self.problems.append(
                f"mql_score.from: there is no file named {raw['from']!r} under files{_near(raw['from'], files)}"
            )
        return SeedSource(str(raw.get("from")), str(raw.get("event_name")), str(raw.get("mql_score")))

    def entity(self, name: str, raw: Any, files: Dictionary[str, FileEntry]) -> tuple[Part, ...]:
        several = isinstance(raw, list)
        parts = []
        for position, part in enumerate(raw if several else [raw], 1):
            place = f"entities.{name}" + (f"[{position}]" if several else "")
            if not isinstance(part, dict):
                self.problems.append(f"{place}: found {part!r}, expected the keys {', '.join(_PART)}")
                continue
            parts += self.parts(place, name, part, files)
        if len({part.collapse for part in parts}) > 1:
            self.problems.append(f"entities.{name}: all files of one entity must say the same `collapse`")
        return tuple(parts)

    def parts(self, place: str, name: str, raw: dict[str, Any], files: Dictionary[str, FileEntry]) -> list[Part]:
        self.known(place, raw, _PART)
        tables = raw.get("from")
        tables = tables if isinstance(tables, list) else [tables]
        join = self.table(f"{place}.join", raw.get("join") or {})
        for key, table in [*(("from", table) for table in tables), *(("join", table) for table in join)]:
            if not isinstance(table, str) or table not in files:
                self.problems.append(
                    f"{place}.{key}: there is no file named {table!r} under files{_near(str(table), files)}"
                )
        entity = ENTITIES[name]
        fields: dict[str, str] = {}
        for column, sql in self.table(f"{place}.fields", raw.get("fields") or {}).items():
            if column not in entity.columns:
                self.problems.append(
                    f"{place}.fields.{column}: {name} has no such column{_near(str(column), entity.columns)}"
                )
            elif self.sql(f"{place}.fields.{column}", sql):
                fields[column] = str(sql)
        made = {entity.key} if name in MADE_KEYS else set()
        for column in entity.required:
            if column not in fields and column not in made and column not in (raw.get("fields") or {}):
                self.problems.append(
                    f"{place}.fields.{column}: missing and required; add the line `{column}: <SQL over the file's columns>`"
                )
        for key in ("where", "by"):
            if raw.get(key) is not None:
                self.sql(f"{place}.{key}", raw[key])
        for table, condition in join.items():
            self.condition(f"{place}.join.{table}", str(table), condition)
        for key, allowed in (("collapse", ("first", "last")), ("negative_quantity", ("refund", "quarantine"))):
            if raw.get(key) is not None and raw[key] not in allowed:
                self.problems.append(f"{place}.{key}: found {raw[key]!r}, expected {' or '.join(allowed)}")
        if raw.get("negative_quantity") is not None and name != "order_lines":
            self.problems.append(f"{place}.negative_quantity: only order_lines have a quantity")
        part = Part(
            "", {column: fields[column] for column in entity.columns if column in fields}, raw.get("where"),
            {str(table): str(condition) for table, condition in join.items()}, raw.get("collapse"), raw.get("by"),
            raw.get("negative_quantity") or "quarantine",
        )  # fmt: skip
        return [replace(part, table=str(table)) for table in tables]

    def sql(self, place: str, value: Any) -> bool:
        problem = expressions.problem(value)
        if problem:
            self.problems.append(f"{place}: {problem}")
        return problem is None

    def condition(self, place: str, table: str, value: Any) -> None:
        if self.sql(place, value) and not expressions.equalities(str(value), table):
            self.problems.append(
                f"{place}: found {value!r}, expected equalities like `orders.person = {table}.id`, joined by `and`, each with a column of {table}"
            )

    def table(self, place: str, raw: Any) -> dict[Any, Any]:
        if isinstance(raw, dict):
            return raw
        self.problems.append(f"{place}: found {raw!r}, expected keys and values")
        return {}

    def known(self, place: str, raw: dict[Any, Any], keys: Iterable[str]) -> None:
        for key in raw:
            if key not in keys:
                self.problems.append(f"{place + '.' if place else ''}{key}: no such key{_near(str(key), keys)}")


_TOP = ("folder", "files", "mask", "entities", "mql_score")
_PART = ("from", "join", "where", "collapse", "by", "negative_quantity", "fields")


def _near(name: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(known) or 'none'}"


def text(mapping: Mapping) -> str:
    """The mapping as YAML with comments."""
    out = [
        "# Which columns of your files are what. Made by `headwater init`, yours to edit; `headwater run` reads it again.",
        "# Each field is an SQL expression (DuckDB) over the columns of its file.",
        *(
            ["# Lines that begin with a # and no blank wait to be taken in: take the # away."]
            * any(o.lines for o in mapping.open)
        ),
        f"folder: {_scalar(mapping.folder)}",
        "files:" if mapping.files else "files: {}",
    ]
    for table, entry in mapping.files.items():
        extra = {"delimiter": entry.delimiter, "encoding": entry.encoding}
        if any(extra.values()):
            rest = "".join(f", {key}: {_scalar(value, flow=True)}" for key, value in extra.items() if value)
            out.append(f"  {table}: {{path: {_scalar(entry.path, flow=True)}{rest}}}")
        else:
            out.append(f"  {table}: {_scalar(entry.path)}")
    if mapping.mask:
        out += ["mask:", *(f"  {_scalar(key)}: {mask}" for key, mask in mapping.mask.items())]
    out += [f"  # {note}" for entity, note in mapping.notes if entity == "files"]
    if mapping.mql_score:
        seed = mapping.mql_score
        names = {"from": seed.table, "event_name": seed.event_name, "mql_score": seed.mql_score}
        out.append(f"mql_score: {{{', '.join(f'{key}: {_scalar(value, flow=True)}' for key, value in names.items())}}}")
    out.append("entities:")
    for name in ENTITIES:
        parts = mapping.entities.get(name, ())
        if not parts:
            continue
        out += [f"  # {note}" for entity, note in mapping.notes if entity == name]
        out.append(f"  {name}:")
        groups: list[list[Part]] = []
        for part in parts:
            same = [group for group in groups if not part.join and replace(group[0], table=part.table) == part]
            if same:
                same[0].append(part)
            else:
                groups.append([part])
        inside = [line for line in mapping.open if line.within and line.entity == name]
        several = len(groups) > 1 or any(line.within == FURTHER for line in inside)
        for group in groups:
            tables = [part.table for part in group]
            out += part_lines(group[0], tables, several=several)
            indent = "      " if several else "    "
            for line in (line for line in inside if line.within in tables):
                out += [
                    f"{indent}# OPEN {line.subject}: {line.sentence}",
                    *_waiting(indent + text for text in line.lines),
                ]
        for line in (line for line in inside if line.within == FURTHER):
            out += [f"    # OPEN {line.subject}: {line.sentence}", *_waiting(line.lines)]
    for line in (line for line in mapping.open if not line.within):
        notes = [note for entity, note in mapping.notes if entity == line.subject and entity not in mapping.entities]
        out += ["", *(f"# {note}" for note in notes), f"# OPEN {line.subject}: {line.sentence}"]
        out += _waiting(line.lines)
    return "\n".join(out) + "\n"


def _waiting(lines: Iterable[str]) -> list[str]:
    """Lines of YAML as comments: the # stands after the indentation, so that without it the line is as it should be."""
    return [f"{line[: len(line) - len(line.lstrip())]}#{line.lstrip()}" for line in lines]


def part_lines(part: Part, tables: Sequence[str] = (), *, several: bool = False) -> list[str]:
    """One part as it stands under its entity in the file; `tables` when several files bring the same."""
    lines = [f"from: {part.table}" if len(tables) < 2 else f"from: [{', '.join(tables)}]"]
    if part.join:
        lines += ["join:", *(f"  {table}: {_scalar(condition)}" for table, condition in part.join.items())]
    for key, value in (("where", part.where), ("collapse", part.collapse), ("by", part.by)):
        if value is not None:
            lines.append(f"{key}: {_scalar(value)}")
    if part.negative_quantity != "quarantine":
        lines.append(f"negative_quantity: {part.negative_quantity}")
    lines += ["fields:", *(f"  {column}: {_scalar(sql)}" for column, sql in part.fields.items())]
    if several:
        return [("    - " if i == 0 else "      ") + line for i, line in enumerate(lines)]
    return ["    " + line for line in lines]


def _scalar(value: str, *, flow: bool = False) -> str:
    """`value` as YAML on one line, without quotes where YAML reads it back as the same text without them."""
    plain = f"{{a: {value}}}" if flow else f"a: {value}"
    try:
        read = yaml.safe_load(plain)["a"] if value and "\n" not in value else None
        if read == value or (type(read) is int and str(read) == value):
            return value
    except (yaml.YAMLError, TypeError, KeyError):
        pass
    style = '"' if "\n" in value or ("'" in value and '"' not in value and "\\" not in value) else "'"
    return yaml.safe_dump(value, default_style=style, width=100_000, allow_unicode=True).strip()
