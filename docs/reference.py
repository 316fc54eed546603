"""Writes the parts of docs/ that are made from the code: every setting, every command, every exit code.

    python docs/reference.py           writes what has changed
    python docs/reference.py --check   says what would change, and exits 1 if anything would

A page holds `<!-- begin: name -->` … `<!-- end: name -->`; what stands between is written here, the rest by hand.
"""

import re
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from inspect import cleandoc
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from headwater import errors
from headwater.activation.destinations import DESTINATIONS
from headwater.cli import app
from headwater.config import Config
from headwater.decisions.guardrails import GUARDRAILS
from headwater.decisions.inputs import GOALS
from headwater.decisions.policy import POLICIES
from headwater.decisions.table import DEFAULT
from headwater.failpoint import NAMES
from headwater.records.entities import ENTITIES
from headwater.registry import load

DOCS = Path(__file__).resolve().parent
WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}
TOP = "At the top"
BOUNDS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<"}


def settings() -> str:
    """One table per group of settings, in the order of the file."""
    return "\n\n".join(f"### {title}\n\n{table}" for title, table in _groups("", Config))


def _groups(path: str, model: type[BaseModel], given: str = "") -> Iterator[tuple[str, str]]:
    rows, inner = [], []
    for name, info in model.model_fields.items():
        place = f"{path}.{name}" if path else name
        group = _group(info.annotation)
        if group is None:
            rows.append(f"| `{name}` | {_type(info)} | {_default(info)} | {_cell(info.description)} |")
        else:
            kind = get_origin(info.annotation)
            default = f"Default: {_default(info)}\n\n" if kind is list else ""
            inner += _groups(place + {list: "[]", dict: ".<name>"}.get(kind, ""), group, default)
    if rows:
        head = "| setting | value | default | what it does |\n| --- | --- | --- | --- |"
        yield (f"`{path}`" if path else TOP), given + "\n".join([head, *rows])
    yield from inner


def _cell(text: str | None) -> str:
    """Text for a table's cell; in code GitHub shows `<` as it is, elsewhere it would be a tag."""
    pieces = (text or "").replace("|", "\\|").split("`")
    return "`".join(piece if i % 2 else piece.replace("<", "&lt;") for i, piece in enumerate(pieces))


def _group(annotation: Any) -> type[BaseModel] | None:
    """The settings class behind an annotation such as `X`, `list[X]` or `dict[str, X]`."""
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            return kind
    return None


def _type(info: FieldInfo) -> str:
    bounds = [
        f"{sign} {getattr(rule, key)}" for rule in info.metadata for key, sign in BOUNDS.items() if hasattr(rule, key)
    ]
    return ", ".join([_word(info.annotation), *bounds])


def _word(annotation: Any) -> str:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _word(inside[0])
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inside)
    if origin in (Union, UnionType):
        return " or ".join(_word(kind) for kind in inside)
    if origin is list:
        return f"list of {_word(inside[0])}"
    if origin is dict:
        return f"{_word(inside[0])} to {_word(inside[1])}"
    return "null" if annotation is NoneType else WORDS.get(annotation, "any")


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None:
        return "`null`"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        items = (_mapping(item.model_dump()) if isinstance(item, BaseModel) else str(item) for item in value)
        return f"`[{', '.join(items)}]`"
    if isinstance(value, dict):
        return f"`{_mapping(value)}`"
    return f"`{value}`"


def _mapping(value: dict[str, Any]) -> str:
    """A mapping as YAML writes it on one line."""
    items = ", ".join(f"{key}: {'null' if item is None else item}" for key, item in value.items())
    return f"{{{items}}}"


def commands() -> str:
    """One section per command, with its arguments and options."""
    return "\n\n".join(_command(name, command) for name, command in walk(typer.main.get_command(app), "headwater"))


def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name; hidden ones are left out."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for short, child in inner.items():
        if not child.hidden:
            yield from walk(child, f"{name} {short}")


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    usage = " ".join([name, *(a.name.upper() if a.required else f"[{a.name.upper()}]" for a in arguments)])
    lines = [f"### `{usage}`", "", (command.help or "").strip()]
    rows = [
        f"| {_names(p)} | {_option_default(p)} | {f'`{p.envvar}`' if p.envvar else ''} | {_cell(p.help)} |"
        for p in command.params
        if p.name not in ("project", "as_json", "help")
    ]
    if rows:
        lines += ["", "| | default | environment | |", "| --- | --- | --- | --- |", *rows]
    return "\n".join(lines)


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])


def _option_default(parameter: Any) -> str:
    value = parameter.default
    if parameter.required:
        return "required"
    if value in (None, "") or callable(value):
        return ""
    if isinstance(value, bool):
        return f"`{(parameter.opts if value else parameter.secondary_opts)[0]}`" if parameter.secondary_opts else "off"
    return f"`{value}`"


def exit_codes() -> str:
    """Exit codes, from the errors that carry them."""
    kinds = [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.HeadwaterError)
    ]
    direct = {kind.exit_code: kind for kind in reversed(kinds) if kind.__base__ is errors.HeadwaterError}
    rows = [f"| {code} | {(kind.__doc__ or '').strip().splitlines()[0]} |" for code, kind in sorted(direct.items())]
    head = ["| code | meaning |", "| --- | --- |", "| 0 | Done; the warnings on the screen are part of the result. |"]
    interrupted = "| 130 | Interrupted with Ctrl-C; what was done so far is kept. |"
    return "\n".join([*head, *rows, interrupted])


