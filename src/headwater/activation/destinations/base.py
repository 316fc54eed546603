"""What a destination is: `deliver(batch)`, and a base class that does the dull part.

One that can take very many rows in one statement also writes `deliver_set(rows)`, and is spared one object for each.

An answer is one `Result` per operation. What concerns the whole call is raised, grouped by what the runtime does next:

    CallFailed
    ├── Later       nothing wrong with the rows: try the call again, after `retry_after` seconds if the destination said so
    ├── Rejected    the call was refused because of what is in it: halve the batch until the culprit is alone, skip that row
    └── Unusable    no call can succeed (credentials, address, permission): stop the sync, every row stays ready

Any other exception counts as Rejected, in doubt: a bug that one row sets off must not stop the others.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Literal, Protocol, runtime_checkable

Verb = Literal["create", "update", "delete"]


@dataclass(frozen=True)
class Operation:
    """One row to be sent.

    `operation_id` is the same whenever the same thing is sent again: give it to the destination as idempotency key.
    `fields` holds destination field → value (decimals exact, moments as ISO 8601 UTC text); a field that is absent must
    not be touched, one that is None must be cleared. `previous` is what the destination confirmed last.
    `in_doubt`: it was sent before and nobody answered.
    """

    operation_id: str
    sync: str
    key: str
    version: int
    operation: Verb
    fields: Mapping[str, Any]
    previous: Mapping[str, Any] = field(default_factory=dict)
    decision_id: str | None = None
    attempts: int = 0
    in_doubt: bool = False


@dataclass(frozen=True)
class Batch:
    """Operations of one sync for one call, no two with the same key.

    Batch ids of a sync sort by time. An id is kept over a crash: rows that were claimed together and not confirmed come again under the same id
    (fewer of them, if some are held back or
    out of date by now). `columns` are the sync's fields in the order of its mapping, `types` their types in the warehouse
    (DuckDB's names).
    """

    batch_id: str
    sync: str
    operations: tuple[Operation, ...]
    columns: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class RowSet:
    """Many operations of one sync for one call, no two with the same key, as text and not as objects.

    `rows` of them: all removals, or none is; a row that is not removed is made where it is missing and changed where it is
    there. `columns` are the fields that some row has a value for, `types` their types in the warehouse (DuckDB's names).
    A null must not be touched, or must be cleared where `write_nulls` says so. `batch_id` as in `Batch`.
    """

    batch_id: str
    sync: str
    rows: int
    removal: bool
    columns: tuple[str, ...]
    types: Mapping[str, str]
    write_nulls: bool
    read: Callable[[], Iterator[str]] = field(repr=False, compare=False)

    def csv(self) -> Iterator[str]:
        """The rows as CSV in parts of whole lines: the key, then the columns, without a header.

        Text is in double quotes, a quote in it doubled; a null is empty and unquoted; numbers have all their digits,
        moments are ISO 8601 UTC, what is nested is JSON. Lines end with a line feed. May be asked for again.
        """
        return self.read()


@dataclass(frozen=True)
class Result:
    """What the destination said of one operation.

    done     it has it, for certain
    failed   it refused the row; sending the same again will fail again
    retry    not now; after `retry_after` seconds where it said so. `in_doubt`: it may have been written all the same

    `code` and `message` are the destination's own words, `advice` says what the user can do. `response` is kept in
    `sync_rows` for failed rows. `remote_id`: by what the destination knows the record, as `<tool>:…`, where it said so; what the
    tool tells of that record later then finds its way to the person.
    """

    operation_id: str
    status: Literal["done", "failed", "retry"]
    code: str = ""
    message: str = ""
    advice: str = ""
    retry_after: float | None = None
    in_doubt: bool = False
    response: Any = None
    remote_id: str = ""


class CallFailed(Exception):
    """A call as a whole failed; the subclasses say what happens next."""

    def __init__(self, code: str, message: str, *, advice: str = "", response: Any = None) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.advice = advice
        self.response = response


class Later(CallFailed):
    """Try again. `in_doubt`: the rows may have been written before the failure (a time-out after sending)."""

    def __init__(
        self,
        code: str,
        message: str,
        *,
        advice: str = "",
        response: Any = None,
        retry_after: float | None = None,
        in_doubt: bool = False,
    ) -> None:
        super().__init__(code, message, advice=advice, response=response)
        self.retry_after = retry_after
        self.in_doubt = in_doubt


class Rejected(CallFailed):
    """Something in the batch is refused, and the destination wrote none of it."""


class Unusable(CallFailed):
    """No call can succeed as things stand."""


@dataclass(frozen=True)
class Limits:
    """What one call may carry, and how calls may follow each other.

    `max_rows` rows per call; `concurrency` calls at the same time; `idempotent`: repeating an operation id has no second
    effect (when false, rows are claimed one call at a time, so that a crash leaves as few as possible in doubt).
    `window_seconds`: over how long the destination counts its calls, for its `rate_per_second`.
    `set_rows`: rows that one `deliver_set` takes, of those that wait beyond `max_rows`; 0 = it has no such method. Only for
    idempotent destinations that say nothing of single rows that succeed.
    """

    max_rows: int = 100
    concurrency: int = 1
    idempotent: bool = True
    set_rows: int = 0
    window_seconds: float = 1.0


@runtime_checkable
class Destination(Protocol):
    """The whole contract. `BaseDestination` fills in all but `deliver`."""

    @property
    def limits(self) -> Limits:
        """What a call may carry."""
        ...

    def expect(self, rows: int) -> None:
        """Called before `limits` is asked for a run of so many rows; a destination may choose another way of sending."""
        ...

    def open(self) -> None:
        """Called once before the first batch of a run; never in a dry run. Raises Unusable when it cannot work."""
        ...

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Send the batch and say what became of each operation, in the order of the batch.

        Called from several threads at once when `limits.concurrency` > 1. Raises Later, Rejected or Unusable for the call
        as a whole. Must not retry, wait or halve the batch: the caller does.
        """
        ...

    def close(self) -> None:
        """Called once after the last batch, also after a failure."""
        ...

    @property
    def secrets(self) -> Sequence[str]:
        """Values that must never be stored or shown; the caller blots them out of every answer."""
        ...


class BaseDestination:
    """The dull part. A subclass writes `deliver`, and says its guarantee, limits and idempotency in its docstring.

    `name` is the name under `destinations`, `options` its options, `folder` the project's folder, `environment` where
    secrets are looked up (options hold the names of variables, never values).
    """

    limits: Limits = Limits()

    def __init__(self, name: str, options: Mapping[str, Any], *, folder: Any, environment: Mapping[str, str]) -> None:
        self.name = name
        self.options = options
        self.folder = folder
        self.environment = environment
        self.wait: Callable[[], None] = lambda: None
        """Called before each further call of one delivery, so that the rate limit counts it; the caller sets it."""
        self.answered: Callable[[], None] = lambda: None
        """Called before a pause in a delivery: the call before it is over, and others may be made; the caller sets it."""

    def expect(self, rows: int) -> None:
        """Few or many go the same way."""

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    @property
    def secrets(self) -> Sequence[str]:
        """No secrets."""
        return ()

    @property
    def place(self) -> str:
        """Where the rows are when they are confirmed, without secrets: another address does not hold them. Empty: not known."""
        return ""

    def deliver(self, batch: Batch) -> Sequence[Result]:
        """Send the batch; one result per operation, in order."""
        raise NotImplementedError(f"{type(self).__name__} must write deliver(batch)")

    def deliver_set(self, rows: RowSet) -> None:
        """Send all of them in one call; to return confirms every row. Only asked for where `limits.set_rows` is above 0.

        Raises Later, Rejected or Unusable for the set as a whole, of which nothing may then be written (or everything, in
        doubt). A rejected set is halved, and what is left of it goes through `deliver`, row by row.
        """
        raise NotImplementedError(f"{type(self).__name__} must write deliver_set(rows) to have `limits.set_rows`")

    def calls(self, writes: int, removals: int) -> int:
        """How many calls so many rows take, tries and sign-in aside; asked for a plan, after `expect`."""
        allowed = self.limits
        if allowed.set_rows and writes + removals > allowed.max_rows:
            return ceil(writes / allowed.set_rows) + ceil(removals / allowed.set_rows)
        return ceil(writes / allowed.max_rows) + ceil(removals / allowed.max_rows)

    def quota(self) -> str:
        """Against what limit of the destination's own the calls count, for the reader of a plan; empty: nothing is known."""
        return ""

    def undone(self, rows: Sequence[Operation], error: CallFailed, *, tried: bool = True) -> list[Result]:
        """Results for rows that a delivery was at (`tried`) or had not come to when a call failed, and others were answered before.

        To raise would lose those answers. The rows are sent again by themselves, when the same failure speaks for all that is sent.
        """
        later = error if isinstance(error, Later) else None
        wait, doubt = (later.retry_after, later.in_doubt and tried) if later else (None, False)
        return [
            Result(row.operation_id, "retry", error.code, error.message, error.advice, wait, doubt, error.response)
            for row in rows
        ]

    def done(self, batch: Batch) -> list[Result]:
        """Every operation of the batch is confirmed."""
        return [Result(operation.operation_id, "done") for operation in batch.operations]
