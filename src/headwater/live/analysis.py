"""What is known about one live model: which rows of a source move which keys, and the SQL for a handful of keys.

`lineage.analyse` makes it, once per model and build; `engine` uses it in every batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

AS_OF = "1999-09-09 09:09:09.090909"
"""The moment that models are compiled with for the engine; `timestamp '<AS_OF>'` in compiled SQL stands for the clock."""


@dataclass(frozen=True)
class Relation:
    """A table or view that models read. `name` is `schema.table`; `sql` is the compiled SELECT of a view, None for a table."""

    name: str
    columns: Mapping[str, str]
    sql: str | None = None


@dataclass(frozen=True)
class KeyPath:
    """From changed rows of one table to the keys of the model.

    `sql` selects one column `key` (null allowed, ignored). It may hold `{delta}` (the changed rows of `source`, old and
    new images, all columns) and, for each other table it reads, `{plus:schema.table}` (the table's rows as they are now and
    those that this batch removed). Over-reaching is allowed, missing a key is not.
    `everything`: nothing ties the source to the key, so `sql` gives every key there is. Put the placeholders in by `str.replace`,
    never by `format`: SQL has braces of its own. Without changed rows the path need not be asked.
    """

    source: str
    sql: str
    text: str
    everything: bool = False


@dataclass(frozen=True)
class Window:
    """A predicate on the clock. `width` is like '30 days', None for `ts <= as_of` alone.

    `due` selects `key` of the rows that enter or leave when the clock moves: placeholders `{a0}` (exclusive) and `{a1}`
    (inclusive), both `timestamp '…'` literals. `next_due` selects one timestamp, the earliest moment after `{a0}` at which
    a row will enter or leave, null when none will. `reads`: as long as these tables do not change, neither does `next_due`.
    Of a model that is full, `due` may give one null: something is due, nobody can say for which key. `daily`: it is the day of
    the clock that is used, and every row is due at midnight.
    """

    width: str | None
    due: str
    next_due: str
    text: str
    reads: frozenset[str] = frozenset()
    daily: bool = False


@dataclass(frozen=True)
class Additive:
    """A model that is kept by adding and taking away (additive.py).

    `sums` selects the groups and their sums: `{rows}` stands for rows of `table`, AS_OF for the clock. `crossing`: the same
    for rows whose moment lies between `{a0}` and `{a1}`; None when the clock moves none. `scoped`: the same for the keys in
    `{touched}`. `visible` selects the model's columns from `{sums}`. `groups` are columns of the sums, `key` the one among them
    that holds the model's key.
    """

    table: str
    key: str
    groups: tuple[str, ...]
    sums: str
    scoped: str
    crossing: str | None
    visible: str


@dataclass(frozen=True)
class Analysis:
    """One model as the engine sees it. `mode` full: every change recomputes all of it, for the reasons in `why_full`. `mode`
    delta: what `additive` says is done; where it is None, `why_not_additive` says why it cannot be.

    `scoped` selects the model's columns, in the model's order, for the keys in the relation `{touched}` (one column
    `key`); `whole` selects all rows. Both hold AS_OF literals where the clock goes. `reads` names every table behind it,
    views looked through; `read_whole` those of them that even `scoped` reads in full. Rows whose key is null are nobody's: they
    are never refreshed, so a key must not be null.
    """

    model: str
    relation: str
    key: str
    mode: Literal["delta", "keyed", "full"]
    columns: Mapping[str, str]
    scoped: str
    whole: str
    reads: frozenset[str]
    paths: tuple[KeyPath, ...] = ()
    windows: tuple[Window, ...] = ()
    why_full: tuple[str, ...] = field(default=())
    read_whole: frozenset[str] = frozenset()
    additive: Additive | None = None
    why_not_additive: str = ""