def entities() -> str:
    """One table per entity: what a mapping can fill."""
    parts = []
    for entity in ENTITIES.values():
        head = f"### `{entity.name}`\n\nOne row per {entity.grain}. Key: `{entity.key}`."
        rows = [
            f"| `{f.name}`{' **required**' if f.required else ''} | {f.type} | {_cell(f.text)} |" for f in entity.fields
        ]
        parts.append("\n".join([head, "", "| column | type | |", "| --- | --- | --- |", *rows]))
    return "\n\n".join(parts)


def failpoints() -> str:
    """The places at which a killed process is tried."""
    return "\n".join(
        ["| killed at | when |", "| --- | --- |", *(f"| `{name}` | {_cell(text)} |" for name, text in NAMES.items())]
    )


def guardrails() -> str:
    """The rules in their order, each with the sentence that it gives."""
    rules = sorted((load("guardrail", name, GUARDRAILS) for name in GUARDRAILS), key=lambda rule: rule.step)
    rows = [f"| {rule.step} | `{rule.name}` | {_cell(_paragraph(rule))} |" for rule in rules]
    return "\n".join(["| step | rule | |", "| --- | --- | --- |", *rows])


def goals() -> str:
    """Goals and what they are measured by."""
    return "\n".join(
        ["| goal | measured by |", "| --- | --- |", *(f"| `{name}` | {_cell(text)} |" for name, text in GOALS.items())]
    )


def policies() -> str:
    """The policies that are built in."""
    rows = [f"| `{name}` | {_cell(_paragraph(load('policy', name, POLICIES)))} |" for name in POLICIES]
    return "\n".join(["| policy | |", "| --- | --- |", *rows])


def default_table() -> str:
    """The default table: goal and segment to action."""
    segments = DEFAULT.segments
    rows = [
        f"| `{goal}` | {' | '.join(f'`{DEFAULT.default(goal, segment)}`' for segment in segments)} |" for goal in GOALS
    ]
    return "\n".join(
        [
            f"| goal | {' | '.join(f'`{segment}`' for segment in segments)} |",
            "| --- |" + " --- |" * len(segments),
            *rows,
        ]
    )


def actions() -> str:
    """The list of actions."""
    rows = [
        f"| `{a.action_id}` | {', '.join(a.channels)} | `{a.template}` | {a.discount_pct:g} % | {', '.join(f'`{s}`' for s in a.segments)} |"
        for a in DEFAULT.actions
    ]
    return "\n".join(
        ["| action | channels, in order | template | offer | for |", "| --- | --- | --- | --- | --- |", *rows]
    )


def destinations() -> str:
    """A section per destination: its guarantee and its options, from its docstring and its options class."""
    parts = []
    for name in DESTINATIONS:
        kind = load("destination", name, DESTINATIONS)
        options = getattr(import_module(kind.__module__), f"{kind.__name__}Options", None)
        groups = list(_groups("", options)) if options else []
        tables = [table if title == TOP else f"{title}:\n\n{table}" for title, table in groups] or ["No options."]
        parts.append("\n\n".join([f"### `{name}`", cleandoc(kind.__doc__ or ""), *tables]))
    return "\n\n".join(parts)


def verbs() -> str:
    """The verbs of the Makefile at the root."""
    found = re.findall(
        r"^([a-z -]+):[^#\n]*## (.*)$", (DOCS.parent / "Makefile").read_text(encoding="utf-8"), re.MULTILINE
    )
    rows = [f"| {', '.join(f'`make {name}`' for name in names.split())} | {_cell(text)} |" for names, text in found]
    return "\n".join(["| | |", "| --- | --- |", *rows])


def _paragraph(kind: type) -> str:
    """A docstring as one line."""
    return " ".join((kind.__doc__ or "").split())


PARTS: dict[str, Callable[[], str]] = {
    "settings": settings,
    "commands": commands,
    "exit codes": exit_codes,
    "entities": entities,
    "failpoints": failpoints,
    "guardrails": guardrails,
    "goals": goals,
    "policies": policies,
    "default table": default_table,
    "actions": actions,
    "destinations": destinations,
    "verbs": verbs,
}


def rendered(page: str) -> str:
    """A page with its generated parts as they should be now."""
    for name, part in PARTS.items():
        pattern = re.compile(rf"(<!-- begin: {name} -->\n).*?(<!-- end: {name} -->)", re.DOTALL)
        page = pattern.sub(lambda found, part=part: f"{found[1]}\n{part()}\n\n{found[2]}", page)
    return page


def pages() -> list[Path]:
    """The pages that may hold generated parts."""
    return sorted([*DOCS.parent.glob("*.md"), *DOCS.glob("*.md")])


def main() -> None:
    """Write, or with `--check` only look; a part that stands on no page is an error in both cases."""
    check = "--check" in sys.argv
    texts = {path: path.read_text(encoding="utf-8") for path in pages()}
    homeless = [name for name in PARTS if not any(f"<!-- begin: {name} -->" in text for text in texts.values())]
    stale = {path: now for path, text in texts.items() if (now := rendered(text)) != text}
    for path, text in stale.items():
        if not check:
            path.write_text(text, encoding="utf-8")
        print(f"{path.name} {'is stale: run python docs/reference.py' if check else 'written'}")
    for name in homeless:
        print(f"the part {name!r} stands on no page; put its two comments where it belongs")
    sys.exit(1 if homeless or (check and stale) else 0)


if __name__ == "__main__":
    main()
