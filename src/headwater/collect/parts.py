"""The SQL of one part of a mapping: one file read for one entity, value by value.

Three steps, so that nothing is computed twice: *read* (the user's expression), *convert* (to the entity's type, null where
that fails), *check* (what is wrong, what was mended). `PartSql` gives the select lists; `checks` puts them together.
"""

from collections.abc import Callable, Sequence
from collections.abc import Mapping as Dictionary
from dataclasses import dataclass
from typing import Literal

from headwater.collect import expressions
from headwater.collect.currencies import CODES
from headwater.collect.mapping import MADE_KEYS, Part
from headwater.records.entities import SQL_TYPES, Entity, Field

Types = Dictionary[str, Dictionary[str, str]]
Relation = Callable[[str], str]
Rows = Literal["counted", "left out", "all"]

WHOLE = ("TINYINT", "SMALLINT", "INTEGER", "INT", "BIGINT", "UTINYINT", "USMALLINT", "UINTEGER")
MOMENTS = ("TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_MS", "TIMESTAMP_S", "DATE")
ZONED = ("TIMESTAMP WITH TIME ZONE", "TIMESTAMPTZ")
NOT_AFTER_LOAD = {
    "customers": ("created_at", "updated_at"),
    "products": ("updated_at",),
    "orders": ("ordered_at", "updated_at"),
    "events": ("occurred_at",),
    "campaign_responses": ("sent_at", "opened_at", "clicked_at", "converted_at", "unsubscribed_at"),
    "ad_spend": ("spent_on",),
}
"""Moments that cannot lie in the future (a day of grace for time zones); a price or a campaign may."""

READABLE = {
    "text": "a text",
    "integer": "a whole number like 12",
    "decimal": "a number like 12.50",
    "timestamp": "a moment like 2026-01-31 18:30:00",
    "date": "a day like 2026-01-31",
    "boolean": "yes or no, true or false, 1 or 0",
}
_SHOWN = 200
LOADS = "{{ source('headwater', 'file_loads') }}"
_BLANKS = "chr(9) || chr(10) || chr(13) || chr(160) || ' '"


@dataclass(frozen=True)
class FieldSql:
    """One field of the entity. `read` stands over the source's columns; everything else over the columns of the read step.

    `written` is the expression as it stands in the mapping, empty where that is the bare column.
    """

    field: Field
    read: str
    failed: str | None
    evidence: str | None
    sql_type: str | None
    source: str
    written: str

    @property
    def name(self) -> str:
        return self.field.name

    @property
    def given(self) -> str:
        """Name of the read step's column."""
        return f"{self.name}__read"

    @property
    def is_text(self) -> bool:
        """Whether the value may be a text with blanks around it."""
        return self.sql_type is None or self.sql_type == expressions.TEXT

    @property
    def trimmed(self) -> str:
        text = self.given if self.sql_type == expressions.TEXT else f"cast({self.given} as varchar)"
        return f"nullif(trim({text}), '')"

    @property
    def converted(self) -> str:
        value = converted(self.given, self.sql_type, self.field)
        return {"currency": f"upper({value})", "status": f"lower({value})"}.get(self.name, value)

    @property
    def unreadable(self) -> str | None:
        """Condition: there is a value and it is none of the entity's type."""
        cases = [f"{self.name}__failed is not null"] if self.failed else []
        if self.field.type != "text" and not _safe(self.sql_type, self.field):
            cases.append(f"{self.trimmed if self.is_text else self.given} is not null")
        if not cases:
            return None
        return (
            f"{self.name} is null and {cases[0]}"
            if len(cases) == 1
            else f"{self.name} is null and ({' or '.join(cases)})"
        )

    @property
    def value(self) -> str:
        """What stands in the file, for the quarantine."""
        given = f"cast({self.given} as varchar)"
        return f"left({f'coalesce({self.name}__failed, {given})' if self.failed else given}, 200)"

    @property
    def repairs(self) -> list[tuple[str, str]]:
        """(condition, what was mended)."""
        if not self.is_text:
            return []
        text = self.given if self.sql_type == expressions.TEXT else f"cast({self.given} as varchar)"
        found = [(f"{text} <> trim({text})", f"{self.source}: blanks around the value trimmed")]
        if self.name == "currency":
            found.append((f"trim({text}) <> upper(trim({text}))", f"{self.source}: currency in upper case"))
        return found


