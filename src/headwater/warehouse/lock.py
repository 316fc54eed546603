"""One command at a time in a project: the second waits, or is told who holds the lock."""

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from headwater.clock import Clock, SystemClock
from headwater.errors import Busy

SILENT_SECONDS = 1.0


@contextmanager
def project_lock(
    folder: Path,
    command: str,
    *,
    wait_seconds: float = 60.0,
    clock: Clock | None = None,
    on_wait: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Hold `folder/.lock` while inside; the operating system frees it when the process dies, however it dies.

    Waits up to `wait_seconds`, then raises Busy naming the holder's command, process id and start. `on_wait` is told who
    holds it, once, when the wait is longer than a second.
    """
    folder.mkdir(parents=True, exist_ok=True)
    note = folder / ".lock.json"
    lock = FileLock(folder / ".lock")
    try:
        try:
            lock.acquire(timeout=min(SILENT_SECONDS, wait_seconds))
        except Timeout:
            if wait_seconds <= SILENT_SECONDS:
                raise
            on_wait(holder(note))
            lock.acquire(timeout=wait_seconds - SILENT_SECONDS)
    except Timeout as error:
        raise Busy(
            f"{holder(note)} holds this project; waited {wait_seconds:.0f} s. Wait for it to end, or stop it, then run again"
        ) from error
    try:
        note.write_text(
            json.dumps(
                {
                    "command": command,
                    "pid": os.getpid(),
                    "since": (clock or SystemClock()).now().isoformat(timespec="seconds"),
                }
            )
        )
        yield
    finally:
        note.unlink(missing_ok=True)
        lock.release()


def holder(note: Path) -> str:
    """Who holds the lock, in words."""
    try:
        who = json.loads(note.read_text())
    except (OSError, ValueError):
        return "another command"
    return f"`{who['command']}` (process {who['pid']}, since {who['since']})"
