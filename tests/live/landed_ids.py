"""Rows of the schema `collected` that matter to identity, written as landing writes them."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from headwater.warehouse import Warehouse

START = datetime(2026, 3, 1)  # noqa: DTZ001  (naive UTC, as the warehouse holds it)


def at(minute: int) -> datetime:
    return START + timedelta(minutes=minute)


@dataclass(frozen=True)
class Said:
    """One call: `kind` track, identify or alias; `minute` after START by the sender's clock, received a second later."""

    kind: str
    minute: int
    message_id: str
    user: str | None = None
    anonymous: str | None = None
    email: str | None = None
    device: str | None = None
    previous: str | None = None
    name: str = "page_viewed"


def land(warehouse: Warehouse, said: Sequence[Said], after: int) -> int:
    """Write the calls with positions after `after`; the answer is the last one."""
    for position, call in enumerate(said, after + 1):
        occurred, received = at(call.minute), at(call.minute) + timedelta(seconds=1)
        if call.kind == "alias":
            warehouse.execute(
                "insert into collected.aliases values (?, 'web', ?, ?, ?, ?, ?)",
                [call.message_id, call.previous, call.user, occurred, received, position],
            )
        elif call.kind == "identify":
            warehouse.execute(
                "insert into collected.identifies (event_id, source, kind, customer_id, anonymous_id, occurred_at, received_at, email, "
                "position) values (?, 'web', 'identify', ?, ?, ?, ?, ?, ?)",
                [call.message_id, call.user, call.anonymous, occurred, received, call.email, position],
            )
        else:
            context = json.dumps({"device": {"id": call.device}} if call.device else {"page": {"url": "/"}})
            warehouse.execute(
                "insert into collected.events (event_id, source, kind, event_name, customer_id, anonymous_id, occurred_at, received_at, "
                "is_future, properties, context, position) values (?, 'web', 'track', ?, ?, ?, ?, ?, false, '{}', ?, ?)",
                [call.message_id, call.name, call.user, call.anonymous, occurred, received, context, position],
            )
    return after + len(said)
