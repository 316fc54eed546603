"""Templates for the body and the address of a call.

`"{email}"` alone becomes the field's own value (a number stays a number); inside other text it becomes text. `{@key}`,
`{@operation}`, `{@operation_id}`, `{@version}`, `{@sync}` and `{@decision_id}` are the operation's own. In a body, an entry
whose field is absent is left out: what is not to be touched is not mentioned.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from headwater.activation import exact
from headwater.activation.destinations.base import Operation

_NAME = re.compile(r"\{([^{}]+)\}")
OWN = ("@key", "@operation", "@operation_id", "@version", "@sync", "@decision_id")
ABSENT = object()


def names(template: Any) -> set[str]:
    """Every `{name}` in the template."""
    if isinstance(template, str):
        return set(_NAME.findall(template))
    if isinstance(template, Mapping):
        return {name for key, value in template.items() for name in names(key) | names(value)}
    if isinstance(template, list):
        return {name for value in template for name in names(value)}
    return set()


def fill(template: Any, operation: Operation) -> Any:
    """The template with the operation's values."""
    if isinstance(template, str):
        whole = _NAME.fullmatch(template)
        if whole:
            return _value(whole.group(1), operation)
        return _NAME.sub(lambda found: as_text(_value(found.group(1), operation)), template)
    if isinstance(template, Mapping):
        filled = {as_text(fill(key, operation)): fill(value, operation) for key, value in template.items()}
        return {key: value for key, value in filled.items() if value is not ABSENT}
    if isinstance(template, list):
        return [value for value in (fill(item, operation) for item in template) if value is not ABSENT]
    return template


def fill_address(template: str, operation: Operation, escape: Callable[[str], str]) -> str:
    """The address with the operation's values, each escaped."""
    return _NAME.sub(lambda found: escape(as_text(_value(found.group(1), operation))), template)


def as_text(value: Any) -> str:
    """The value inside other text; nothing for an absent one."""
    if value is None or value is ABSENT:
        return ""
    return value if isinstance(value, str) else exact.dumps(value)


def _value(name: str, operation: Operation) -> Any:
    if name in OWN:
        return getattr(operation, name[1:])
    return operation.fields.get(name, ABSENT)


def pick(document: Any, path: str) -> Any:
    """The value at a path like `$.data.results[0].ok`; None when there is nothing."""
    value = document
    for step in re.findall(r"[^.\[\]$]+|\[\d+\]", path):
        if step.startswith("["):
            position = int(step[1:-1])
            value = value[position] if isinstance(value, list) and position < len(value) else None
        else:
            value = value.get(step) if isinstance(value, Mapping) else None
    return value
