"""Rejected events sent through again, after a plan, a mapping or a limit was mended.

`check` says what a rejected event would become now; what passes is appended to the log in the order in which it first came,
and its row is marked. Twice is as once: rows that are marked are not looked at again, and a call whose message id was landed
since is not appended a second time. A change of a database row that the engine could not read goes to its own topic again as it
is: whether it fits now is seen when it lands, and landing it twice is as once. A kill between appending and marking leaves repeats in the log, which landing drops.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

import sqlglot
from sqlglot import exp

from headwater.clock import Clock, naive_utc
from headwater.errors import UsageError
from headwater.failpoint import failpoint
from headwater.log.base import Log
from headwater.records.logged import Entry
from headwater.warehouse import Warehouse

_PART = 1_000
"""Rejected events that are appended and marked together."""


class Reason(Protocol):
    """Why an event would be rejected again."""

    @property
    def code(self) -> str: ...


class Verdict(Protocol):
    """What became of one rejected event: entries for the log, or every reason why not."""

    @property
    def entries(self) -> Sequence[Entry]: ...

    @property
    def reasons(self) -> Sequence[Reason]: ...


Check = Callable[[str, bytes | None, Mapping[str, Any], datetime], Verdict]
"""Given source, raw bytes, arrival and moment of a rejected event."""


@dataclass(frozen=True)
class Redriven:
    """`looked` at so many rejected events; `passed` are sent through again as `entries` calls, of which `known` were landed
    already; `still` counts those that are rejected again, by first reason. `passing` and `failing` name some of their ids."""

    looked: int = 0
    passed: int = 0
    entries: int = 0
    known: int = 0
    still: Mapping[str, int] = field(default_factory=dict)
    passing: tuple[str, ...] = ()
    failing: tuple[str, ...] = ()


def redrive(
    warehouse: Warehouse, log: Log, check: Check, clock: Clock, *, where: str | None = None, dry_run: bool = False
) -> Redriven:
    """Send through what passes now. `where`: a condition on headwater.rejected_events; `dry_run`: only say what would pass.

    Raises UsageError for a condition that is none, and what the log raises when it cannot be written; the parts that were
    appended before stay so.
    """
    rows = _rejected(warehouse, where)
    passed = entries = known = 0
    still: Counter[str] = Counter()
    passing: list[str] = []
    failing: list[str] = []
    for start in range(0, len(rows), _PART):
        ready: list[Entry] = []
        done: list[str] = []
        for row in rows[start : start + _PART]:
            if row["rejected_id"].startswith("changes-"):
                change = _change(row)
                if change is None:
                    still[row["reason"]] += 1
                    failing.append(row["rejected_id"])
                else:
                    ready.append(change)
                    done.append(row["rejected_id"])
                continue
            arrival = json.loads(row["arrival"]) if row["arrival"] else {}
            verdict = check(row["source"] or "", row["raw"], arrival, row["received_at"])
            if verdict.reasons:
                still[verdict.reasons[0].code] += 1
                failing.append(row["rejected_id"])
                continue
            ready += verdict.entries
            done.append(row["rejected_id"])
        new = _unknown(warehouse, ready)
        passed += len(done)
        entries += len(new)
        known += len(ready) - len(new)
        passing += done
        if dry_run or not done:
            continue
        if new:
            log.append(new)
        failpoint("live.redriven")
        warehouse.execute(
            "update headwater.rejected_events set redriven_at = ? where list_contains(?, rejected_id)",
            [naive_utc(clock.now()), done],
        )
    return Redriven(len(rows), passed, entries, known, dict(still), tuple(passing[:20]), tuple(failing[:20]))


def _change(row: Mapping[str, Any]) -> Entry | None:
    """The change as an entry of its topic; None when it is no JSON object, so that nothing will ever become of it."""
    raw = bytes(row["raw"] or b"")
    try:
        said = json.loads(raw)
    except ValueError:
        return None
    if not isinstance(said, dict):
        return None
    key = f"{said.get('table') or ''}:{json.dumps(said.get('key'))}"
    return Entry("changes", row["source"] or "", key, row["message_id"] or "", row["micros"], raw)


def _rejected(warehouse: Warehouse, where: str | None) -> list[dict[str, Any]]:
    condition = "true"
    if where:
        condition = _condition(where)
    return warehouse.rows(
        "select rejected_id, source, raw, arrival, received_at, message_id, reason, epoch_us(received_at) as micros"
        " from headwater.rejected_events"
        f" where redriven_at is null and ({condition}) order by received_at, position"
    )


def _condition(where: str) -> str:
    """The condition, read and written again, so that it can be nothing but one."""
    problem = "it is more than a condition"
    try:
        tree = sqlglot.parse_one(f"select 1 where {where}", dialect="duckdb")
        found = tree.args.get("where")
        if (
            isinstance(tree, exp.Select)
            and found
            and {n for n, part in tree.args.items() if part} == {"expressions", "where"}
        ):
            return found.this.sql("duckdb")
    except sqlglot.errors.SqlglotError as error:
        problem = " ".join(str(error).split())
    raise UsageError(
        f"found where = {where!r}, which is no condition on headwater.rejected_events ({problem}); expected something like "
        "\"reason = 'no_event' and source = 'web'\""
    )


def _unknown(warehouse: Warehouse, entries: Sequence[Entry]) -> list[Entry]:
    """Those whose message id was not landed yet, the first of several with one id; and what a batch still has rejected."""
    if not entries:
        return []
    landed = set(
        warehouse.execute(
            "select source, event_id from (select unnest(?) as event_id) as asked inner join ("
            "select source, event_id from collected.events union all select source, event_id from collected.identifies"
            " union all select source, event_id from collected.aliases) as landed using (event_id)",
            [[entry.message_id for entry in entries]],
        ).fetchall()
    )
    new = []
    for entry in entries:
        if entry.topic == "rejected" or (entry.source, entry.message_id) not in landed:
            landed.add((entry.source, entry.message_id))
            new.append(entry)
    return new
