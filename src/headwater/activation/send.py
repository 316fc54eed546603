"""One batch to one destination: try, try again, halve.

Retry rows go again after the destination's `Retry-After`, or after a growing pause (stamina), until the tries are used up.
A batch that is rejected as a whole is halved until the culprit is alone; the others are delivered. What cannot be said
for certain is said to be in doubt, never done.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import stamina

from headwater.activation.destinations import (
    BaseDestination,
    Batch,
    CallFailed,
    Destination,
    Later,
    Operation,
    Result,
    RowSet,
    Unusable,
)
from headwater.activation.limits import RateLimit
from headwater.activation.outbox import Answer
from headwater.activation.settings import DestinationSettings

stamina.instrumentation.set_on_retry_hooks([])
"""It would write each try to the screen; every try is a row of `headwater.sync_rows`, and a run says what failed in the end."""

RETRY_ADVICE = "the next run tries it again"
REFUSED_ADVICE = "mend the row or the mapping of the sync; the next run tries it again"


@dataclass(frozen=True)
class Try:
    """One operation in one call, for the log."""

    operation: Operation
    attempt: int
    result: Result


@dataclass
class Outcome:
    """What became of a batch: one answer per operation, every try, and why the sync must stop, if it must."""

    answers: list[Answer] = field(default_factory=list)
    tries: list[Try] = field(default_factory=list)
    unusable: Unusable | None = None


class _LeftAlone(Exception):
    """Nothing is sent any more: the destination was to be left alone for longer than a run waits."""


class _Again(Exception):
    """Rows are left that may succeed later; `wait` is what the destination asked for."""

    def __init__(self, wait: float | None) -> None:
        super().__init__()
        self.wait = wait


@dataclass(frozen=True)
class _Last:
    """The last word on a row, of which try it was, and whether that was a refusal by itself."""

    result: Result
    attempts: int
    refused: bool


class Sender:
    """Sends batches to one destination within its rate limit. `call` may be used from several threads."""

    def __init__(
        self,
        destination: Destination,
        settings: DestinationSettings,
        limit: RateLimit | None,
        *,
        answered: Callable[[], None] = lambda: None,
    ) -> None:
        self.destination = destination
        self.settings = settings
        self.limit = limit
        self.answered = answered
        self.stopped: Unusable | None = None
        self.resting: Later | None = None
        if limit is not None and isinstance(destination, BaseDestination):
            destination.wait, destination.answered = limit.wait, limit.answered

    def send(self, batch: Batch) -> Outcome:
        """Deliver the batch as far as it can be; never raises for what the destination does.

        Once a call was told to come back later than a run waits, no other is made: what is left stays ready until then.
        """
        outcome = Outcome()
        if self.resting is not None:
            outcome.answers = [self._left(operation, self.resting) for operation in batch.operations]
            return outcome
        open_rows = {operation.operation_id: operation for operation in batch.operations}
        last: dict[str, _Last] = {}
        resting: Later | None = None
        try:
            for attempt in stamina.retry_context(
                on=self._backoff,
                attempts=self.settings.attempts,
                timeout=None,
                wait_initial=0.2,
                wait_max=min(30.0, self.settings.max_wait_seconds),
                wait_jitter=0.2,
            ):
                with attempt:
                    self._round(batch, open_rows, attempt.num, last, outcome)
        except _Again:
            pass
        except _LeftAlone:
            resting = self.resting
        except Unusable as error:
            self.stopped = outcome.unusable = error
        outcome.answers = [
            self._answer(operation, last.get(operation.operation_id), resting) for operation in batch.operations
        ]
        return outcome

    def send_set(self, rows: RowSet) -> Exception | None:
        """Hand a set over in one call; None when it is confirmed, else what was said. Never raises for what the destination does."""
        if self.stopped is not None or self.resting is not None:
            return self.stopped or self.resting
        try:
            with self._call():
                self.destination.deliver_set(rows)  # type: ignore[attr-defined]  (who says `set_rows` has it)
        except _LeftAlone:
            return self.resting
        except Later as error:
            self._pause(error)
            return error
        except Unusable as error:
            self.stopped = self._redacted_error(error)
            return self.stopped
        except Exception as error:  # Rejected, or a bug that some row sets off
            return error
        finally:
            self.answered()
        return None

    @contextmanager
    def _call(self) -> Iterator[None]:
        """Inside is a call that the rate limit counts. Raises _LeftAlone where none is to be made any more."""
        if self.resting is not None:
            raise _LeftAlone
        with nullcontext() if self.limit is None else self.limit.call():
            if self.resting is not None:  # since it waited for its turn
                raise _LeftAlone
            yield

    def _pause(self, error: Later) -> None:
        if error.retry_after is None:
            return
        if error.retry_after > self.settings.max_wait_seconds:
            self.resting = Later(error.code, error.message, advice=error.advice, retry_after=error.retry_after)
        elif self.limit is not None:
            self.limit.pause(error.retry_after)

    def _left(self, operation: Operation, error: Later) -> Answer:
        """A row that was not sent because the destination asked to be left alone."""
        result = self._redacted(replace(self._of_call(operation, error), in_doubt=operation.in_doubt))
        return Answer(operation, result, 0, left_ready=True, wait_seconds=error.retry_after or 0.0)

    def _round(
        self,
        batch: Batch,
        open_rows: dict[str, Operation],
        number: int,
        last: dict[str, _Last],
        outcome: Outcome,
    ) -> None:
        """Send what is open once more. Raises _Again when some of it may succeed later, Unusable and _LeftAlone as `_once` does."""
        results: list[Result] = []
        try:
            self._once(replace(batch, operations=tuple(open_rows.values())), results)
        finally:
            for result in results:
                outcome.tries.append(Try(open_rows[result.operation_id], number, result))
                before = last.get(result.operation_id)
                refused = result.status == "failed" and not result.in_doubt
                if result.status != "done" and before is not None and before.result.in_doubt:
                    result = replace(result, in_doubt=True)  # an earlier try of this run may have been written  # noqa: PLW2901
                last[result.operation_id] = _Last(result, number, refused)
                if result.status != "retry":
                    del open_rows[result.operation_id]
        if open_rows:
            raise _Again(_longest(results))

    def _backoff(self, error: Exception) -> bool | timedelta:
        if not isinstance(error, _Again):
            return False
        if error.wait is None:
            return True
        if error.wait > self.settings.max_wait_seconds:
            return False
        return timedelta(seconds=error.wait)

    def _answer(self, operation: Operation, last: _Last | None, resting: Later | None) -> Answer:
        """The last word on a row. One that was never tried stays ready, as does one that is not tried again since the destination is
        `resting`; doubt stays until the row is confirmed, since a refusal now does not say that an earlier try was not written."""
        if last is None and resting is not None:
            return self._left(operation, resting)
        if last is None:
            result = Result(operation.operation_id, "retry", in_doubt=operation.in_doubt)
            return Answer(operation, result, 0, left_ready=True)
        result, attempts = last.result, last.attempts
        doubtful = result.in_doubt or (operation.in_doubt and result.status != "done")
        if doubtful != result.in_doubt:
            result = replace(result, in_doubt=doubtful)
        wait = (result if resting is None else resting).retry_after or 0.0
        if result.status == "retry" and wait > self.settings.max_wait_seconds:
            return Answer(operation, result, attempts, left_ready=True, wait_seconds=wait)
        return Answer(operation, result, attempts, refused=last.refused)

    # one round of calls

    def _once(self, batch: Batch, told: list[Result]) -> None:
        """Add one result per operation to `told`; a rejected batch is halved. Raises Unusable and _LeftAlone, with `told` true so far."""
        if self.stopped is not None:
            raise self.stopped
        try:
            with self._call():
                results = self._matched(batch, self.destination.deliver(batch))
        except _LeftAlone:
            raise
        except Later as error:
            self._pause(error)
            results = [self._of_call(operation, error) for operation in batch.operations]
        except Unusable as error:
            self.answered()
            raise self._redacted_error(error) from None
        except Exception as error:  # Rejected, or a bug that some row sets off
            if len(batch.operations) > 1:
                self.answered()
                middle = len(batch.operations) // 2
                self._once(replace(batch, operations=batch.operations[:middle]), told)
                self._once(replace(batch, operations=batch.operations[middle:]), told)
                return
            results = [self._culprit(batch.operations[0], error)]
        self.answered()
        told += [self._redacted(result) for result in results]

    def _of_call(self, operation: Operation, error: Later) -> Result:
        return Result(
            operation.operation_id,
            "retry",
            error.code,
            error.message,
            error.advice,
            error.retry_after,
            error.in_doubt,
            error.response,
        )

    def _culprit(self, operation: Operation, error: Exception) -> Result:
        if isinstance(error, CallFailed):
            return Result(
                operation.operation_id, "failed", error.code, error.message, error.advice, response=error.response
            )
        return Result(
            operation.operation_id,
            "failed",
            type(error).__name__,
            f"the destination {type(self.destination).__name__} broke on this row: {error}",
            "mend the row, or the destination's code",
            in_doubt=True,
        )

    def _matched(self, batch: Batch, results: Sequence[Result]) -> list[Result]:
        """Results by operation; an operation that got none, or two, is in doubt: the destination broke its contract."""
        if [result.operation_id for result in results] == [operation.operation_id for operation in batch.operations]:
            return list(results)
        told: dict[str, list[Result]] = {}
        for result in results:
            told.setdefault(result.operation_id, []).append(result)
        return [
            told[operation.operation_id][0]
            if len(told.get(operation.operation_id, ())) == 1
            else Result(
                operation.operation_id,
                "retry",
                "NO_ANSWER",
                f"{type(self.destination).__name__} gave {len(told.get(operation.operation_id, ()))} results for this row, expected one",
                in_doubt=True,
            )
            for operation in batch.operations
        ]

    # secrets

    def _redacted(self, result: Result) -> Result:
        """Without secrets; and a row that is not done always has code, words and advice."""
        if result.status == "done" and not (result.code or result.message or result.advice or result.response):
            return result
        if result.status != "done":
            advice = RETRY_ADVICE if result.status == "retry" else REFUSED_ADVICE
            result = replace(
                result,
                code=result.code or result.status.upper(),
                message=result.message or "the destination gave no reason",
                advice=result.advice or advice,
            )
        return replace(
            result,
            code=self._blot(result.code),
            message=self._blot(result.message),
            advice=self._blot(result.advice),
            response=self._blot_deep(result.response),
        )

    def _redacted_error(self, error: Unusable) -> Unusable:
        return Unusable(
            self._blot(error.code),
            self._blot(error.message),
            advice=self._blot(error.advice),
            response=self._blot_deep(error.response),
        )

    def _blot(self, text: str) -> str:
        for secret in self.destination.secrets:
            if secret:
                text = text.replace(secret, "***")
        return text

    def _blot_deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self._blot(value)
        if isinstance(value, dict):
            return {self._blot(str(name)): self._blot_deep(one) for name, one in value.items()}
        if isinstance(value, list | tuple):
            return [self._blot_deep(one) for one in value]
        return value


def _longest(results: Sequence[Result]) -> float | None:
    waits = [result.retry_after for result in results if result.status == "retry" and result.retry_after is not None]
    return max(waits, default=None)
