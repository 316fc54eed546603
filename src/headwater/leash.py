"""A child process that never outlives its parent, however the parent dies.

The parent holds the writing end of a pipe and the child, in a thread, reads from the other: the end of the pipe is the end
of the parent. Works wherever there are pipes, and does not depend on which of the parent's threads started the child.
"""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

VARIABLE = "HEADWATER_LEASH"
"""Environment variable of a leashed child: the file descriptor that it reads."""

GRACE_SECONDS = 10.0
"""So long has a child whose parent is gone to end in good order."""


class Leashed(subprocess.Popen[bytes]):
    """A child on a leash, in a session of its own (Ctrl-C in the terminal reaches the parent alone, which tells its children)."""

    def __init__(self, argv: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str], **streams: Any) -> None:
        end, self._held = os.pipe()
        try:
            super().__init__(
                argv, cwd=cwd, env={**env, VARIABLE: str(end)}, pass_fds=[end], start_new_session=True, **streams
            )
        except BaseException:
            os.close(self._held)
            raise
        finally:
            os.close(end)

    def stop(self, seconds: float) -> None:
        """SIGTERM, and SIGKILL when it has not ended after so many seconds; returns when it has ended."""
        with suppress(ProcessLookupError):
            self.terminate()
        try:
            self.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            self.wait()
        self.let_go()

    def let_go(self) -> None:
        """Give the pipe back; for a child that has ended. Twice is fine."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1


def hold() -> None:
    """In a child: end when the parent does. Does nothing in a process that is on no leash."""
    given = os.environ.pop(VARIABLE, None)
    if given is None:
        return
    threading.Thread(target=_wait, args=(int(given),), name="leash", daemon=True).start()


def _wait(end: int) -> None:
    with suppress(OSError):
        os.read(end, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE_SECONDS)
    os._exit(137)
