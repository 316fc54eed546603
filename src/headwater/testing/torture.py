"""Kills a project that is live, again and again, fills its disk, holds its reader, and counts what that cost.

A project of its own is made in a folder that is thrown away: a small synthetic shop, a collector and an engine as separate
processes, senders that send every batch until it is answered with 200. Then, in an order drawn from `seed`:

    kill -9 of the collector, of the engine, of both, at a random moment
    the same at each failpoint of theirs (`headwater.failpoint`), which is a kill in the middle of a transaction
    a full disk: the collector may write no more; it must answer 503 and /health must say why; then there is room again
    a slow reader: the engine stands still while events arrive

At the end the senders stop, the engine reads the rest, and three numbers are counted: `lost`, message ids that were answered
with 200 and are not in the warehouse; `duplicated`, accepted message ids that are there more than once; `wrong`, rows of
live models that differ from the same SQL computed in full. A process that dies when nobody killed it is a surprise, and
so is a failpoint that was not passed.
"""

import os
import random
import re
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Literal

import httpx2

from headwater import scaffold
from headwater.errors import StageFailed
from headwater.failpoint import NAMES
from headwater.leash import Leashed
from headwater.log.sqlite import SqliteLog
from headwater.stack import LOG, Stack
from headwater.testing.shop import Shop
from headwater.testing.torture_child import COLLECTING, LIVE, opened
from headwater.testing.torture_sender import Sender

Kind = Literal["collector", "engine"]

BY_COMMAND = frozenset(
    {"live.redriven", "live.compacting", "live.compacted", "live.published", "live.reshaped"}
    | {"live.aside", "live.aside_written", "live.aside_swapped"}
)
"""Failpoints of the engine that commands, upkeep, large models and a database's tables lead through; they have tests of their own."""

POINTS: dict[str, Kind] = {
    name: "engine" if name.startswith("live.") else "collector"
    for name in NAMES
    if name in ("log.written", "log.committed") or (name.startswith(("live.", "collect.")) and name not in BY_COMMAND)
}
"""Failpoints that events alone lead through."""

_FULL_BYTES = 65_536
"""What a process may write of each file when its disk is full: less than the log has."""
_START_SECONDS = 300.0
_END_SECONDS = 600.0


@dataclass
class Outcome:
    """What a torture cost. `clean` when nothing was lost, doubled or wrong, and nothing surprised."""

    kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    lost: int = 0
    duplicated: int = 0
    wrong: int = 0
    full: int = 0
    surprises: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.lost or self.duplicated or self.wrong or self.surprises)

    def __str__(self) -> str:
        first = (
            f"{self.kills} kills, {self.sent:,} events sent, {self.acknowledged:,} acknowledged, "
            f"{self.full:,} requests refused on a full disk"
        )
        said = [first, f"lost {self.lost}, duplicated {self.duplicated}, wrong rows {self.wrong}"]
        return "\n".join([*said, *(f"surprise: {one}" for one in self.surprises)])


