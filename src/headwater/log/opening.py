"""The log that a project's settings name, opened."""

import os
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from headwater.clock import Clock
from headwater.log.base import Log
from headwater.log.settings import LogSettings
from headwater.log.sqlite import SqliteLog

FILE = "warehouse/log.sqlite"
"""The file of the SQLite log, relative to the project."""


def opened(
    settings: LogSettings,
    folder: Path,
    *,
    max_bytes: int | None = None,
    max_age: timedelta | None = None,
    clock: Clock | None = None,
    environment: Mapping[str, str] | None = None,
) -> Log:
    """The log of the project `folder`; whoever opens it closes it. Asks no broker yet.

    `max_bytes` is a limit of the file; a cluster has its own. Raises ConfigError when a secret is not in the environment.
    """
    if settings.kind == "sqlite":
        return SqliteLog(folder / FILE, max_bytes=max_bytes, max_age=max_age, clock=clock)
    from headwater.log.kafka import KafkaLog  # noqa: PLC0415 (its client is an extra)

    assert settings.kafka is not None, "the settings say so"
    return KafkaLog(settings.kafka, os.environ if environment is None else environment, max_age=max_age, clock=clock)


def begun(settings: LogSettings, folder: Path) -> bool:
    """Whether there is a log to look at: the file was made, or the log is a cluster's."""
    return settings.kind != "sqlite" or (folder / FILE).exists()
