"""What a stage says when it is done; the screen, `--json` and `headwater.stage_runs` are all made from it."""

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class StageResult:
    """`refused`: a gate said no, and the message says why; nothing went wrong. `row_count` is what the stage left behind; `message` one sentence; `details` what `--json` adds; `warnings` what was
    dropped, skipped, repaired or doubted, one sentence each (never empty when something was)."""

    stage: str
    status: Literal["ok", "skipped", "refused", "failed"]
    row_count: int
    message: str
    details: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    repeated: int = 0
    """So many of the warnings, the last ones, were said by the last run of the stage that was `ok` too."""