def converted(value: str, sql_type: str | None, field: Field) -> str:
    """SQL that turns `value` into the field's type, null where it cannot."""
    target = SQL_TYPES[field.type]
    if sql_type is not None and sql_type != expressions.TEXT:
        if field.type == "text":
            return f"cast({value} as varchar)"
        if field.type == "integer":
            if sql_type in WHOLE:
                return value if sql_type == "BIGINT" else f"cast({value} as bigint)"
            return f"case when {value} = floor({value}) then try_cast({value} as bigint) end"
        if field.type == "boolean" and sql_type != "BOOLEAN":
            return f"case when {value} = 1 then true when {value} = 0 then false end"
        if field.type in ("timestamp", "date"):
            if sql_type in ZONED:
                return f"cast({value} at time zone 'UTC' as {target})"
            if sql_type not in MOMENTS:
                return f"cast(null as {target})"
        return value if sql_type == target.upper() else f"try_cast({value} as {target})"
    text = value if sql_type == expressions.TEXT else f"cast({value} as varchar)"
    trimmed = f"nullif(trim({text}), '')"
    if field.type == "text":
        return trimmed
    if field.type == "integer":
        return f"case when try_cast({trimmed} as decimal(38, 6)) % 1 = 0 then try_cast({trimmed} as bigint) end"
    if field.type == "decimal":
        return f"try_cast({trimmed} as {target})"
    if field.type == "boolean":
        return (
            f"case when lower({trimmed}) in ('1', '1.0', 'true', 't', 'yes', 'y') then true "
            f"when lower({trimmed}) in ('0', '0.0', 'false', 'f', 'no', 'n') then false end"
        )
    moment = (
        f"case when regexp_matches({trimmed}, ':[0-9.]+ ?[+-][0-9]{{2}}(:?[0-9]{{2}})?$') "
        f"then try_cast({trimmed} as timestamptz) at time zone 'UTC' else try_cast({trimmed} as timestamp) end"
    )
    return moment if field.type == "timestamp" else f"cast({moment} as date)"


def _safe(sql_type: str | None, field: Field) -> bool:
    """Whether no value of that type can fail to convert."""
    if sql_type is None or sql_type == expressions.TEXT:
        return field.type == "text"
    if field.type in ("timestamp", "date"):
        return sql_type in MOMENTS or sql_type in ZONED
    if field.type in ("integer", "decimal"):
        return sql_type in WHOLE and (field.type == "integer" or sql_type != "BIGINT")
    return field.type == "text" or sql_type == SQL_TYPES[field.type].upper()


@dataclass(frozen=True)
class Check:
    """One thing that may be wrong with a row: a condition over the converted columns and what to say when it holds."""

    condition: str
    column: str
    value: str
    reason: str
    advice: str

    @property
    def finding(self) -> str:
        return (
            f"case when {self.condition} then struct_pack(column_name := {quote(self.column)}, value := {self.value}, "
            f"reason := {quote(self.reason)}, advice := {quote(self.advice)}) end"
        )


