"""Which files of the models have changed since they were last taken over: by a build, or by the engine when it read them.

Whoever takes them over writes down what they were (`note`); whoever asks compares (`changed`) and writes nothing. A file with
the time and size of then is not read again, so asking costs a look at the folder.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from headwater.records.counted import counted

NOTE = "warehouse/.models.json"

_PARTS = ("models", "macros", "snapshots")
_SHOWN = 3

Files = Mapping[str, tuple[int, int, str]]
"""By path within the project: time of the last change in nanoseconds, size in bytes, SHA-256 of the contents."""


def files(folder: Path) -> Files:
    """What models are made from, as it is now."""
    return {name: (*_look(folder / name), _hash(folder / name)) for name in _names(folder)}


def note(folder: Path, taken: Files) -> None:
    """Write down what was taken over: `files` from before it was read, so that an edit meanwhile counts as one."""
    path = folder / NOTE
    path.parent.mkdir(parents=True, exist_ok=True)
    written = path.with_suffix(".new")
    written.write_text(json.dumps(taken), encoding="utf-8")
    written.replace(path)


def changed(folder: Path) -> list[str]:
    """Paths of files that are new, gone or others than those taken over; none where nothing was written down."""
    try:
        known = json.loads((folder / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return []
    now = _names(folder)
    gone = {name for name in known if name not in now}
    return sorted(gone | {name for name in now if name not in known or _differs(folder / name, known[name])})


def sentence(paths: list[str]) -> str:
    """What follows of them, in one line."""
    shown = ", ".join(paths[:_SHOWN])
    more = f" and {counted(len(paths) - _SHOWN, 'more file')}" if len(paths) > _SHOWN else ""
    have, them = ("has", "it") if len(paths) == 1 else ("have", "them")
    return f"{shown}{more} {have} changed since the last build; `headwater build` takes {them} over"


def _names(folder: Path) -> list[str]:
    found = [path for part in _PARTS for path in (folder / part).rglob("*") if path.suffix in (".sql", ".yml", ".yaml")]
    return sorted(str(path.relative_to(folder)) for path in [*found, folder / "dbt_project.yml"] if path.is_file())


def _look(path: Path) -> tuple[int, int]:
    found = path.stat()
    return found.st_mtime_ns, found.st_size


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _differs(path: Path, known: list[int | str]) -> bool:
    return list(_look(path)) != known[:2] and _hash(path) != known[2]
