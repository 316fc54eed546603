"""The processes that `headwater up` starts: those that are started again when they die, and commands beside the engine."""

import codecs
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from headwater.leash import Leashed

HEADWATER = (sys.executable, "-m", "headwater")
READY = "warehouse/.collector"
"""File of the project with the address at which the collector listens."""
STOP_SECONDS = 15.0
_LAST_WORDS = 20
_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_LONG_ENOUGH = 60.0  # what has lived so long starts anew with the shortest pause


@dataclass(frozen=True)
class Died:
    """A child that ended by itself: its exit code, its last words, and after how many seconds it is started again."""

    code: int
    words: str
    pause: float


class Kept:
    """A command of ours in a process of its own. `tick` often; it starts what has died, later each time (0.5 s, doubling, at
    most 30 s)."""

    def __init__(self, argv: Sequence[str], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._argv = [*HEADWATER, *argv]
        self._now = monotonic
        self._pause = _FIRST_PAUSE
        self._due: float | None = None
        self.restarts = 0
        self.process = self._start()

    def _start(self) -> Leashed:
        self._started = self._now()
        self._words: deque[str] = deque(maxlen=_LAST_WORDS)
        process = Leashed(
            self._argv, env=os.environ, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        self._listener = threading.Thread(target=_listen, args=(process.stderr, self._words), daemon=True)
        self._listener.start()
        return process

    def tick(self) -> Died | None:
        """Look after it. Answers with what happened when it has just died; it is started again when its pause is over."""
        if self._due is not None:
            if self._now() >= self._due:
                self._due = None
                self.restarts += 1
                self.process = self._start()
            return None
        code = self.process.poll()
        if code is None:
            return None
        self.process.let_go()
        self._gone()
        self._listener.join()
        lived = self._now() - self._started
        self._pause = _FIRST_PAUSE if lived > _LONG_ENOUGH else self._pause
        died = Died(code, (self._words[-1] if self._words else "it said nothing").removeprefix("error: "), self._pause)
        self._due = self._now() + self._pause
        self._pause = min(self._pause * 2, _LONGEST_PAUSE)
        return died

    def stop(self) -> None:
        """End it: it finishes what it has begun, then goes."""
        if self._due is None:
            self.process.stop(STOP_SECONDS)
        self._gone()

    def _gone(self) -> None:
        """It has ended."""


class Collector(Kept):
    """The collector's process."""

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._ready = folder / READY
        super().__init__(["collector", "--project", str(folder)], monotonic)

    def _start(self) -> Leashed:
        self._ready.unlink(missing_ok=True)
        return super()._start()

    def address(self) -> str | None:
        """Where it listens; None while it does not."""
        try:
            return self._ready.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None

    def _gone(self) -> None:
        self._ready.unlink(missing_ok=True)


def _listen(stream: IO[bytes] | None, words: deque[str]) -> None:
    if stream is None:
        return
    with stream:
        for line in stream:
            if text := line.decode("utf-8", "replace").strip():
                words.append(text)


class Beside:
    """A command in a process of its own; what it prints is handed on as it comes, in threads of this object's."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        *,
        out: Callable[[str], None],
        err: Callable[[str], None],
    ) -> None:
        self._process = Leashed(
            [*HEADWATER, *argv],
            cwd=cwd,
            env={**env, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        self._readers = [
            threading.Thread(target=_pass_on, args=(stream, say), daemon=True)
            for stream, say in ((self._process.stdout, out), (self._process.stderr, err))
        ]
        for reader in self._readers:
            reader.start()

    def interrupt(self) -> None:
        """As Ctrl-C would."""
        with suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGINT)

    def code(self) -> int | None:
        """Its exit code once it has ended and everything it printed is handed on; until then None."""
        code = self._process.poll()
        if code is None:
            return None
        for reader in self._readers:
            reader.join()
        self._process.let_go()
        return code if code >= 0 else 128 - code

    def stop(self) -> None:
        """End it."""
        self._process.stop(STOP_SECONDS)


def _pass_on(stream: IO[bytes] | None, say: Callable[[str], None]) -> None:
    if stream is None:
        return
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    with stream:
        while chunk := os.read(stream.fileno(), 1 << 16):
            say(decoder.decode(chunk))
