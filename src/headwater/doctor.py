"""`headwater doctor`: what must be true for a run to succeed, looked at before it is tried.

Each check gives one sentence: what was found and, where it is wrong, what to do. Nothing is changed.
"""

import os
import shutil
import socket
import sys
from dataclasses import dataclass, replace
from datetime import datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from headwater import config as configuration
from headwater import relay
from headwater.activation.destinations import DESTINATIONS
from headwater.clock import CLOCK_FILE, SystemClock, from_environment
from headwater.collect import mapping as mappings
from headwater.collect import sources, trials
from headwater.collect.databases import debezium
from headwater.collect.databases.masks import load as load_masks
from headwater.collect.databases.postgres import address_of
from headwater.collect.databases.state import Place
from headwater.config import Config
from headwater.errors import Busy, ConfigError, HeadwaterError, LogUnavailable
from headwater.log.opening import begun, opened
from headwater.records.counted import counted
from headwater.registry import load
from headwater.scaffold import MAPPING
from headwater.warehouse import Warehouse
from headwater.warehouse.files import load as load_files
from headwater.warehouse.files import raw_types
from headwater.warehouse.lock import project_lock

_FREE_BYTES = 1 << 30
_WHOLE_BYTES, _LOOKED_AT_BYTES, _LOOKED_AT_ROWS = 1 << 25, 1 << 28, 1000
"""Files up to the first size together are tried whole, up to the second their first rows; larger ones wait for `headwater seed`."""


@dataclass(frozen=True)
class Check:
    """One thing looked at. `warn` does not stop a run."""

    name: str
    status: Literal["ok", "warn", "wrong"]
    sentence: str


def examine(folder: Path) -> list[Check]:
    """All checks of a project, in the order in which a run would meet them."""
    checks = [_python(), _disk(folder)]
    try:
        config = configuration.load(folder)
    except ConfigError as error:
        return [*checks, Check("settings", "wrong", str(error))]
    checks.append(Check("settings", "ok", f"headwater.yml is valid (digest {config.digest()})"))
    checks += [_mapping(folder, config), *_engine_or_lock(folder, config), _log(folder, config), _clock()]
    checks += [
        *_sources(folder, config),
        *_databases(folder, config),
        *_destinations(config),
        *_alerts(config),
        *_secrets(folder),
    ]
    return checks


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    return Check("python", "ok", f"Python {version}")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder if folder.exists() else Path()).free
    text = f"{free / 1e9:.1f} GB free"
    if free < _FREE_BYTES:
        return Check("disk", "wrong", f"{text}; a build needs at least 1 GB: free some space")
    return Check("disk", "ok", text)


def _mapping(folder: Path, config: Config) -> Check:
    if (config.collect.databases or config.collect.topics) and not (folder / MAPPING).exists():
        return Check("mapping", "ok", "no files: the models read what lands from the databases")
    try:
        mapping = mappings.read(folder / MAPPING)
        refused, tried = _refused(mapping, folder)
    except HeadwaterError as error:
        return Check("mapping", "wrong", str(error))
    if refused:
        return Check("mapping", "wrong", "\n".join(refused))
    return Check("mapping", "ok", f"{MAPPING} maps {counted(len(mapping.entities), 'entity', 'entities')}{tried}")


def _refused(mapping: mappings.Mapping, folder: Path) -> tuple[list[str], str]:
    """What cannot be computed of the mapping upon the rows of its files, and how many of these were tried."""
    found = {table: one for table, one in mapping.sources(folder).items() if one.path.is_file()}
    size = sum(one.path.stat().st_size for one in found.values())
    if size > _LOOKED_AT_BYTES:
        return [], f"; its files have {size / 1e6:,.0f} MB, so `headwater seed` tries its expressions, not this"
    whole = size <= _WHOLE_BYTES
    with Warehouse(":memory:") as warehouse:
        load_files(warehouse, found, SystemClock(), first_rows=None if whole else _LOOKED_AT_ROWS)
        there = {
            name: parts
            for name, parts in mapping.entities.items()
            if all({part.table, *part.join} <= set(found) for part in parts)
        }
        refused = trials.problems(replace(mapping, entities=there), raw_types(warehouse), warehouse.refusal)
    if not found:
        return refused, ""
    rows = "every row" if whole else f"the first {_LOOKED_AT_ROWS:,} rows of each file; `headwater seed` tries all"
    return refused, f", tried upon {rows}"


def _engine_or_lock(folder: Path, config: Config) -> list[Check]:
    """What a running engine holds it answers for; without one lock, warehouse and port must be free."""
    engine = relay.holder(folder / "warehouse")
    if engine is None:
        ended = relay.left_over(folder / "warehouse")
        said = [] if ended is None else [Check("engine", "warn", _ended(*ended))]
        return [*said, _lock(folder), _warehouse(folder, config), _port(config)]
    return [Check("engine", "ok", f"`headwater up` runs (process {engine}) and has lock, warehouse and port")]


