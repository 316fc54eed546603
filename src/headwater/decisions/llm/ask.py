"""The one way to a language model: what was asked before is not asked again, what may not be spent is not spent, and every
call is a row in `headwater.llm_calls` with what was sent, what came back, and what it cost.

In order: off → no key → the answer of an earlier call with the same prompt hash → too many failures in a row → the day's budgets →
the call. What is not answered gives a `Reply` without a value; the caller goes on with rules and templates.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ValidationError

from headwater.clock import Clock, naive_utc
from headwater.decisions.llm import endpoint
from headwater.decisions.llm.settings import LlmSettings
from headwater.warehouse import Warehouse

Answer = TypeVar("Answer", bound=BaseModel)

FAILURES = 3
"""Calls in a row that may fail before no more are made in a run."""


@dataclass(frozen=True)
class Reply(Generic[Answer]):
    """`value` is None when the model gave no answer that can be used; `status` and `reason` say why, `call_id` names the row
    (None when there was no call)."""

    value: Answer | None
    status: str
    reason: str
    call_id: str | None
    request: dict[str, Any]


@dataclass(frozen=True)
class Spent:
    """What a day's calls came to, so far."""

    calls: int
    cost: Decimal
    tokens: int
    seconds: float


class Ask:
    """Asks one model for one run; `close` it, or use it in a `with`. `model` takes the place of the settings' own, for tests."""

    def __init__(self, warehouse: Warehouse, settings: LlmSettings, clock: Clock, model: Any = None) -> None:
        self._warehouse = warehouse
        self._clock = clock
        self._model = model
        self._line: endpoint.Line | None = None
        self._failures = 0
        self.settings = settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up. Closing twice is fine."""
        line, self._line = self._line, None
        if line is not None:
            line.close()

    def __call__(self, purpose: str, about: str, instructions: str, prompt: str, shape: type[Answer]) -> Reply[Answer]:
        """Ask. `purpose`: choose | risk | message; `about`: which segment and bucket, for whoever reads the rows."""
        settings = self.settings
        request = {
            "instructions": instructions,
            "prompt": prompt,
            "answer": shape.model_json_schema(),
        }
        if not settings.enabled:
            return Reply(None, "off", "decisions.llm.enabled is false", None, request)
        if not settings.model:
            return Reply(None, "off", "decisions.llm.model names no model", None, request)
        if self._model is None and not endpoint.key_of(settings):
            reason = f"the environment variable {settings.key_env} holds no key"
            return Reply(None, "no_key", reason, None, request)
        text = json.dumps(request, sort_keys=True, ensure_ascii=False)
        prompt_hash = hashlib.sha256(f"{settings.provider}\n{settings.model}\n{text}".encode()).hexdigest()
        known = self._known(prompt_hash, shape)
        if known is not None:
            return Reply(known[1], "cached", "", known[0], request)
        if self._failures >= FAILURES:
            return Reply(
                None, "failed", f"{FAILURES} calls in a row had failed, so this one was not made", None, request
            )
        now = naive_utc(self._clock.now())
        spent = self.spent(now)
        if reason := _over(spent, settings):
            return Reply(None, "over_budget", reason, None, request)
        if self._line is None:
            self._line = endpoint.Line(settings, self._model)
        tokens_left = max(1, settings.daily_tokens - spent.tokens)
        told = self._line.put(instructions, prompt, shape, tokens_left)
        self._failures = 0 if told.status in ("answered", "invalid", "refused") else self._failures + 1
        call_id = hashlib.sha256(f"{prompt_hash}{now.isoformat()}{spent.calls}".encode()).hexdigest()[:32]
        cost = (
            Decimal(repr(settings.input_price)) * told.input_tokens
            + Decimal(repr(settings.output_price)) * told.output_tokens
        ) / 1_000_000
        self._warehouse.execute(
            "insert into headwater.llm_calls values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                call_id,
                now,
                purpose,
                about,
                settings.provider,
                settings.model,
                prompt_hash,
                text,
                None if told.answer is None else told.answer.model_dump_json(),
                told.status,
                told.reason or None,
                told.requests,
                told.input_tokens,
                told.output_tokens,
                cost.quantize(Decimal("0.000001")),
                round(told.seconds, 3),
            ],
        )
        value = told.answer if isinstance(told.answer, shape) else None
        return Reply(value, told.status, told.reason, call_id, request)

    def spent(self, now: datetime) -> Spent:
        """What the calls of this day (UTC) came to."""
        row = self._warehouse.execute(
            "select count(*), coalesce(sum(cost), 0), coalesce(sum(input_tokens + output_tokens), 0), coalesce(sum(seconds), 0)"
            " from headwater.llm_calls where asked_at >= ?",
            [now.replace(hour=0, minute=0, second=0, microsecond=0)],
        ).fetchone()
        assert row is not None
        return Spent(int(row[0]), Decimal(row[1]), int(row[2]), float(row[3]))

    def _known(self, prompt_hash: str, shape: type[Answer]) -> tuple[str, Answer] | None:
        row = self._warehouse.execute(
            "select call_id, answer from headwater.llm_calls where prompt_hash = ? and status = 'answered'"
            " order by asked_at desc limit 1",
            [prompt_hash],
        ).fetchone()
        if row is None:
            return None
        try:
            return row[0], shape.model_validate_json(row[1])
        except ValidationError:
            return None


def _over(spent: Spent, settings: LlmSettings) -> str:
    """Which budget of the day is used up; empty when none is. A call may go over by itself, not more."""
    if spent.tokens >= settings.daily_tokens:
        return f"{spent.tokens:,} of {settings.daily_tokens:,} tokens of the day are used"
    if spent.seconds >= settings.daily_seconds:
        return f"{spent.seconds:,.0f} of {settings.daily_seconds:,.0f} seconds of the day are used"
    if (settings.input_price or settings.output_price) and float(spent.cost) >= settings.daily_cost:
        return f"{spent.cost:.2f} of {settings.daily_cost:.2f} of the day's money is spent"
    return ""