def torture(
    kills: int,
    *,
    seed: int = 1,
    failpoints: bool = True,
    folder: Path | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Outcome:
    """Kill `kills` times and count. `failpoints`: each of POINTS is among the kills, on top of `kills` if they are more.

    `folder`: where to make the project; kept afterwards. Without it a temporary folder is used and removed, unless the
    outcome is not clean. `say` is told what happens, a line at a time. Linux only: it sets limits of running processes.
    """
    home = folder or Path(tempfile.mkdtemp(prefix="headwater-torture-"))
    outcome = Outcome()
    run = Run(home / "shop", seed, outcome, say)
    run.make()
    with run.living():
        steps: list[Callable[[], None]] = [run.slow_reader, run.full_disk]
        points = list(POINTS) if failpoints else []
        steps += [lambda name=name: run.kill_at(name) for name in points]
        steps += [run.kill] * max(0, kills - len(points))
        run.draw.shuffle(steps)
        for number, step in enumerate(steps, 1):
            step()
            say(f"{number} of {len(steps)}: {outcome.kills} kills, {run.acknowledged():,} events acknowledged")
        run.finish()
    run.count()
    say(str(outcome))
    if folder is None and outcome.clean:
        shutil.rmtree(home, ignore_errors=True)
    elif not outcome.clean:
        say(f"the project is kept in {run.folder}")
    return outcome


class Child:
    """One of the two processes, started again after each death. Its last words go to a file beside the project."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self.kind = kind
        self._folder = folder
        self._ready = folder / (COLLECTING if kind == "collector" else LIVE)
        self._words: IO[bytes] | None = None
        self._process: Leashed | None = None

    def start(self, failpoint: str = "") -> None:
        """Start it, as it is or with a failpoint to die at."""
        self._ready.unlink(missing_ok=True)
        self._words = (self._folder.parent / f"{self.kind}.txt").open("ab")
        self._process = Leashed(
            [sys.executable, "-m", "headwater.testing.torture_child", self.kind, str(self._folder)],
            env={**os.environ, "HEADWATER_FAILPOINT": failpoint},
            stdout=self._words,
            stderr=self._words,
        )

    @property
    def process(self) -> Leashed:
        assert self._process is not None
        return self._process

    def said(self) -> str | None:
        """What it wrote down when it was ready (the collector its address); None before."""
        try:
            return self._ready.read_text(encoding="utf-8") or None
        except FileNotFoundError:
            return None

    def wait_ready(self) -> bool:
        """Whether it became ready; False when it ended before, or did not in five minutes."""
        until = time.monotonic() + _START_SECONDS
        while self.said() is None and self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        return self.said() is not None

    def end(self, how: signal.Signals) -> int:
        """Send a signal, wait for its end; the exit code."""
        with suppress(ProcessLookupError):
            self.process.send_signal(how)
        code = self.process.wait(_START_SECONDS)
        self._gone()
        return code

    def wait_end(self, seconds: float) -> int | None:
        """Its exit code; None when it lives on."""
        until = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        code = self.process.poll()
        if code is not None:
            self._gone()
        return code

    def _gone(self) -> None:
        self._ready.unlink(missing_ok=True)
        self.process.let_go()
        if self._words:
            self._words.close()

    def last_words(self) -> str:
        """The end of what it printed."""
        text = (self._folder.parent / f"{self.kind}.txt").read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.strip().splitlines()[-4:])[-800:]


class Run:
    """One torture: the project in `folder`, its two processes, its senders."""

    def __init__(self, folder: Path, seed: int, outcome: Outcome, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.draw = random.Random(seed)  # noqa: S311 (repeatable on purpose)
        self._seed = seed
        self._outcome = outcome
        self._say = say
        self._children: dict[Kind, Child] = {"collector": Child("collector", folder), "engine": Child("engine", folder)}
        self._senders: list[Sender] = []

    # ------------------------------------------------------------------ the project

    def make(self) -> None:
        """A small shop, seeded and built."""
        data = self.folder / "data"
        data.mkdir(parents=True)
        Shop(customers=100, seed=self._seed).write(data)
        scaffold.init(self.folder, data)
        with Stack(self.folder) as project:
            project.seed()
            project.build()
            self._customers = [
                row["id"] for row in project.warehouse.rows("select customer_id as id from dim_customer limit 40")
            ]
            self._key = project.config.collect.sources[0].write_key
        self._say(f"made {self.folder}")

    @contextmanager
    def living(self) -> Any:
        """Both processes and three senders at work."""
        with ExitStack() as stack:
            for child in self._children.values():
                child.start()
                stack.callback(self._put_away, child)
            for child in self._children.values():
                if not child.wait_ready():
                    raise StageFailed(f"the {child.kind} of {self.folder} does not start: {child.last_words()}")
            address = self._children["collector"].said
            self._senders = [Sender(self._seed, lane, address, self._key, self._customers) for lane in range(3)]
            for sender in self._senders:
                sender.start()
                stack.callback(sender.stop)
            yield

    def _put_away(self, child: Child) -> None:
        if child.process.poll() is None:
            child.end(signal.SIGKILL)

    # ------------------------------------------------------------------ what is done to it

    def kill(self) -> None:
        """kill -9 of one or both at a random moment, while they start or work."""
        chosen: Sequence[Kind] = self.draw.choice((("collector",), ("engine",), ("engine",), ("collector", "engine")))
        if self.draw.random() < 0.8:
            for kind in chosen:
                self._children[kind].wait_ready()
        time.sleep(self.draw.uniform(0.0, 1.0))
        for kind in chosen:
            child = self._children[kind]
            self._still_alive(child)
            child.end(signal.SIGKILL)
            child.start()
        self._outcome.kills += 1

    def kill_at(self, name: str) -> None:
        """Start the process anew so that it dies at the failpoint; it must."""
        child = self._children[POINTS[name]]
        self._still_alive(child)
        child.end(signal.SIGKILL)
        child.start(f"{name}:{self.draw.randint(1, 3)}")
        code = child.wait_end(_START_SECONDS)
        if code is None:
            child.end(signal.SIGKILL)
            self._outcome.surprises.append(f"the failpoint {name} was not passed in {_START_SECONDS:.0f} s")
        elif code != 137:
            self._outcome.surprises.append(f"before the failpoint {name} the {child.kind} ended: {child.last_words()}")
        child.start()
        self._outcome.kills += 1

    def slow_reader(self) -> None:
        """The engine stands still for two seconds while events arrive."""
        engine = self._children["engine"]
        engine.wait_ready()
        engine.process.send_signal(signal.SIGSTOP)
        try:
            self._until_more(300)
            time.sleep(self.draw.uniform(0.5, 2.0))
        finally:
            engine.process.send_signal(signal.SIGCONT)

    def full_disk(self) -> None:
        """The collector's files may grow no more; it must refuse with 503 and /health must say why; then there is room."""
        collector = self._children["collector"]
        collector.wait_ready()
        self._until_more(50)
        refused = self._refused()
        pid = collector.process.pid
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, resource.RLIM_INFINITY))
        told = ""
        until = time.monotonic() + 60
        while time.monotonic() < until and not (self._refused() > refused and "room" in told):
            time.sleep(0.1)
            with suppress(httpx2.TransportError):
                answer = httpx2.get(f"{collector.said()}/health", timeout=10.0)
                told = answer.text if answer.status_code == 503 else ""
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        if self._refused() == refused:
            self._outcome.surprises.append("on a full disk the collector answered no request with 503")
        elif "room" not in told:
            self._outcome.surprises.append(f"on a full disk /health did not say why: {told[:300]}")
        self._until_more(50)

    def finish(self) -> None:
        """No more events; the engine reads the rest; both end in good order."""
        for child in self._children.values():
            if not child.wait_ready():
                self._outcome.surprises.append(f"the {child.kind} did not start again: {child.last_words()}")
        for sender in self._senders:
            sender.stop()
        for sender in self._senders:
            sender.join(_END_SECONDS)
        with SqliteLog(self.folder / LOG) as log:
            until = time.monotonic() + _END_SECONDS
            while any(log.facts().unread.get("engine", {"events": 1}).values()):
                if time.monotonic() > until or self._children["engine"].process.poll() is not None:
                    words = self._children["engine"].last_words()
                    self._outcome.surprises.append(f"the engine did not read the log to its end: {words}")
                    break
                time.sleep(0.1)
        for child in self._children.values():
            if child.process.poll() is None and (code := child.end(signal.SIGTERM)) != 0:
                self._outcome.surprises.append(f"told to end, the {child.kind} ended with {code}: {child.last_words()}")

    # ------------------------------------------------------------------ the count

    def count(self) -> None:
        """Compare what was answered with what is there, and what is live with what a build would give."""
        accepted = {one for sender in self._senders for one in sender.answered.accepted}
        rejected = {one for sender in self._senders for one in sender.answered.rejected}
        with Stack(self.folder) as project, SqliteLog(self.folder / LOG) as log, project.locked("headwater torture"):
            engine = opened(project, log)
            until = time.monotonic() + _END_SECONDS
            while (result := engine.step()).lag or result.backlog:
                if time.monotonic() > until:
                    self._outcome.surprises.append(f"{result.lag} records and {result.backlog} keys still wait")
                    break
                time.sleep(0.0 if result.committed else min(result.wait_seconds, 1.0))
            landed: dict[str, int] = {}
            for table in ("events", "identifies", "aliases"):
                for row in project.warehouse.rows(
                    f"select event_id, count(*) as n from collected.{table} group by event_id"
                ):
                    landed[row["event_id"]] = landed.get(row["event_id"], 0) + row["n"]
            refused = {
                row["message_id"] for row in project.warehouse.rows("select message_id from headwater.rejected_events")
            }
            for one in engine.verify():
                self._outcome.wrong += one.wrong
                if one.skipped:
                    self._outcome.surprises.append(f"{one.model} could not be verified: {one.skipped}")
                for difference in one.differences[:3]:
                    self._say(f"wrong row: {difference}")
            engine.close()
        lost = (accepted - landed.keys()) | (rejected - refused)
        for one in sorted(lost)[:5]:
            self._say(f"lost: {one}")
        self._outcome.lost = len(lost)
        self._outcome.duplicated = sum(times - 1 for times in landed.values())
        self._outcome.sent = sum(sender.answered.sent for sender in self._senders)
        self._outcome.full = self._refused()
        self._outcome.acknowledged = len(accepted) + len(rejected)
        for sender in self._senders:
            if sender.broken:
                self._outcome.surprises.append(sender.broken)

    # ------------------------------------------------------------------ looking

    def acknowledged(self) -> int:
        """Events that were answered with 200 so far."""
        return sum(len(sender.answered.accepted) + len(sender.answered.rejected) for sender in self._senders)

    def _refused(self) -> int:
        return sum(sender.answered.full for sender in self._senders)

    def _until_more(self, events: int) -> None:
        """Until so many more are acknowledged."""
        wanted, until = self.acknowledged() + events, time.monotonic() + _START_SECONDS
        while self.acknowledged() < wanted:
            if time.monotonic() > until:
                self._outcome.surprises.append(
                    f"in {_START_SECONDS:.0f} s the collector took less than {events} events"
                )
                return
            time.sleep(0.02)

    def _still_alive(self, child: Child) -> None:
        if (code := child.process.poll()) is not None:
            words = re.sub(r"\s+", " ", child.last_words())
            self._outcome.surprises.append(f"the {child.kind} ended by itself with {code}: {words}")
