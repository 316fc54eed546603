"""The truth about the collector, in sentences: can it take events, is there room, does anybody read what it takes.

failing   it cannot take events: /health answers 503
warn      it takes events, and somebody should look
ok        nothing to do
"""

import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headwater import relay
from headwater.clock import Clock
from headwater.collect.databases.state import Place
from headwater.collect.settings import CollectSettings
from headwater.errors import LogUnavailable
from headwater.log.base import Log, LogFacts

State = Literal["ok", "warn", "failing"]

FAILURE_SECONDS = 30.0
"""A failed commit keeps /health at 503 for so long, unless one succeeds; then senders may try whether it works again."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `message` says what was found and, unless ok, what to do."""

    name: str
    status: State
    message: str


class Health:
    """What the collector remembers for its health; `report` asks the log, so call it from a thread."""

    def __init__(self, settings: CollectSettings, log: Log, clock: Clock, folder: Path | None = None) -> None:
        self._settings = settings
        self._places = [Place(folder, one.name) for one in (*settings.databases, *settings.topics)] if folder else []
        self._warehouse = folder / "warehouse" if folder else None
        self._log = log
        self._clock = clock
        self._failed_at: float | None = None
        self._failure = ""
        self.waiting_bytes = 0
        self.requests = 0

    def kept(self) -> None:
        """A commit succeeded."""
        self._failed_at = None

    def failed(self, message: str) -> None:
        """A commit failed."""
        self._failed_at, self._failure = time.monotonic(), message

    def report(self) -> tuple[int, dict[str, Any]]:
        """The HTTP status and the body of /health."""
        checks = [self._commits(), self._load(), *self._databases()]
        try:
            facts = self._log.facts()
            checks += [self._disk(facts), self._room(facts), *self._readers(facts)]
        except LogUnavailable as error:
            checks.append(Check("log", "failing", str(error)))
        worst: State = "ok"
        for state in ("warn", "failing"):
            if any(check.status == state for check in checks):
                worst = state
        told = {
            "status": worst,
            "accepting": worst != "failing",
            "checks": [{"name": c.name, "status": c.status, "message": c.message} for c in checks],
        }
        return (503 if worst == "failing" else 200), told

    def _commits(self) -> Check:
        if self._failed_at is None:
            return Check("commit", "ok", "what was handed to the log is durable")
        ago = time.monotonic() - self._failed_at
        if ago < FAILURE_SECONDS:
            return Check("commit", "failing", f"the newest commit failed {ago:.0f} s ago: {self._failure}")
        return Check(
            "commit", "warn", f"the newest commit failed {ago:.0f} s ago, none was tried since: {self._failure}"
        )

    def _load(self) -> Check:
        limits = self._settings.limits
        found = f"{self.requests:,} requests and {self.waiting_bytes:,} bytes are being worked on"
        if self.requests >= limits.requests or self.waiting_bytes >= limits.pending_bytes:
            most = f"{limits.requests:,} and {limits.pending_bytes:,} may"
            return Check("load", "failing", f"{found}; {most}. Senders are told to wait, and try again by themselves")
        return Check("load", "ok", found)

    def _disk(self, facts: LogFacts) -> Check:
        if facts.free_bytes is None:
            return Check("disk", "ok", f"{facts.place}: the free room is not known")
        free = f"{facts.free_bytes / 1e6:,.0f} MB are free on the disk of {facts.place}"
        if facts.free_bytes < 1_000_000:
            return Check("disk", "failing", f"{free}. Free some; senders keep their events until then")
        if facts.free_bytes < self._settings.limits.free_disk_mb * 1e6:
            return Check("disk", "warn", f"{free}, less than {self._settings.limits.free_disk_mb} MB. Free some")
        return Check("disk", "ok", free)

    def _room(self, facts: LogFacts) -> Check:
        if facts.size_bytes is None:
            return Check("log", "ok", f"{facts.place} answers")
        if facts.limit_bytes is None:
            return Check("log", "ok", f"the log takes {facts.size_bytes / 1e6:,.1f} MB")
        found = f"the log takes {facts.size_bytes / 1e6:,.1f} of the {facts.limit_bytes / 1e6:,.1f} MB that it may"
        if facts.size_bytes > 0.9 * facts.limit_bytes:
            return Check("log", "warn", f"{found}. Let its readers catch up, or raise `collect.log_max_mb`")
        return Check("log", "ok", found)

    def _databases(self) -> list[Check]:
        """What the processes say that follow databases; they fill the same log."""
        checks = []
        for place in self._places:
            note, name = place.note(), f"database {place.name}"
            if note is None or not note.alive(datetime.now(UTC)):
                said = f": {note.sentence}" if note and note.phase == "failed" else ""
                checks.append(Check(name, "warn", f"nobody follows it{said}. See `headwater cdc status`"))
            elif note.warnings:
                checks.append(Check(name, "warn", "; ".join(note.warnings)))
            else:
                checks.append(Check(name, "ok", note.sentence))
        return checks

    def _readers(self, facts: LogFacts) -> list[Check]:
        if not facts.unread:
            if self._warehouse is not None and relay.holder(self._warehouse) is not None:
                found = "the engine is starting, and has read nothing yet; events wait in the log"
                return [Check("readers", "warn", f"{found}. `headwater status` says how far it is")]
            return [Check("readers", "warn", "nobody reads the log yet. Start the engine with `headwater up`")]
        now = self._clock.now()
        checks = []
        for reader, topics in sorted(facts.unread.items()):
            behind = sum(topics.values())
            if not behind:
                checks.append(Check(f"reader {reader}", "ok", f"{reader} has had everything"))
                continue
            seconds = 0.0
            for topic, unread in topics.items():
                if not unread:
                    continue
                oldest = self._log.read(topic, facts.topics[topic].end - unread, 1)
                if oldest:
                    since = datetime.fromtimestamp(oldest[0].received_at / 1e6, UTC)
                    seconds = max(seconds, (now - since).total_seconds())
            found = f"{reader} is {behind:,} records behind, the oldest came {max(seconds, 0):,.0f} s ago"
            late = seconds > self._settings.lag_warn_seconds
            told = f"{found}. See whether it runs: `headwater status`" if late else found
            checks.append(Check(f"reader {reader}", "warn" if late else "ok", told))
        return checks
