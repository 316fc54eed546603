"""Tracking plans: which events a source may send, and what each of them holds, as JSON Schema.

    violations: quarantine             allow | omit | quarantine, for every event that does not say its own
    unplanned_events: allow            allow | quarantine
    events:
      Order Completed:                 the name as it is sent
        violations: omit
        schema: {type: object, required: [order_id], properties: {order_id: {type: string}}}
    identify: {schema: …}              also group, page and screen

The schema of a track, page or screen call is held against `properties`, that of identify and group against `traits`.

    allow        the event passes; what is wrong is noted in `context.violations`
    omit         properties that the schema does not name are removed, and noted there; anything else that is wrong is quarantined
    quarantine   the event is rejected, with everything that is wrong
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import jsonschema_rs
import yaml
from pydantic import Field, ValidationError

from headwater.collect.reasons import Reason
from headwater.errors import ConfigError
from headwater.settings import Settings, read_yaml

Violations = Literal["allow", "omit", "quarantine"]
HELD_AGAINST = {
    "track": "properties",
    "page": "properties",
    "screen": "properties",
    "identify": "traits",
    "group": "traits",
}
MOST = 20
"""No event is told more violations than this."""


class RuleFile(Settings):
    """What one event, or one kind of call, holds."""

    json_schema: Annotated[dict[str, Any], Field(alias="schema", description="JSON Schema of properties or traits")]
    violations: Annotated[Violations | None, Field(description="null = as the plan says")] = None


class PlanFile(Settings):
    """A tracking plan as it stands in its file."""

    violations: Violations = "quarantine"
    unplanned_events: Literal["allow", "quarantine"] = "allow"
    events: dict[str, RuleFile] = {}
    identify: RuleFile | None = None
    group: RuleFile | None = None
    page: RuleFile | None = None
    screen: RuleFile | None = None


class _Rule:
    """One schema, ready to be held against events."""

    def __init__(self, given: RuleFile, violations: Violations, hidden: bool) -> None:
        self.schema = given.json_schema
        self.violations = given.violations or violations
        self.validator = jsonschema_rs.validator_for(
            self.schema, validate_formats=True, offline=True, mask="a hidden value" if hidden else None
        )


class Plan:
    """The tracking plan of one source. `hidden`: values never stand in what is said about them (the source has masks)."""

    def __init__(self, file: PlanFile, hidden: bool = False) -> None:
        self._unplanned = file.unplanned_events
        self._events = {name: _Rule(rule, file.violations, hidden) for name, rule in file.events.items()}
        kinds = {"identify": file.identify, "group": file.group, "page": file.page, "screen": file.screen}
        self._kinds = {kind: _Rule(rule, file.violations, hidden) for kind, rule in kinds.items() if rule}

    def check(self, kind: str, item: dict[str, Any]) -> tuple[list[Reason], list[str]]:
        """Why the event is rejected, and what is to be noted on it when it is not. May remove properties of `item`."""
        if kind == "track":
            rule = self._events.get(item["event"])
            if rule is None:
                return ([Reason("unplanned_event", path="event")] if self._unplanned == "quarantine" else []), []
        else:
            rule = self._kinds.get(kind)
            if rule is None:
                return [], []
        held = HELD_AGAINST[kind]
        values = item.get(held)
        if values is None:
            values = {}
        notes: list[str] = []
        if rule.violations == "omit":
            _omit(rule.schema, values, held, notes)
        if rule.validator.is_valid(values):
            return [], notes
        wrong = []
        for error in rule.validator.iter_errors(values):
            path = ".".join([held, *(str(part) for part in error.instance_path)])
            wrong.append((path, error.message[:300]))
            if len(wrong) == MOST:
                break
        if rule.violations == "allow":
            return [], [f"{path}: {message}" for path, message in wrong]
        return [Reason("plan_violation", message, path) for path, message in wrong], []


def _omit(schema: Any, values: Any, path: str, notes: list[str]) -> None:
    """Remove the properties that the schema does not name, at every level that names any."""
    if isinstance(values, list):
        for value in values:
            _omit(schema.get("items"), value, path, notes) if isinstance(schema, dict) else None
        return
    if not isinstance(schema, dict) or not isinstance(values, dict):
        return
    named = schema.get("properties")
    if not isinstance(named, dict) or "patternProperties" in schema:
        return
    for name in [name for name in values if name not in named]:
        del values[name]
        notes.append(f"{path}.{name}: not in the plan, removed")
    for name, value in values.items():
        if isinstance(value, dict | list):
            _omit(named[name], value, f"{path}.{name}", notes)


def load(path: Path, hidden: bool = False) -> Plan:
    """Read a plan. Raises ConfigError with everything that is wrong with the file."""
    try:
        raw = read_yaml(path.read_text(encoding="utf-8")) or {}
        file = PlanFile.model_validate(raw)
    except OSError as error:
        raise ConfigError(
            f"tracking plan {path}: cannot be read ({error.strerror}). Make the file, or mend the setting"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"tracking plan {path} is neither YAML nor JSON: {error}") from error
    except ValidationError as error:
        told = "\n".join(
            f"  {'.'.join(str(p) for p in e['loc'])}: found {e['input']!r}; {e['msg']}" for e in error.errors()
        )
        raise ConfigError(f"tracking plan {path} has {error.error_count()} problem(s):\n{told}") from error
    rules = {**{f"events.{name}": rule for name, rule in file.events.items()}} | {
        kind: rule for kind in ("identify", "group", "page", "screen") if (rule := getattr(file, kind))
    }
    wrong = []
    for place, rule in rules.items():
        try:
            _Rule(rule, "allow", False)
        except (ValueError, jsonschema_rs.ReferencingError) as error:
            wrong.append(f"  {place}.schema: {str(error).splitlines()[0]}")
    if wrong:
        raise ConfigError("\n".join([f"tracking plan {path} has {len(wrong)} problem(s):", *wrong]))
    return Plan(file, hidden)
