"""Where a twin keeps its records: in memory, and, for a twin that belongs to a project, also in a file.

The file is SQLite with one row per record, written once per call that changed something. A twin in a test has no file.
"""

import json
import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from headwater.errors import UsageError

Records = dict[str, dict[str, Any]]
"""Object type → record id → the record, as JSON takes it."""


class Nowhere:
    """Keeps nothing: what a twin in a test does."""

    place = ""

    def load(self) -> Records:
        """Nothing was kept."""
        return {}

    def keep(self, changed: Iterable[tuple[str, str, Any]]) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Nothing is open."""


class Shelf:
    """The records of one twin in a file; one process at a time. `place` names the file.

    Raises UsageError when another process has the file.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.place = str(path.resolve())
        self._file = sqlite3.connect(path, check_same_thread=False, timeout=0, isolation_level=None)
        try:
            self._file.execute("pragma locking_mode = exclusive")
            self._file.execute("begin exclusive")
            self._file.execute(
                "create table if not exists records (kind text, id text, record text, primary key (kind, id))"
            )
            self._file.execute("commit")
        except sqlite3.OperationalError as error:
            self._file.close()
            raise UsageError(f"{path} is in use: a twin of this project runs already") from error

    def load(self) -> Records:
        """Every record, in the order in which they last changed."""
        records: Records = {}
        for kind, id_, record in self._file.execute("select kind, id, record from records order by rowid"):
            records.setdefault(kind, {})[id_] = json.loads(record)
        return records

    def keep(self, changed: Iterable[tuple[str, str, Any]]) -> None:
        """Write (object type, record id, record) down; a record that is None is gone."""
        self._file.execute("begin")
        for kind, id_, record in changed:
            if record is None:
                self._file.execute("delete from records where kind = ? and id = ?", [kind, id_])
            else:
                # a row that is replaced gets a new rowid, the highest: the order of the rows is that of the last changes
                self._file.execute("insert or replace into records values (?, ?, ?)", [kind, id_, json.dumps(record)])
        self._file.execute("commit")

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
