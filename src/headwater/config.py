"""`headwater.yml`: every setting declared once, with default, unit and sentence; help and docs are made from here.

`load(folder)` reads a project. Unknown keys are errors that name the nearest valid key; all problems are reported at once.
The command line and the environment change settings only through the few options that say so.
"""

import difflib
import hashlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, Field, ValidationError

from headwater.activation.parents import cycle
from headwater.activation.settings import AlertSettings, DestinationSettings, SyncSettings
from headwater.collect.settings import CollectSettings
from headwater.decisions.settings import DecisionSettings
from headwater.errors import ConfigError, InvalidValue
from headwater.identity.settings import IdentitySettings
from headwater.live.settings import DataProductSettings, LiveSettings
from headwater.log.settings import LogSettings
from headwater.segments.settings import MqlSettings, SegmentSettings
from headwater.settings import Settings, read_yaml
from headwater.warehouse.flink.settings import FlinkSettings
from headwater.warehouse.settings import WarehouseSettings

FILE = "headwater.yml"


class Config(Settings):
    """A whole project."""

    name: Annotated[str, Field(description="name of the project", pattern=r"^[a-z][a-z0-9_]*$")] = "shop"
    currency: Annotated[str, Field(description="the shop's currency, ISO 4217", pattern=r"^[A-Z]{3}$")] = "USD"
    as_of: Annotated[
        str, Field(description="`latest` (newest row of the files) or a UTC moment like 2026-01-31T00:00:00")
    ] = "latest"
    warehouse: WarehouseSettings = WarehouseSettings()
    log: LogSettings = LogSettings()
    collect: CollectSettings = CollectSettings()
    identity: IdentitySettings = IdentitySettings()
    live: LiveSettings = LiveSettings()
    data_products: DataProductSettings = DataProductSettings()
    flink: FlinkSettings = FlinkSettings()
    segments: SegmentSettings = SegmentSettings()
    mql: MqlSettings = MqlSettings()
    decisions: DecisionSettings = DecisionSettings()
    destinations: dict[str, DestinationSettings] = {}
    syncs: list[SyncSettings] = []
    alerts: AlertSettings = AlertSettings()

    def digest(self) -> str:
        """Short hash of all settings; the same settings give the same digest on every machine."""
        return hashlib.sha256(json.dumps(self.model_dump(mode="json"), sort_keys=True).encode()).hexdigest()[:16]

    def sync(self, name: str) -> SyncSettings:
        """The sync of that name. Raises InvalidValue naming the syncs there are."""
        for sync in self.syncs:
            if sync.name == name:
                return sync
        known = ", ".join(sorted(sync.name for sync in self.syncs)) or "none"
        raise InvalidValue(f"there is no sync named {name!r} in {FILE}; there are: {known}")


def load(folder: Path) -> Config:
    """Read `folder/headwater.yml`.

    Raises ConfigError with every problem of the file at once: where it is, what was found, what is allowed.
    """
    path = folder / FILE
    try:
        raw = read_yaml(path.read_text(encoding="utf-8")) or {}
    except FileNotFoundError as error:
        raise ConfigError(
            f"{path} does not exist: this folder is not a Headwater project. Change into one, or make one with `headwater init NAME`"
        ) from error
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML: {_place(error)}") from error
    try:
        config = Config.model_validate(_with_exposures(raw, folder))
    except ValidationError as error:
        raise ConfigError(
            "\n".join([f"{path} has {error.error_count()} problem(s):", *(_sentence(p) for p in error.errors())])
        ) from error
    problems = _cross_check(config)
    if problems:
        raise ConfigError("\n".join([f"{path} has {len(problems)} problem(s):", *problems]))
    return config


def _with_exposures(raw: Any, folder: Path) -> Any:
    """The settings, and behind their syncs those that dbt exposures declare: `meta: {headwater: {sync: {destination: …}}}`.

    A sync of an exposure is named after it and reads the model that it depends on, unless it says otherwise. A `sync` that is
    a mere name refers to one of `headwater.yml` and declares nothing.
    """
    declared = [
        sync
        for path in sorted((folder / "models").rglob("*.yml"))
        if "exposures:" in (text := path.read_text(encoding="utf-8"))
        for sync in _declared(text, path.relative_to(folder))
    ]
    if not declared or not isinstance(raw, dict):
        return raw
    return {**raw, "syncs": [*(raw.get("syncs") or []), *declared]}


def _declared(text: str, path: Path) -> Iterator[dict[str, Any]]:
    try:
        exposures = (yaml.safe_load(text) or {}).get("exposures") or []
    except (yaml.YAMLError, AttributeError) as error:
        raise ConfigError(f"{path} holds exposures and is not valid YAML: {' '.join(str(error).split())}") from error
    for exposure in exposures:
        meta = {**(exposure.get("meta") or {}), **((exposure.get("config") or {}).get("meta") or {})}
        sync = (meta.get("headwater") or {}).get("sync")
        if isinstance(sync, dict):
            models = re.findall(r"ref\(\s*['\"](\w+)['\"]\s*\)", " ".join(map(str, exposure.get("depends_on") or [])))
            yield {"name": exposure.get("name"), **({"model": models[0]} if len(models) == 1 else {}), **sync}


def _place(error: yaml.YAMLError) -> str:
    """Where a file stops being YAML, and why, on one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else " ".join(str(error).split())


def _sentence(problem: Any) -> str:
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        near = difflib.get_close_matches(str(problem["loc"][-1]), _all_keys(Config), n=1)
        return f"  {place}: no such setting" + (f"; did you mean {near[0]!r}?" if near else "")
    return f"  {place}: found {problem['input']!r}; {problem['msg'][0].lower()}{problem['msg'][1:]}"


def _all_keys(model: type[BaseModel]) -> list[str]:
    keys: list[str] = []
    for name, info in model.model_fields.items():
        keys.append(name)
        kinds = [info.annotation, *getattr(info.annotation, "__args__", ())]
        for kind in kinds:
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys += _all_keys(kind)
    return keys


def _cross_check(config: Config) -> list[str]:
    problems = [
        f"  syncs.{sync.name}.destination: found {sync.destination!r}; there is no such destination. Known: {', '.join(sorted(config.destinations)) or 'none'}"
        for sync in config.syncs
        if sync.destination not in config.destinations
    ]
    names = [sync.name for sync in config.syncs]
    problems += [
        f"  syncs: the name {name!r} is used twice" for name in sorted({n for n in names if names.count(n) > 1})
    ]
    if config.log.kind == "kafka" and config.collect.log_max_mb is not None:
        problems.append(
            "  collect.log_max_mb: is a limit of the file; the log is in Kafka, whose disks are the cluster's to limit. Leave it out"
        )
    problems += [
        f"  syncs.{sync.name}.parents.{parent}: there is no such sync. Known: {', '.join(sorted(names))}"
        for sync in config.syncs
        for parent in sync.parents
        if parent not in names
    ]
    if circle := cycle(config.syncs):
        problems.append(
            f"  syncs: {' → '.join([*circle, circle[0]])}: each waits for the next; one of them must go first"
        )
    problems += [
        f"  decisions.channels.{channel}: found {sync!r}; there is no such sync. Known: {', '.join(sorted(names)) or 'none'}"
        for channel, sync in config.decisions.channels.items()
        if names and sync not in names
    ]
    return problems
