"""The processes that follow databases: one for each, started again when it dies; what they say of themselves is passed on."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from headwater.collect.databases.state import Note, Place
from headwater.up.children import Kept
from headwater.up.said import Said

_LOOK_SECONDS = 1.0


class Databases:
    """All databases of a project. `tick` often."""

    def __init__(
        self, folder: Path, names: list[str], say: Callable[[Said], None], monotonic: Callable[[], float]
    ) -> None:
        self._say = say
        self._now = monotonic
        self._children = {name: Kept(["changes", name, "--project", str(folder)], monotonic) for name in names}
        self._places = {name: Place(folder, name) for name in names}
        self._told: dict[str, tuple[str, str, tuple[str, ...]]] = {}
        self._looked = 0.0

    def tick(self) -> None:
        """Look after them; pass on what is new."""
        for name, child in self._children.items():
            died = child.tick()
            if died is not None:
                sentence = (
                    f"ended with exit code {died.code} ({died.words}); it is started again in {died.pause:g} s, the database "
                    "keeps its journal until then"
                )
                self._told.pop(name, None)
                details = {"exit_code": died.code, "words": died.words, "pause": died.pause}
                self._say(Said(f"database {name}", "warn", sentence, details))
        if self._now() - self._looked < _LOOK_SECONDS:
            return
        self._looked = self._now()
        for name, place in self._places.items():
            note = place.note()
            if note is not None and note.pid == self._children[name].process.pid and note.alive(datetime.now(UTC)):
                self._pass_on(name, note)

    def _pass_on(self, name: str, note: Note) -> None:
        said = (note.phase, note.sentence, tuple(note.warnings))
        before = self._told.get(name)
        if said == before:
            return
        self._told[name] = said
        passing = before is not None and (before[0], before[2]) == (said[0], said[2])
        status = "running" if note.phase in ("starting", "snapshot") else "ok"
        details = {"phase": note.phase, "rows": note.rows, "changes": note.changes, "behind_bytes": note.behind_bytes}
        self._say(
            Said(f"database {name}", "warn" if note.warnings else status, note.sentence, details, said[2], passing)
        )

    def stop(self) -> None:
        """End them: each finishes the batch that it has begun."""
        for name, child in self._children.items():
            child.stop()
            self._say(
                Said(f"database {name}", "ok", "stopped; the database keeps its journal until it is followed again")
            )
