"""What `headwater up` says."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


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
