"""A destination in memory that can be told to misbehave."""

import csv
import io
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

from headwater.activation.destinations import (
    BaseDestination,
    Batch,
    Later,
    Limits,
    Operation,
    Rejected,
    Result,
    RowSet,
    Unusable,
)

Fault = Literal["ok", "later", "lost_answer", "lost_request", "unusable", "wrong_count"]


@dataclass
class Shelf:
    """What stands at the destination, and what it was told to do next.

    `rows` key → fields; `effects` operation ids that had an effect, in order: an id that is known already has none, as with
    a strict idempotency key, nor has what stands there already; `calls` operation ids per call (of a set: its keys).
    `faults` are used up one per call; `refused` keys are refused row by row; `poison` keys make the whole call be refused.
    """

    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    effects: list[str] = field(default_factory=list)
    calls: list[tuple[str, ...]] = field(default_factory=list)
    faults: list[Fault] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    poison: set[str] = field(default_factory=set)
    limits: Limits = field(default_factory=lambda: Limits(max_rows=10))
    on_call: Callable[[], None] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def write(self, operation: Operation) -> None:
        """Take one row."""
        before = self.rows.get(operation.key)
        as_it_is = operation.operation != "delete" and before is not None and {**before, **operation.fields} == before
        if operation.operation_id in self.effects or as_it_is:
            return
        self.effects.append(operation.operation_id)
        if operation.operation == "delete":
            self.rows.pop(operation.key, None)
            return
        row = self.rows.setdefault(operation.key, {})
        row.update(operation.fields)


SHELVES: dict[str, Shelf] = {}
"""Shelf by name; the option `shelf` of the destination says which."""


class FakeDestination(BaseDestination):
    """Keeps rows on a `Shelf`, confirms what it kept, and fails as the shelf was told to.

    Guarantee: none beyond this process. Limits: those of the shelf. Idempotent by operation id.
    Use it as `type: headwater.testing.fake_destination:FakeDestination` with `options: {shelf: NAME}`.
    """

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Path, environment: Mapping[str, str]) -> None:
        super().__init__(name, options, folder=folder, environment=environment)
        self.shelf = SHELVES.setdefault(options["shelf"], Shelf())
        self.limits = self.shelf.limits

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Put the rows on the shelf, or not."""
        with self.shelf.lock:
            return self._deliver(batch)

    def deliver_set(self, rows: RowSet) -> None:
        """Put the set on the shelf, or nothing of it; an empty text is taken for a null, and a null is left alone."""
        lines = list(csv.reader(io.StringIO("".join(rows.csv()), newline="")))
        kinds = [Decimal if rows.types[name].startswith("DECIMAL") else str for name in rows.columns]
        with self.shelf.lock:
            fault = self._called(
                [line[0] for line in lines], {line[0] for line in lines} & (self.shelf.refused | self.shelf.poison)
            )
            for key, *texts in lines:
                values = zip(rows.columns, kinds, texts, strict=not rows.removal)
                fields = {name: kind(text) for name, kind, text in values if text}
                self._put(f"{rows.batch_id}/{key}", key, None if rows.removal else fields)
            if fault == "lost_answer":
                raise Later("TIMEOUT", "nobody answered", in_doubt=True)

    def _put(self, operation_id: str, key: str, fields: Mapping[str, Any] | None) -> None:
        """A row of a set; it has an effect when it is not there already as it should be."""
        before = self.shelf.rows.get(key)
        if before is None if fields is None else before is not None and {**before, **fields} == before:
            return
        self.shelf.effects.append(operation_id)
        if fields is None:
            self.shelf.rows.pop(key)
        else:
            self.shelf.rows.setdefault(key, {}).update(fields)

    def _called(self, told: Sequence[str], poison: Collection[str]) -> Fault:
        """Note the call and raise what the shelf was told to; the fault of the answer otherwise."""
        shelf = self.shelf
        shelf.calls.append(tuple(told))
        if shelf.on_call is not None:
            shelf.on_call()
        fault = shelf.faults.pop(0) if shelf.faults else "ok"
        if fault == "unusable":
            raise Unusable("CLOSED", "the shelf is closed", advice="open it")
        if fault == "later":
            raise Later("BUSY", "the shelf is busy")
        if fault == "lost_request":
            raise Later("TIMEOUT", "nobody answered", in_doubt=True)
        if poison:
            raise Rejected("POISON", "something in the call is poison", advice="take it out")
        return fault

    def _deliver(self, batch: Batch) -> Sequence[Result]:
        poison = {row.key for row in batch.operations} & self.shelf.poison
        fault = self._called([row.operation_id for row in batch.operations], poison)
        results = [self._one(row) for row in batch.operations]
        if fault == "lost_answer":
            raise Later("TIMEOUT", "nobody answered", in_doubt=True)
        return results[:-1] if fault == "wrong_count" else results

    def _one(self, row: Operation) -> Result:
        if row.key in self.shelf.refused:
            return Result(row.operation_id, "failed", "REFUSED", f"{row.key} is not wanted", "take it out")
        self.shelf.write(row)
        return Result(row.operation_id, "done")
