"""What `headwater up` says, on its screen and to who asks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

Phase = Literal["building", "reading models", "live", "parked", "stopped"]


@dataclass(frozen=True)
class Said:
    """One thing to be shown. A later one of the same `stage` takes its place where the screen can do that.

    `passing`: a mere change of numbers, not worth a line of its own where lines stay.
    """

    stage: str
    status: Literal["ok", "running", "warn", "failed", "skipped"]
    sentence: str
    details: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    passing: bool = False


@dataclass(frozen=True)
class State:
    """How a running engine's process fares. `busy_with`: the command that has the file; `since`: when `state` began."""

    pid: int
    state: Phase
    busy_with: str | None
    since: datetime
    address: str | None
    collector_restarts: int
