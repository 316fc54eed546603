"""Calls by which a tool says what became of what it was sent: one file per tool, registered here in plain sight.

    call --check--> is it really the tool, and not somebody who replays it --events--> track calls as Segment would send them

The events then take the way of all others: masks, limits, the log, landing. A person whom the tool knows by an id of its own
is called `tool:<tool>:<id>`; landing finds the customer of that id among those to whom something was delivered.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from headwater.collect.reasons import Reason

PERSON = "tool:"
"""What an anonymous id begins with that is a tool's own id of a person."""


@dataclass(frozen=True)
class Call:
    """One HTTP request of a tool. `url` as it was asked for, query included; header names in lower case."""

    method: str
    url: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    received: datetime


class Unreadable(Exception):
    """A body that is not what the tool publishes of its calls."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Hook(Protocol):
    """What the collector asks of a tool's file."""

    tool: str
    content_type: bytes

    def check(self, call: Call) -> Reason | None:
        """Why the call cannot be believed; None when it can."""
        ...

    def events(self, call: Call) -> list[dict[str, Any]]:
        """The track calls that it holds, each with a messageId that a repetition has again. Raises Unreadable."""
        ...

    def answer(self, taken: bool) -> bytes | None:
        """The body that the tool expects; None: ours will do."""
        ...
