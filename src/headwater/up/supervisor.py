"""The loop of `headwater up`.

starting   the lock is taken, the socket and the collector are there, the project is built if it never was
live       batch after batch; between two of them the commands that wait
parked     a command beside the engine has the file; the log buffers, commands that need the file wait
stopping   the collector first, then the command beside, then the engine's batch is done, then the lock is given back
"""

import json
import os
import queue
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, Protocol

from headwater import relay, signals
from headwater.decisions.realtime import serve as on_demand
from headwater.errors import Busy, ConfigError, HeadwaterError, LogUnavailable, StageFailed, UsageError
from headwater.live.engine import READER, Engine
from headwater.stack import Report, Stack
from headwater.up.children import Beside, Collector, Died
from headwater.up.databases import Databases
from headwater.up.life import Batch, Life
from headwater.up.said import Phase, Said, State
from headwater.warehouse.lock import project_lock

_LOCK_SECONDS = 3.0
_COLLECTOR_SECONDS = 30.0
_PAUSE = 0.025
_IDLE_PAUSE = 0.1
_IDLE_AFTER = 5.0
_WAIT_SECONDS = 60.0
_FORGET_SECONDS = 60.0
_RESUME_SECONDS = 30.0
_BEGIN_SECONDS = 2.0
_INTERRUPTED = 130


class Commands(Protocol):
    """What the command line does for the loop."""

    def place(self, argv: Sequence[str]) -> Literal["between", "anytime", "beside", "aside"] | None:
        """Where a command line works; None when it is none of the engine's."""
        ...

    def work(self, call: relay.Call, host: Any) -> None:
        """Do a command in the calling thread, and end its call."""
        ...

    def fail(self, call: relay.Call, error: HeadwaterError) -> None:
        """End a call with an error, as the command itself would show it."""
        ...

    def environment(self, call: relay.Call) -> dict[str, str]:
        """The environment of a command beside the engine."""
        ...


