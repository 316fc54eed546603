"""The files of one source, in `warehouse/changes/<name>/`: where it stands, how it fares, what it was asked for.

    offsets.dat      Debezium's own: up to where the log has everything
    offsets.kept     the same, a few seconds older, and whole: Debezium writes its file in place, and a kill may tear it
    state.json       the moments noted before snapshots, what was missed, the shift of positions
    note.json        how the process fares, written every second; for `status`, `up` and /health
    resnapshot.json  somebody asked for the rows to be read again
    signal.json      the same, as Debezium is told

Nothing of any row is in them. All but Debezium's own are replaced as a whole.
"""

import json
import os
import re
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from headwater.collect.databases.changes import Floor

Phase = Literal["starting", "snapshot", "streaming", "stopped", "failed"]
STALE_SECONDS = 15.0
"""A note that is older was left behind by a process that is gone."""


@dataclass
class Note:
    """How a source fares. `sentence` says it in words; `warnings` are for somebody to look at.

    `rows`: of the running or last snapshot, of about `rows_expected`. `changes`, `rejected`: since the process began.
    `newest_at`: when the newest change or heartbeat that is in the log was committed. `behind_bytes`: journal that the
    database keeps for the slot, `left_bytes` what it may still write before the slot is lost.
    """

    source: str
    phase: Phase = "starting"
    sentence: str = ""
    warnings: list[str] = field(default_factory=list)
    pid: int = 0
    since: str = ""
    at: str = ""
    snapshot: str | None = None
    rows: int = 0
    rows_expected: int = 0
    changes: int = 0
    rejected: int = 0
    newest_at: str | None = None
    behind_bytes: int | None = None
    left_bytes: int | None = None
    gap: dict[str, Any] | None = None

    def alive(self, now: datetime) -> bool:
        """Whether a process still writes this note."""
        if self.phase in ("stopped", "failed") or not self.at:
            return False
        return (now - datetime.fromisoformat(self.at)).total_seconds() < STALE_SECONDS


@dataclass
class State:
    """What must outlive the process. `floor`: of the last snapshot that began; `next`: of the one that is to begin;
    `done`: whether a snapshot ever ended; `gap`: changes that were never seen one by one, and since when the rows are right."""

    floor: Floor | None = None
    next: Floor | None = None
    done: bool = False
    shift: int = 0
    gap: dict[str, Any] | None = None


class Place:
    """The files of a source."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder / "warehouse" / "changes" / name
        self.offsets = self.folder / "offsets.dat"
        self._kept = self.folder / "offsets.kept"
        self.signal = self.folder / "signal.json"
        self._state = self.folder / "state.json"
        self._note = self.folder / "note.json"
        self._asked = self.folder / "resnapshot.json"

    def make(self) -> None:
        """The folder, for this user only."""
        self.folder.mkdir(parents=True, exist_ok=True)
        self.folder.chmod(0o700)

    # ------------------------------------------------------------------ state and note

    def state(self) -> State:
        """What the last process left; empty at first."""
        held = _read(self._state) or {}
        for name in ("floor", "next"):
            if given := held.get(name):
                given["tables"] = tuple(given["tables"])
                held[name] = Floor(**given)
        return State(**held)

    def store(self, state: State) -> None:
        """Keep it; it survives a loss of power."""
        _replace(self._state, asdict(state), synced=True)

    def note(self) -> Note | None:
        """How it fares, as last said; None before the first time."""
        held = _read(self._note)
        return Note(**held) if held else None

    def say(self, note: Note) -> None:
        """Write the note."""
        _replace(self._note, asdict(note))

    # ------------------------------------------------------------------ asking for the rows again

    def ask(self, tables: list[str], now: datetime) -> None:
        """Have the rows of these tables read again; whoever asks later asks for more."""
        before = _read(self._asked) or {"tables": []}
        wanted = [*before["tables"], *(table for table in tables if table not in before["tables"])]
        _replace(self._asked, {"tables": wanted, "at": now.isoformat()}, synced=True)

    def asked(self) -> list[str] | None:
        """The tables to be read again; None when nobody asked."""
        held = _read(self._asked)
        return held["tables"] if held else None

    def answered(self) -> None:
        """They were read."""
        self._asked.unlink(missing_ok=True)

    def tell_debezium(self, schema: str, tables: list[str], snapshot: str) -> None:
        """Ask Debezium, which looks at this file every second, to read the tables between two changes."""
        names = [f"{schema}.{table}" for table in tables]
        told = {"id": snapshot, "type": "execute-snapshot", "data": {"type": "BLOCKING", "data-collections": names}}
        with self.signal.open("a", encoding="utf-8") as out:
            out.write(json.dumps(told) + "\n")

    # ------------------------------------------------------------------ offsets

    def position(self) -> int | None:
        """Up to where the log has everything, by Debezium's file; None when there is none, or before the first."""
        return _position(self.offsets)

    def mend_offsets(self) -> bool:
        """Put the kept file in the place of one that was torn; whether that was needed."""
        if not self.offsets.exists() or _whole(self.offsets) or not _whole(self._kept):
            return False
        self._kept.replace(self.offsets)
        return True

    def keep_offsets(self) -> None:
        """Keep a copy of Debezium's file; called when it is not writing."""
        if not _whole(self.offsets):
            return
        aside = self._kept.with_suffix(".new")
        aside.write_bytes(self.offsets.read_bytes())
        aside.replace(self._kept)

    def forget_offsets(self) -> None:
        """The next start begins with a snapshot."""
        self.offsets.unlink(missing_ok=True)
        self._kept.unlink(missing_ok=True)
        self.signal.unlink(missing_ok=True)


def _whole(path: Path) -> bool:
    """Whether a file of offsets is complete: Java's magic number at its beginning, the end of the map at its end."""
    try:
        held = path.read_bytes()
    except OSError:
        return False
    return held[:2] == b"\xac\xed" and held[-1:] == b"x" and (b"}x" in held[-2:] or b"lsn" not in held)


def _position(path: Path) -> int | None:
    try:
        found = re.findall(rb'"lsn(?:_proc|_commit)?":(\d+)', path.read_bytes())
    except OSError:
        return None
    return max(map(int, found)) if found else None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None


def _replace(path: Path, value: dict[str, Any], *, synced: bool = False) -> None:
    aside = path.with_name(f"{path.name}.{os.getpid()}.new")
    path.parent.mkdir(parents=True, exist_ok=True)
    with aside.open("w", encoding="utf-8") as out:
        out.write(json.dumps(value))
        if synced:
            out.flush()
            os.fsync(out.fileno())
    aside.replace(path)


def moment(at: datetime) -> str:
    """As notes write it."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds")
