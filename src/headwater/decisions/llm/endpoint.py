"""The model's interface, through pydantic-ai: one question with a declared answer, at most one more try, limits on all of it."""

import os
import time
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel

from headwater.decisions.llm.settings import LlmSettings
from headwater.errors import ConfigError

Answer = TypeVar("Answer", bound=BaseModel)

REQUESTS = 2
"""The question, and one more try when the answer was not one."""


@dataclass(frozen=True)
class Told:
    """What became of a question. `status`: answered | timeout | busy | refused | invalid | failed. `reason`: a sentence, empty
    when answered. Tokens are those of all tries."""

    status: str
    reason: str
    answer: BaseModel | None
    requests: int
    input_tokens: int
    output_tokens: int
    seconds: float


def key_of(settings: LlmSettings) -> str:
    """The endpoint's key, empty when the environment has none."""
    return os.environ.get(settings.key_env, "")


def connect(settings: LlmSettings) -> tuple[Any, Any]:
    """The model of the settings, and the client to close. Raises ConfigError when the extra is not installed."""
    given: dict[str, Any] = {
        "api_key": key_of(settings),
        "base_url": settings.base_url,
        "timeout": settings.seconds,
        "max_retries": 0,
    }
    try:
        if settings.provider == "anthropic":
            from anthropic import AsyncAnthropic  # noqa: PLC0415
            from pydantic_ai.models.anthropic import AnthropicModel  # noqa: PLC0415
            from pydantic_ai.providers.anthropic import AnthropicProvider  # noqa: PLC0415

            caller = AsyncAnthropic(**given)
            return AnthropicModel(settings.model, provider=AnthropicProvider(anthropic_client=caller)), caller
        from openai import AsyncOpenAI  # noqa: PLC0415
        from pydantic_ai.models.openai import OpenAIChatModel  # noqa: PLC0415
        from pydantic_ai.providers.openai import OpenAIProvider  # noqa: PLC0415
    except ImportError as error:
        raise ConfigError(
            f"decisions.llm needs a package that is not installed ({error.name}); `pip install 'headwater[llm]'` brings it"
        ) from error
    client = AsyncOpenAI(**given)
    return OpenAIChatModel(settings.model, provider=OpenAIProvider(openai_client=client)), client


class Line:
    """An open line to a model, for the questions of one run; `close` it. `model` takes the place of the settings' own.

    It has a thread and an event loop of its own, so that it works in a notebook too, whose loop is running already.
    Raises ConfigError when the extra is not installed.
    """

    def __init__(self, settings: LlmSettings, model: Any = None) -> None:
        self._settings = settings
        self._model, self._client = (model, None) if model is not None else connect(settings)
        from anyio.from_thread import start_blocking_portal  # noqa: PLC0415

        self._open = ExitStack()
        self._loop = self._open.enter_context(start_blocking_portal())

    def close(self) -> None:
        """Hang up. Closing twice is fine."""
        if self._client is not None:
            self._loop.call(self._client.close)
            self._client = None
        self._open.close()

    def put(self, instructions: str, prompt: str, shape: type[Answer], tokens_left: int) -> Told:
        """Ask once. Raises nothing that the model or the line to it could cause."""
        from pydantic_ai import Agent, UsageLimits  # noqa: PLC0415
        from pydantic_ai.usage import RunUsage  # noqa: PLC0415

        settings, usage = self._settings, RunUsage()
        started = time.monotonic()
        answer: BaseModel | None = None
        status, reason = "answered", ""
        try:
            agent = Agent(self._model, output_type=shape, instructions=instructions, retries=REQUESTS - 1)
            question = partial(
                agent.run,
                prompt,
                model_settings={
                    "max_tokens": settings.max_output_tokens,
                    "timeout": settings.seconds,
                    "temperature": 0.0,
                },
                usage_limits=UsageLimits(request_limit=REQUESTS, total_tokens_limit=tokens_left),
                usage=usage,
                timeout=settings.seconds,
            )
            asked = self._loop.start_task_soon(question)
            try:
                answer = asked.result().output
            finally:
                asked.cancel()  # Ctrl-C does not wait for an answer
        except Exception as error:
            status, reason = _what(error)
        seconds = time.monotonic() - started
        return Told(status, reason, answer, usage.requests, usage.input_tokens, usage.output_tokens, seconds)


def _what(error: Exception) -> tuple[str, str]:
    """The status and the sentence of what went wrong."""
    from pydantic_ai import exceptions as failures  # noqa: PLC0415

    text = " ".join(str(error).split())[:300]
    if isinstance(error, failures.RunTimedOut | failures.ModelTimeoutError | TimeoutError):
        return "timeout", "the model did not answer in time"
    if isinstance(error, failures.ModelHTTPError):
        busy = error.status_code in (429, 503, 529)
        return ("busy" if busy else "failed"), f"the endpoint answered {error.status_code}"
    if isinstance(error, failures.ContentFilterError):
        return "refused", "the model refused to answer"
    if isinstance(error, failures.UsageLimitExceeded):
        return "invalid", f"the answer took more than it may: {text}"
    if isinstance(error, failures.UnexpectedModelBehavior):
        return "invalid", f"twice no valid answer: {text}"
    return "failed", f"{type(error).__name__}: {text}"
