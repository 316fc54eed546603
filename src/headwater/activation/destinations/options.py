"""Options of a destination, checked like every other setting."""

from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import ValidationError

from headwater.errors import ConfigError
from headwater.records.counted import counted
from headwater.settings import Settings

Options = TypeVar("Options", bound=Settings)


def read(kind: type[Options], name: str, options: Mapping[str, Any]) -> Options:
    """The options as `kind`. Raises ConfigError with every problem: what was found, what is allowed."""
    try:
        return kind.model_validate(dict(options))
    except ValidationError as error:
        known = ", ".join(sorted(kind.model_fields))
        lines = []
        for problem in error.errors():
            place = ".".join(["destinations", name, "options", *(str(part) for part in problem["loc"])])
            if problem["type"] == "extra_forbidden":
                lines.append(f"  {place}: no such option; known: {known}")
            elif problem["type"] == "missing":
                lines.append(f"  {place}: is missing: {kind.model_fields[str(problem['loc'][0])].description}")
            elif problem["type"] == "value_error":  # our own sentence; the input may hold what must not be shown
                lines.append(f"  {place}: {problem['msg'].removeprefix('Value error, ')}")
            else:
                lines.append(f"  {place}: found {problem['input']!r}; {problem['msg']}")
        raise ConfigError(
            "\n".join([f"the destination {name!r} has {counted(len(lines), 'problem')}:", *lines])
        ) from error