class Up:
    """One running project. `run` returns when it was told to stop (SIGINT, SIGTERM, `stop`)."""

    def __init__(self, folder: Path, commands: Commands, say: Callable[[Said], None]) -> None:
        self.folder = folder.resolve()
        self._commands = commands
        self._say = say
        self._project = Stack(self.folder)
        self._stopping = threading.Event()
        self._holding = ExitStack()
        self._beside: Parked | None = None
        self._waiting: list[tuple[float, relay.Call]] = []
        self._life: Life | None = None
        self.collector: Collector | None = None
        self._collecting = False
        self._databases: Databases | None = None
        self._report: Report | None = None
        self._forget_again = 0.0
        self._resume_at: float | None = None
        self._begin_at = 0.0
        self._enter("building")

    def _enter(self, state: Phase) -> None:
        self._state: Phase = state
        self._since = self._project.clock.now()

    # ------------------------------------------------------------------ from start to end

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()

    def run(self) -> None:
        """Start everything, go on until told to stop, stop everything. Raises Busy, UsageError, ConfigError with a sentence when it cannot start."""
        with signals.stopped_by(self.stop):
            self._hold(_LOCK_SECONDS)
            try:
                self._port_is_free()
                on_demand.check(self._project.config.decisions.realtime)
                self._server = relay.Server(self.folder / "warehouse", self)
                try:
                    self._run()
                finally:
                    self._end()
            finally:
                self._holding.close()

    def _run(self) -> None:
        self.collector = Collector(self.folder)
        self._wait_for_collector()
        collect = self._project.config.collect
        names = [one.name for one in (*collect.databases, *collect.topics)]
        self._databases = Databases(self.folder, names, self._say, time.monotonic)
        if not self._stopping.is_set() and not self._built():
            self._first_build()
        if self._stopping.is_set():
            return
        self._begin()
        idle_since = time.monotonic()
        while not self._stopping.is_set():
            busy = self._turn()
            now = time.monotonic()
            if busy:
                idle_since = now
                continue
            self._look_for_commands(_PAUSE if now - idle_since < _IDLE_AFTER else _IDLE_PAUSE)

    def _begin(self) -> None:
        """Start the engine; while the log does not answer, say so, and try again in a while."""
        self._say(Said("engine", "running", "reads the models"))
        self._enter("reading models")
        try:
            self._life = Life(self._project, self._say)
        except LogUnavailable as error:
            self._begin_at = time.monotonic() + _BEGIN_SECONDS
            self._enter("stopped")
            self._say(Said("engine", "failed", f"it is tried again in {_BEGIN_SECONDS:g} s: {error}"))
            return
        self._enter("live")
        self._say(Said("engine", "ok", "follows the log"))

    def _turn(self) -> bool:
        """One round; whether there may be more to do at once."""
        self._look_after_collector()
        if self._databases is not None:
            self._databases.tick()
        self._look_for_commands(0)
        if self._beside is not None:
            self._watch(self._beside)
            return False
        self._serve()
        if self._beside is not None:
            return False
        if self._life is None:
            if time.monotonic() >= self._begin_at:
                self._begin()
            return False
        if self._resume_at is not None:
            if time.monotonic() >= self._resume_at:
                self._holding.close()
                self._take_back()
            return False
        if self._life.deletions and time.monotonic() >= self._forget_again:
            self._forget(self._life)
            return False
        return self._life.turn()

    def _end(self) -> None:
        if self.collector is not None:
            self.collector.stop()
            self._say(Said("collector", "ok", "stopped; what it had accepted is in the log"))
        if self._databases is not None:
            self._databases.stop()
        if self._beside is not None:
            self._beside.child.stop()
        if self._life is not None:
            self._life.close()
            self._say(Said("engine", "ok", "stopped after its last batch"))
        self._server.close()
        self._project.warehouse.close()

    def _hold(self, seconds: float) -> None:
        self._holding.enter_context(
            project_lock(self.folder / "warehouse", "headwater up", wait_seconds=seconds, clock=self._project.clock)
        )

    def _port_is_free(self) -> None:
        host, port = self._project.config.collect.host, self._project.config.collect.port
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError as error:
                raise UsageError(
                    f"the collector cannot listen on {host}:{port}: {error.strerror}. Stop what uses that port, or set another"
                    " with collect.port in headwater.yml"
                ) from error

    # ------------------------------------------------------------------ the collector

    def _wait_for_collector(self) -> None:
        """Until it listens for the first time. Raises ConfigError with its last words when a setting keeps it from that."""
        end = time.monotonic() + _COLLECTOR_SECONDS
        while time.monotonic() < end and not self._stopping.is_set():
            died = self._look_after_collector()
            if self._collecting:
                return
            if died is not None and died.code == ConfigError.exit_code:
                raise ConfigError(died.words)
            time.sleep(0.02)
        if not self._stopping.is_set():
            self._say(Said("collector", "warn", "does not listen yet, so no event is taken"))

    def _look_after_collector(self) -> Died | None:
        """How it has just died; None when it has not. Says when it listens again."""
        if self.collector is None:
            return None
        died = self.collector.tick()
        if died is not None:
            self._collecting = False
            sentence = (
                f"ended with exit code {died.code} ({died.words}); it is started again in {died.pause:g} s, senders try"
                " again until then"
            )
            details = {"exit_code": died.code, "words": died.words, "pause": died.pause}
            self._say(Said("collector", "warn", sentence, details))
        elif not self._collecting and (address := self.collector.address()):
            self._collecting = True
            sources = self._project.config.collect.sources
            named = ", ".join(f"{one.name} (write key {one.write_key})" for one in sources)
            self._say(Said("collector", "ok", f"takes events at {address} from {named}", {"address": address}))
        return died

    # ------------------------------------------------------------------ building

    def _built(self) -> bool:
        return bool(
            self._project.warehouse.value(
                "select count(*) from headwater.stage_runs where stage like 'build%' and status = 'ok'"
            )
        )

    def _first_build(self) -> None:
        for stage in ("seed", "build"):
            self._say(
                Said(stage, "running", "the project was never built, so it is built first; events are taken meanwhile")
            )
            result = self._stage(stage)
            if result is None:
                return
            self._say(Said(stage, result["status"], result["message"], result, tuple(result["warnings"])))

    def _stage(self, stage: str) -> dict[str, Any] | None:
        """Run a stage in a process of its own, and what it says; None when we are told to stop meanwhile.

        Raises HeadwaterError with its sentence when it fails.
        """
        said: list[str] = []
        complained: list[str] = []
        argv = (stage, "--json", "--project", str(self.folder))
        env = self._commands.environment(relay.Call(relay.Request(argv, str(self.folder), os.environ)))
        self._project.warehouse.close()
        self._holding.close()
        child = Beside(argv, self.folder, env, out=said.append, err=complained.append)
        while child.code() is None:
            if self._stopping.wait(0.05):
                child.stop()
                return None
            self._look_after_collector()
            self._look_for_commands(0)
            self._serve_parked(f"headwater {stage}")
        self._hold(_WAIT_SECONDS)
        try:
            result = json.loads("".join(said))
        except ValueError as error:
            raise StageFailed(f"{stage} ended without a result: {''.join([*said, *complained])}") from error
        if "error" in result:
            raise StageFailed(f"the project cannot be built: {result['error']}")
        return result

    # ------------------------------------------------------------------ commands

    def stack(self) -> Stack:
        """A stack on the engine's own connection, for a command between two batches."""
        stack = Stack(self.folder, clock=self._project.clock, held=self._project.warehouse)
        if self._life is not None:
            stack.models = self._life.engine.project
        return stack

    def engine(self) -> Engine | None:
        """The engine; None while there is none yet."""
        return self._life.engine if self._life is not None else None

    def batches(self, after: int) -> list[Batch]:
        """The batches that were committed after batch number `after`, as far as they are remembered."""
        return self._life.since(after) if self._life is not None else []

    def report(self) -> tuple[State, Report | None]:
        """How this process fares, and the project as it stands, or as it stood when the file was given away."""
        state = State(
            pid=os.getpid(),
            state=self._state,
            busy_with=self._beside.name if self._beside else None,
            since=self._since,
            address=self.collector.address() if self.collector else None,
            collector_restarts=self.collector.restarts if self.collector else 0,
        )
        if self._state == "live":
            with self.stack() as stack:
                self._report = stack.report()
        elif self._report is not None and (facts := self._project.log_facts()) is not None:
            self._report = replace(self._report, waiting=sum(facts.unread.get(READER, {}).values()))
        return state, self._report

    def wants(self, request: relay.Request) -> bool:
        """Whether a command need not wait for the engine (called by the relay's threads)."""
        return self._commands.place(request.argv) == "aside"

    def work(self, call: relay.Call) -> None:
        """Do it, in a thread of the relay's."""
        self._commands.work(call, self)

    def _look_for_commands(self, seconds: float) -> None:
        """Take what waits at the socket; wait so long for the first."""
        try:
            call = self._server.waiting.get(timeout=seconds) if seconds else self._server.waiting.get_nowait()
            while True:
                self._waiting.append((time.monotonic(), call))
                call = self._server.waiting.get_nowait()
        except queue.Empty:
            return

    def _serve(self) -> None:
        """Do what waits, in its order, up to a command that parks the engine."""
        while self._waiting and self._beside is None:
            _, call = self._waiting.pop(0)
            place = self._commands.place(call.request.argv)
            if call.cancelled.is_set():
                call.end(_INTERRUPTED)
            elif place in ("between", "anytime"):
                self._commands.work(call, self)
            elif place == "beside":
                self._park(call)
            else:
                self._commands.fail(call, UsageError("this command does not work inside a running engine"))

    def _serve_parked(self, who: str) -> None:
        """Do what may be done without the file; what has waited as long as it would wait for a lock is told who has it."""
        for since, call in list(self._waiting):
            if call.cancelled.is_set():
                call.end(_INTERRUPTED)
            elif self._commands.place(call.request.argv) == "anytime":
                self._commands.work(call, self)
            elif time.monotonic() - since > _WAIT_SECONDS:
                sentence = f"`{who}` has the project; waited {_WAIT_SECONDS:.0f} s. Wait for it to end, or stop it, then run again"
                self._commands.fail(call, Busy(sentence))
            else:
                continue
            self._waiting.remove((since, call))

    def _park(self, call: relay.Call) -> None:
        """Give the file to a command; the collector goes on, the log buffers."""
        request = call.request
        env = self._commands.environment(call)
        # whom somebody wants forgotten stands on no screen and in no file of what we said
        words = request.argv[:1] if request.argv[:1] == ("forget",) else request.argv
        name = " ".join(["headwater", *words])
        self._give_away(name)
        self._beside = Parked(name, Beside(request.argv, Path(request.cwd), env, out=call.out, err=call.err), call)

    def _give_away(self, name: str) -> None:
        self._say(Said("engine", "running", f"parked for `{name}`; events wait in the log"))
        self.report()
        if self._life is not None:
            self._life.park()
        self._enter("parked")
        self._holding.close()

    def _forget(self, life: Life) -> None:
        """Forget the next one who asked for it by an event; again in a while when that fails."""
        kind, person = life.deletions[0]
        argv = ("forget", "--kind", kind, "--unseen", "--json", "--project", str(self.folder), "--", person)
        said: list[str] = []
        env = self._commands.environment(relay.Call(relay.Request(argv, str(self.folder), os.environ)))
        self._give_away("headwater forget")
        self._beside = Parked(
            "headwater forget", Beside(argv, self.folder, env, out=said.append, err=said.append), said=said
        )

    def _watch(self, parked: "Parked") -> None:
        self._serve_parked(parked.name)
        call = parked.call
        if call is not None and call.cancelled.is_set() and not parked.interrupted:
            parked.interrupted = True
            parked.child.interrupt()
        code = parked.child.code()
        if code is None:
            return
        if call is not None:
            call.end(code)
        elif code:
            self._forget_again = time.monotonic() + _FORGET_SECONDS
            sentence = (
                f"somebody asked to be forgotten, and it failed; it is tried again in a minute: {''.join(parked.said)}"
            )
            self._say(Said("forget", "failed", sentence))
        else:
            self._say(Said("forget", "ok", json.loads("".join(parked.said))["message"]))
        self._beside = None
        self._say(Said("engine", "running", f"`{parked.name}` has ended; reads the models again"))
        self._take_back()

    def _take_back(self) -> None:
        """Take the file again and go on; when the models cannot be read, say so and try again in a while."""
        while not self._stopping.is_set():
            try:
                self._hold(_LOCK_SECONDS)
                break
            except Busy as error:
                self._say(Said("engine", "warn", str(error)))
                self._look_after_collector()
                self._look_for_commands(0)
                self._serve_parked("another command")
        if self._stopping.is_set() or self._life is None:
            return
        self._enter("reading models")
        try:
            self._life.resume()
        except Exception as error:
            self._resume_at = time.monotonic() + _RESUME_SECONDS
            text = " ".join(str(error).split())
            again = f"mend it, then `headwater build`; it is tried again in {_RESUME_SECONDS:.0f} s"
            self._enter("stopped")
            self._say(Said("engine", "failed", f"the models cannot be read, events wait in the log: {text} ({again})"))
            return
        self._resume_at = None
        self._enter("live")
        self._say(Said("engine", "ok", "follows the log again"))


@dataclass
class Parked:
    """The command for which the engine is parked; without a call it is our own, and `said` is what it prints."""

    name: str
    child: Beside
    call: relay.Call | None = None
    interrupted: bool = False
    said: list[str] = field(default_factory=list)
