"""The process that follows one database: checks, snapshot, changes, until it is told to stop.

    start      masks tested, database looked at, the slot held against our offset; then Debezium
    snapshot   all rows once; again when it was interrupted, when the slot was lost, or when somebody asks
    streaming  every change, in the order of its commit

Whatever fails ends the process with a sentence, and nothing of the batch is stored; whoever started it starts it again. Only
a full log is waited for: the database keeps its journal meanwhile.
"""

import os
import threading
import time
import traceback
import uuid
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from headwater import signals
from headwater.clock import Clock, SystemClock
from headwater.collect.databases import debezium, masks, setup
from headwater.collect.databases.changes import Floor, Taken, Translator, encoded
from headwater.collect.databases.postgres import Database, DatabaseUnreachable, Slot, address_of
from headwater.collect.databases.settings import DatabaseSettings
from headwater.collect.databases.state import Note, Place, State, moment
from headwater.collect.settings import CollectSettings
from headwater.errors import ConfigError, HeadwaterError, InvalidValue, LogUnavailable, StageFailed
from headwater.failpoint import failpoint
from headwater.log.base import Log

_TICK = 0.2
_NOTE_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_KEEP_SECONDS = 5.0
_LOG_SECONDS = 1.0
_SHIFT = 1 << 24
"""Room between the positions of a database and of the one that took its place."""
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def named(collect: CollectSettings, name: str) -> DatabaseSettings:
    """The database of that name. Raises InvalidValue naming those there are."""
    for database in collect.databases:
        if database.name == name:
            return database
    known = ", ".join(database.name for database in collect.databases) or "none"
    raise InvalidValue(
        f"there is no database named {name!r} under collect.databases in headwater.yml; there are: {known}"
    )


def follow(folder: Path, collect: CollectSettings, name: str, log: Log, clock: Clock | None = None) -> None:
    """Put every change of a database into the log until SIGTERM or SIGINT; then this returns.

    Raises ConfigError when something must be mended first (settings, role, publication, slot, a mask), StageFailed when
    Debezium or the database failed and it is worth to start again.
    """
    follower = Follower(folder, collect, named(collect, name), log, clock or SystemClock())
    with signals.stopped_by(follower.stop):
        follower.run()