class PartSql:
    """One part of the mapping, ready to be written as SQL."""

    def __init__(self, entity: Entity, part: Part, types: Types) -> None:
        self.entity, self.part, self._types = entity, part, types
        self._aliases = {part.table: "r"} | {table: f"j{i}" for i, table in enumerate(part.join, 1)}
        self.fields = [self._field(field) for field in entity.fields if field.name in part.fields]
        self.by = self._prepare(part.by) if part.by else None

    @property
    def made_key(self) -> str | None:
        """SQL of the key over the converted columns where the mapping leaves it out, else None."""
        if self.entity.key in self.part.fields:
            return None
        made = MADE_KEYS[self.entity.name]
        if made is None:
            return f"{quote(self.part.table + '-')} || _line"
        have = {name: name if name in self.part.fields else "cast(null as varchar)" for name in self.entity.columns}
        return made.format(**have)

    @property
    def key_is_position(self) -> bool:
        return self.made_key is not None and MADE_KEYS[self.entity.name] is None

    def source(self, relation: Relation, rows: Rows = "counted") -> str:
        """The from clause: the file, the files joined to it (at most one row each), and which of its rows: those that count,
        those that `where` leaves out, or all."""
        lines = [f"from {relation(self.part.table)} as r"]
        for table, condition in self.part.join.items():
            alias = self._aliases[table]
            known = self._types.get(table, {})
            pairs = expressions.equalities(condition, table)
            keys = {key for _, key in pairs}
            wanted = [c for c in self._joined_columns(table) if c.lower() not in {k.lower() for k in keys}]
            picked = [f"arg_min({name(column)}, _line) as {name(column)}" for column in wanted]
            on = []
            for left, key in pairs:
                prepared = self._prepare(left)
                on.append(
                    f"{_as_text(prepared.sql, prepared.sql_type)} = {_as_text(f'{alias}.{name(key)}', known.get(key))}"
                )
            grouped = ", ".join(name(key) for key in sorted(keys))
            lines.append(
                f"left join (select {', '.join([grouped, *picked])} from {relation(table)} group by {grouped}) as {alias} "
                f"on {' and '.join(on)}"
            )
        if self.part.where and rows != "all":
            counts = self._prepare(self.part.where).sql
            lines.append(f"where ({counts}) is not true" if rows == "left out" else f"where {counts}")
        return "\n    ".join(lines)

    def left_out(self, relation: Relation, columns: Sequence[str]) -> str:
        """A query of the rows that `where` leaves out: those of the entity's `columns` that are mapped, converted."""
        wanted = [field for field in self.fields if field.name in columns]
        read = ", ".join(["1 as _one", *(f"{field.read} as {field.given}" for field in wanted)])
        made = ", ".join(["_one", *(f"{field.converted} as {field.name}" for field in wanted)])
        return f"select {made} from (select {read} {self.source(relation, 'left out')}) as given"

    @property
    def read_columns(self) -> list[str]:
        """The read step's select list. `_latest` is the last moment that is not in the future."""
        limit = f"select max(loaded_at) + interval 1 day from {LOADS} where raw_table = {quote(self.part.table)}"
        columns = ["r._file", "r._line", f"({limit}) as _latest"]
        for field in self.fields:
            columns.append(f"{field.read} as {field.given}")
            if field.failed:
                columns.append(f"case when {field.failed} then {field.evidence} end as {field.name}__failed")
        if self.by:
            by = converted(self.by.sql, self.by.sql_type, Field("by", "timestamp", ""))
            columns.append(f"{by} as _by")
        if self.key_is_position:
            known = self._types.get(self.part.table, {})
            content = [f"r.{name(column)}" for column in known if column not in ("_file", "_line")]
            columns.append(f"hash({', '.join(content) or 'r._line'}) as _content")
        return columns

    @property
    def converted_columns(self) -> list[str]:
        """The convert step's select list: converted columns and what the checks need of the read ones."""
        columns = ["_file", "_line", "_latest"]
        for field in self.fields:
            columns.append(f"{field.converted} as {field.name}")
            columns.append(field.given)
            if field.failed:
                columns.append(f"{field.name}__failed")
        columns += ["_by"] if self.by else []
        columns += ["_content"] if self.key_is_position else []
        return columns

    @property
    def entity_columns(self) -> list[str]:
        """The check step's select list of the entity's columns, typed, in the entity's order."""
        mapped = {field.name for field in self.fields}
        columns = []
        for field in self.entity.fields:
            target = SQL_TYPES[field.type]
            if field.name in mapped:
                columns.append(field.name)
            elif field.name == self.entity.key and self.made_key is not None:
                columns.append(f"{self.made_key} as {field.name}")
            else:
                columns.append(f"cast(null as {target}) as {field.name}")
        return columns

    @property
    def amount(self) -> str:
        """SQL of the money of a row, over the converted columns; null for entities that have none."""
        have = {field.name for field in self.fields}
        if self.entity.name == "order_lines" and {"quantity", "unit_price"} <= have:
            less = " - coalesce(discount_amount, 0)" if "discount_amount" in have else ""
            return f"cast(quantity * unit_price{less} as decimal(18, 4))"
        if self.entity.name in ("orders", "ad_spend") and "amount" in have:
            return "amount"
        return "cast(null as decimal(18, 4))"

    @property
    def checks(self) -> list[Check]:
        """Everything that is looked at row by row."""
        found: list[Check] = []
        for field in self.fields:
            unreadable = field.unreadable
            if unreadable:
                found.append(
                    Check(
                        unreadable,
                        field.source,
                        field.value,
                        f"{field.name} is not {READABLE[field.field.type]}"
                        + (f", as mapping.yml reads it: {field.written}" if field.written else ""),
                        f"mend the value in the file, or say how to read it in mapping.yml ({self.entity.name}.{field.name})",
                    )
                )
            if field.field.required:
                missing = f"{field.name} is null" + (f" and not ({unreadable})" if unreadable else "")
                found.append(
                    Check(
                        missing,
                        field.source,
                        field.value,
                        f"{field.name} is required and missing",
                        f"fill it in the file, or leave such rows out with `where` in mapping.yml ({self.entity.name})",
                    )
                )
        found += self._rules()
        return found

    @property
    def repairs(self) -> list[tuple[str, str]]:
        return [repair for field in self.fields for repair in field.repairs]

    def _rules(self) -> list[Check]:
        have = {field.name: field for field in self.fields}
        rules: list[Check] = []

        def rule(column: str, condition: str, reason: str, advice: str) -> None:
            if column in have:
                rules.append(Check(condition, have[column].source, have[column].value, reason, advice))

        for column in NOT_AFTER_LOAD.get(self.entity.name, ()):
            rule(
                column,
                f"{column} > _latest",
                f"{column} lies in the future, after the day the file was loaded",
                "mend the date in the file; check day and month, and the time zone",
            )
        rule("quantity", "quantity = 0", "quantity is zero", "leave the line out of the file, or mend the quantity")
        if self.part.negative_quantity == "quarantine":
            rule(
                "quantity",
                "quantity < 0",
                "quantity is negative, and the mapping does not say that this means a refund",
                "if it does, write `negative_quantity: refund` under order_lines in mapping.yml; else mend the file",
            )
        codes = ", ".join(quote(code) for code in sorted(CODES))
        rule(
            "currency",
            f"currency not in ({codes})",
            "currency is not a code of ISO 4217",
            "write a code like EUR in the file, or translate it in mapping.yml (orders.currency)",
        )
        rule(
            "currency",
            f"currency in ({codes}) and currency <> '{{{{ setting('currency') }}}}'",
            "currency is not the shop's, and amounts are not converted",
            "if it is, write it as `currency` in headwater.yml; else convert the amounts in mapping.yml and map currency to the shop's",
        )
        rule(
            "nps_score",
            "nps_score not between 0 and 10",
            "nps_score is not between 0 and 10",
            "mend the answer in the file, or map another column (customers.nps_score)",
        )
        return rules

    def _field(self, field: Field) -> FieldSql:
        prepared = self._prepare(self.part.fields[field.name])
        columns = [
            f"{self._aliases.get(c.table or self.part.table, 'r')}.{name(self._spelled(c))}" for c in prepared.columns
        ]
        evidence = None
        if columns:
            texts = [f"cast({column} as varchar)" for column in columns]
            evidence = texts[0] if len(texts) == 1 else f"concat_ws(' | ', {', '.join(texts)})"
        source = " | ".join(c.name for c in prepared.columns) or field.name
        text = str(self.part.fields[field.name])
        written = "" if expressions.is_column(text) else text[:_SHOWN] + ("…" if len(text) > _SHOWN else "")
        return FieldSql(field, prepared.sql, prepared.failed, evidence, prepared.sql_type, source, written)

    def _spelled(self, column: expressions.Column) -> str:
        known = self._types.get(column.table or self.part.table, {})
        return next((c for c in known if c.lower() == column.name.lower()), column.name)

    def _prepare(self, sql: str) -> expressions.Expression:
        return expressions.prepare(sql, self.part.table, self._aliases, self._types)

    def _joined_columns(self, table: str) -> list[str]:
        texts = [*self.part.fields.values(), self.part.where, self.part.by]
        used = [c for text in texts if text for c in expressions.columns(text) if c.table == table]
        return list(dict.fromkeys(self._spelled(c) for c in used))


def _as_text(sql: str, sql_type: str | None) -> str:
    return f"trim({sql})" if sql_type == expressions.TEXT else f"trim(cast({sql} as varchar))"


def name(column: str) -> str:
    """An identifier, quoted."""
    return '"' + column.replace('"', '""') + '"'


def quote(text: str) -> str:
    """A text literal."""
    return "'" + text.replace("'", "''") + "'"
