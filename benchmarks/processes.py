"""What a process and all that it has started use: processor time, memory, bytes written. Read from /proc, so Linux only."""

import os
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

_TICK = os.sysconf("SC_CLK_TCK")


@dataclass
class Meter:
    """Watches the tree of a process from inside a `with`, several times a second, in a thread of its own.

    A process that ends keeps the time it was last seen with. Memory is shared out among those that share it (PSS).
    """

    pid: int
    every: float = 0.2
    peak_mb: float = 0.0
    _cpu: dict[int, float] = field(default_factory=dict)
    _written: dict[int, int] = field(default_factory=dict)
    _stop: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> "Meter":
        self.look()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(self.every):
            self.look()

    def look(self) -> None:
        """Take the figures once."""
        memory = 0.0
        for pid in tree(self.pid):
            with suppress(OSError, ValueError):
                self._cpu[pid] = _cpu(pid)
                self._written[pid] = _written(pid)
                memory += _memory_mb(pid)
        self.peak_mb = max(self.peak_mb, memory)

    @property
    def cpu_seconds(self) -> float:
        """Of all processes so far, user and system."""
        self.look()
        return sum(self._cpu.values())

    @property
    def written_bytes(self) -> int:
        """Handed to the disk by all processes so far."""
        self.look()
        return sum(self._written.values())


def tree(pid: int) -> list[int]:
    """A process and its descendants."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, ValueError):
                parents.setdefault(int(_stat(int(entry.name))[1]), []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(one := waiting.pop())
        waiting += parents.get(one, [])
    return found


def _stat(pid: int) -> list[str]:
    """The fields of `stat` after the name (which may hold blanks): state, parent, …"""
    return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()


def _cpu(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _TICK


def _written(pid: int) -> int:
    lines = Path(f"/proc/{pid}/io").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("write_bytes"))


def _memory_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1_024 / 1e6