def _place(error: Exception) -> str:
    """The kind of an error and where it was raised, without its words."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{type(error).__name__} in {Path(frames[-1].filename).name}, line {frames[-1].lineno}"


class Follower:
    """Follows one database in this process. `run` once; `stop` from anywhere makes it return."""

    def __init__(
        self, folder: Path, collect: CollectSettings, settings: DatabaseSettings, log: Log, clock: Clock
    ) -> None:
        self._settings = settings
        self._log = log
        self._clock = clock
        self.place = Place(folder, settings.name)
        self._stopping = threading.Event()
        self._masks = masks.load(collect, settings)
        address = address_of(settings)
        self._database, self._watcher = Database(address), Database(address)
        self.placeholder = f"__unavailable_{uuid.uuid4().hex}"
        self._translator = Translator(
            settings,
            self._masks,
            self.placeholder,
            lambda table, key, columns: self._database.values(settings.db_schema, table, key, columns),
        )
        self._state = State()
        self._note = Note(settings.name)
        self._noted = threading.Lock()
        self._reading = False
        self._asked: list[str] | None = None
        self._kept_at = 0.0
        self._waits: str | None = None  # for the log, while it takes nothing

    def stop(self) -> None:
        """Make `run` return soon."""
        self._stopping.set()

    def run(self) -> None:
        """Follow until stopped."""
        self.place.make()
        self._note.pid = os.getpid()
        self._say("starting", "looks at the database and tests the masks")
        try:
            self._prepare()
            self._follow()
        except HeadwaterError as error:
            self._say("failed", str(error))
            raise
        except Exception as error:
            told = f"following it failed inside: {_place(error)}; it is started again"
            self._say("failed", told)
            raise StageFailed(told) from None  # the error itself may quote a value
        finally:
            self.close()
        self._say("stopped", "stopped; the database keeps its journal until it is followed again")

    def close(self) -> None:
        """Give the connections back; twice is fine."""
        self._database.close()
        self._watcher.close()

    # ------------------------------------------------------------------ before the first change

    def _prepare(self) -> None:
        lacking = debezium.missing()
        if lacking:
            raise ConfigError(lacking)
        settings, database = self._settings, self._database
        wrong = [check for check in setup.examine(settings, database, self._masks) if check.status == "wrong"]
        if wrong:
            told = "; ".join(f"{check.name}: {check.sentence}" for check in wrong)
            raise ConfigError(
                f"database {settings.name} cannot be followed: {told}. `headwater cdc setup {settings.name}` prints the SQL"
            )
        tables = database.tables(settings.db_schema, settings.tables)
        trial = Translator(settings, self._masks, self.placeholder)
        trial.tables(tables)
        masks.prove(self._masks, tables, lambda said: trial.take(encoded(said), self._clock.now()).entries)
        self._translator.tables(tables)
        self._note.rows_expected = sum(table.rows for table in tables.values())
        self.stand()
        self._properties = debezium.properties(
            settings, database.address, self.place, self._masks, tables, self.placeholder
        )

    def stand(self) -> None:
        """Hold our offset against the slot and the journal; begin anew, and say so, where changes are missing between them."""
        place, database = self.place, self._database
        state = self._state = place.state()
        torn = place.mend_offsets()
        position = place.position()
        now = database.moment()
        slot = database.slot(self._settings.slot_name)
        if position is not None:
            if position > now.position:
                state.shift += position - now.position + _SHIFT
                self._gap(
                    f"its journal is behind what was read of it ({position:,} > {now.position:,}): another server took its place"
                )
            elif slot is not None and slot.confirmed is not None and slot.confirmed > position and not torn:
                self._gap(f"the slot begins {slot.confirmed - position:,} bytes after what was read: it was made anew")
        state.next = Floor.at(now, list(self._settings.tables), state.shift)
        place.store(state)
        self._translator.floor, self._translator.next = state.floor, state.next
        self._note.gap = state.gap

    def _gap(self, why: str) -> None:
        since = self.place.note()
        self._state.gap = {
            "why": why,
            "found_at": moment(self._clock.now()),
            "seen_until": since.newest_at if since else None,
        }
        self._state.done = False
        self.place.forget_offsets()

    # ------------------------------------------------------------------ following

    def _follow(self) -> None:
        engine = debezium.Engine(self._properties, self._settings.heap_mb, self._take, self._keep)
        ended: list[BaseException | None] = []

        def run() -> None:
            try:
                engine.run()
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=run, name="debezium", daemon=True)
        thread.start()
        noted = looked = 0.0
        slot: Slot | None = None
        trouble: str | None = None
        while not self._stopping.wait(_TICK) and thread.is_alive():
            now = time.monotonic()
            if now - looked > _LOOK_SECONDS:
                looked = now
                slot, trouble = self.look()
            self._look_for_wishes()
            if now - noted > _NOTE_SECONDS:
                noted = now
                self._tell(slot, trouble)
        if thread.is_alive():
            engine.close()
        thread.join()
        error = ended[0] if ended else None
        if error is not None and not self._stopping.is_set():
            raise error

    def _take(self, texts: Sequence[bytes]) -> None:
        """One batch, durable when this returns."""
        settings = self._settings
        # asked after the batch came, so it knows of every column that the batch can have
        self._translator.tables(self._database.tables(settings.db_schema, settings.tables))
        taken = self._translator.take(texts, self._clock.now())
        if taken.began is not None:
            self._state.floor, self._state.next = taken.began, None
            self.place.store(self._state)
        failpoint("changes.taken")
        self._append(taken)
        failpoint("changes.logged")
        self._count(taken)
        if taken.ended is not None:
            self._state.done = True
            self.place.store(self._state)
            if self._asked is not None:
                self._asked = None
                self.place.answered()

    def _append(self, taken: Taken) -> None:
        while taken.entries:
            try:
                self._log.append(taken.entries)
            except LogUnavailable as error:
                if self._stopping.is_set():
                    raise
                self._waits = f"waits for the log, the database keeps its journal meanwhile: {error}"
                self._stopping.wait(_LOG_SECONDS)
            else:
                break
        self._waits = None

    def _count(self, taken: Taken) -> None:
        with self._noted:
            note = self._note
            if taken.began is not None:
                self._reading, note.rows, note.snapshot = True, 0, taken.began.id
            note.rows += taken.rows
            note.changes += taken.changes
            note.rejected += taken.rejected
            if taken.newest_us:
                note.newest_at = moment(_EPOCH + timedelta(microseconds=taken.newest_us))
            if taken.ended is not None:
                self._reading = False
            phase = "snapshot" if self._reading else "streaming"
            if note.phase != phase:
                note.phase, note.since = phase, moment(self._clock.now())

    def _keep(self) -> None:
        """Debezium has written its offset."""
        failpoint("changes.kept")
        now = time.monotonic()
        if now - self._kept_at > _KEEP_SECONDS:
            self._kept_at = now
            self.place.keep_offsets()

    # ------------------------------------------------------------------ what others see and ask

    def _look_for_wishes(self) -> None:
        """Have tables read again when somebody asked, once the changes flow."""
        if self._asked is not None or self._reading or self._note.phase != "streaming":
            return
        asked = self.place.asked()
        if asked is None:
            return
        wanted = [table for table in self._settings.tables if not asked or table in asked]
        self._asked = wanted
        floor = Floor.at(self._watcher.moment(), wanted, self._state.shift)
        self._state.next = floor
        self.place.store(self._state)
        self._translator.next = floor
        self.place.tell_debezium(self._settings.db_schema, [*wanted, self._settings.heartbeat_table], floor.id)

    def look(self) -> tuple[Slot | None, str | None]:
        """The slot, and what is the matter with it or with the database."""
        try:
            slot = self._watcher.slot(self._settings.slot_name)
        except DatabaseUnreachable as error:
            return None, str(error)
        except ConfigError as error:
            return None, str(error)
        if slot is None:
            return (
                None,
                f"the slot {self._settings.slot_name} is gone; `headwater cdc setup {self._settings.name}` says what to do",
            )
        if slot.status == "lost":
            return (
                slot,
                f"the slot {self._settings.slot_name} is lost: changes are missing; `headwater cdc setup {self._settings.name}`",
            )
        warn = self._settings.lag_warn_mb * 1_000_000
        if slot.behind > warn:
            return (
                slot,
                f"the database keeps {slot.behind / 1e6:,.0f} MB of its journal for us, more than lag_warn_mb ({self._settings.lag_warn_mb:,})",
            )
        if slot.left is not None and slot.left < warn // 4:
            return slot, f"after {max(slot.left, 0) / 1e6:,.0f} MB more the slot is lost (max_slot_wal_keep_size)"
        return slot, None

    def _tell(self, slot: Slot | None, trouble: str | None) -> None:
        """Write the note as things are."""
        with self._noted:
            note = self._note
            if slot is not None:
                note.behind_bytes, note.left_bytes = slot.behind, slot.left
            note.warnings = [one for one in (self._waits, trouble) if one]
            if note.rejected:
                note.warnings.append(f"{note.rejected:,} changes could not be held, see headwater.rejected_events")
            if note.phase == "snapshot":
                of = f" of about {note.rows_expected:,}" if note.rows_expected else ""
                note.sentence = f"reads all rows: {note.rows:,}{of} so far"
            elif note.phase == "streaming":
                note.sentence = f"follows: {note.changes:,} changes since this process began"
            self._write(replace(note, warnings=list(note.warnings)))

    def _say(self, phase: Any, sentence: str) -> None:
        with self._noted:
            self._note.phase, self._note.sentence = phase, sentence
            self._note.since = moment(self._clock.now())
            self._write(self._note)

    def _write(self, note: Note) -> None:
        note.at = moment(SystemClock().now())
        self.place.say(note)