def _ended(pid: int, started: datetime) -> str:
    return (
        f"no engine runs; the last one (process {pid}, since {started:%Y-%m-%d %H:%M:%S} UTC) ended unexpectedly:"
        " `headwater up` goes on where it was"
    )


def _port(config: Config) -> Check:
    host, port = config.collect.host, config.collect.port
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            sentence = (
                f"{host}:{port} cannot be listened on: {error.strerror}; for `headwater up` stop what uses it, or set"
                " collect.port"
            )
            return Check("port", "warn", sentence)
    return Check(
        "port", "ok", f"{host}:{port} is free for the collector" if port else "the collector takes any free port"
    )


def _log(folder: Path, config: Config) -> Check:
    if not begun(config.log, folder):
        return Check("log", "ok", "there is none yet; `headwater up` makes it")
    try:
        log = opened(config.log, folder)
        try:
            facts = log.facts()
        finally:
            log.close()
    except (LogUnavailable, ConfigError) as error:
        return Check("log", "wrong", str(error))
    waiting = sum(facts.unread.get("engine", {}).values())
    size = f", {facts.size_bytes / 1e6:.1f} MB" if facts.size_bytes is not None else ""
    text = f"{facts.place} can be read{size}, {waiting:,} record(s) wait for the engine"
    return Check("log", "ok", text)


def _clock() -> Check:
    given = os.environ.get(CLOCK_FILE)
    try:
        now = from_environment().now()
    except (OSError, ValueError) as error:
        return Check("clock", "wrong", f"{CLOCK_FILE} is set and cannot be used: {error}")
    if given:
        return Check("clock", "warn", f"{now:%Y-%m-%d %H:%M:%S} UTC, from {given} ({CLOCK_FILE}, for tests only)")
    return Check("clock", "ok", f"{now:%Y-%m-%d %H:%M:%S} UTC")


def _sources(folder: Path, config: Config) -> list[Check]:
    try:
        found = sources.load(config.collect, folder)
    except HeadwaterError as error:
        return [Check("sources", "wrong", str(error))]
    return [
        Check(f"source {name}", "ok", f"sends with the write key {one.write_key}")
        for name, one in found.by_name.items()
    ]


def _lock(folder: Path) -> Check:
    try:
        with project_lock(folder / "warehouse", "headwater doctor", wait_seconds=0):
            return Check("lock", "ok", "no other command holds the project")
    except Busy as error:
        return Check("lock", "warn", str(error))


def _warehouse(folder: Path, config: Config) -> Check:
    path = folder / config.warehouse.path
    if not path.exists():
        return Check("warehouse", "warn", f"{config.warehouse.path} is not there yet; `headwater run` makes it")
    try:
        with Warehouse(path, read_only=True) as warehouse:
            as_of = warehouse.value("select max(as_of) from headwater.clock")
    except HeadwaterError as error:
        return Check("warehouse", "wrong", str(error))
    return Check("warehouse", "ok", f"{config.warehouse.path} opens, {path.stat().st_size / 1e6:.1f} MB, as of {as_of}")


def _databases(folder: Path, config: Config) -> list[Check]:
    """Whether each database could be followed from here; what it needs itself, `headwater cdc setup` says."""
    checks = []
    for one in config.collect.databases:
        lacking, where = debezium.missing(), ""
        if not lacking:
            try:
                load_masks(config.collect, one)
                where = address_of(one).shown
            except ConfigError as error:
                lacking = str(error)
        note = Place(folder, one.name).note()
        if lacking:
            checks.append(Check(f"database {one.name}", "wrong", lacking))
        elif note is not None and note.phase == "failed":
            checks.append(Check(f"database {one.name}", "warn", f"{where}, when last followed: {note.sentence}"))
        else:
            checks.append(Check(f"database {one.name}", "ok", f"{where}; `headwater cdc setup` looks at it"))
    return checks


def _destinations(config: Config) -> list[Check]:
    checks = []
    for name, settings in config.destinations.items():
        missing = [
            value
            for option, value in settings.options.items()
            if option.endswith("_env") and isinstance(value, str) and not os.environ.get(value)
        ]
        try:
            load("destinations", settings.type, DESTINATIONS)
        except ConfigError as error:
            checks.append(Check(f"destination {name}", "wrong", str(error)))
            continue
        if missing:
            names = ", ".join(missing)
            checks.append(
                Check(f"destination {name}", "wrong", f"the environment does not set {names}; set it, see .env.example")
            )
        else:
            checks.append(Check(f"destination {name}", "ok", f"{settings.type} is set up"))
    return checks


def _alerts(config: Config) -> list[Check]:
    if config.alerts.url_env is None or find_spec("apprise"):
        return []
    text = "alerts are to be sent, and the package apprise is not installed: pip install 'headwater[alerts]'"
    return [Check("alerts", "wrong", text)]


def _secrets(folder: Path) -> list[Check]:
    path = folder / ".env"
    if path.exists() and path.stat().st_mode & 0o077:
        return [Check("secrets", "warn", ".env can be read by others on this machine; chmod 600 .env")]
    return [Check("secrets", "ok", "secrets come from the environment only")]
