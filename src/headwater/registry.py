"""One registration idiom for sources, destinations, policies, guardrails and segment models.

A kind of part has a dictionary from short name to `"module:Class"`. A user writes the short name, or an import string of
their own, or publishes an entry point in the group `headwater.<kind>`.
"""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from headwater.errors import ConfigError


def load(kind: str, name: str, known: Mapping[str, str]) -> Any:
    """The object that `name` stands for.

    `name` is looked up in `known`, then among entry points `headwater.<kind>`, then read as `module:attribute`.
    Raises ConfigError that says what was looked for, where, and what would have been valid.
    """
    target = known.get(name)
    if target is None:
        found = {point.name: point.value for point in entry_points(group=f"headwater.{kind}")}
        target = found.get(name, name)
        if ":" not in target:
            valid = ", ".join(sorted({*known, *found}))
            raise ConfigError(
                f"there is no {kind} named {name!r}; known: {valid}. Use one of these, or an import string like 'package.module:Class'"
            )
    module, _, attribute = target.partition(":")
    try:
        return getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name!r} points to {target!r}, which cannot be loaded: {error}") from error
