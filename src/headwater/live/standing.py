"""How each live model stands: what it owes, and whether it is live, being rebuilt or stopped, or keeps stale keys.

It is in tables (`headwater.due_keys`, `headwater.live_models`, `headwater.stale_keys`), written in the caller's transaction and
read back by `read`, so that a kill or a rollback never leaves the engine with an opinion of its own. Only when a model that
failed is tried again is remembered here, and lost with the engine: it is tried at once then.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

from headwater.clock import Clock, naive_utc
from headwater.live import isolate
from headwater.live.project import Project
from headwater.live.settings import LiveSettings
from headwater.warehouse import Warehouse

CHANGED = "new or changed model"
PUT_OFF = "the engine is far behind the log, and lands what waits first"
_CUT = 1_000


class Standing:
    """Of all models of one engine. Call `read` after each transaction that may have changed it."""

    def __init__(self, warehouse: Warehouse, clock: Clock, settings: LiveSettings) -> None:
        self.warehouse = warehouse
        self.clock = clock
        self.settings = settings
        self.owed: dict[str, tuple[int, str | None]] = {}
        """By model: how many keys it owes, and why all of it."""
        self.stopped: set[str] = set()
        self.stale: set[str] = set()
        """Models of which keys fail."""
        self.unread = False
        self._not_live: set[str] = set()
        self._retry_at: dict[str, datetime] = {}

    def read(self) -> None:
        """What the warehouse says."""
        w = self.warehouse
        rows = w.execute(
            "select model, count(key), any_value(because) filter (key is null) from headwater.due_keys group by model"
        ).fetchall()
        self.owed = {row[0]: (int(row[1]), row[2]) for row in rows}
        states = dict(w.execute("select model, state from headwater.live_models where state <> 'live'").fetchall())
        self._not_live = set(states)
        self.stopped = {model for model, state in states.items() if state == "stopped"}
        self.stale = {row[0] for row in w.execute("select distinct origin_model from headwater.stale_keys").fetchall()}
        self.unread = False

    def note(self, project: Project, failing: Mapping[str, str], waiting: Mapping[str, str]) -> None:
        """One row of headwater.live_models for each model, none for those that are gone; what is new or has changed is owed.

        `failing`: models that cannot be live, with the error; `waiting`: those of them that will be, with what for.
        """
        w = self.warehouse
        names = [model.name for model in project.models] + list(project.refused)
        for table in ("live_models", "due_keys", "stale_keys"):
            w.execute(f"delete from headwater.{table} where not list_contains(?, model)", [names])
        known = {row[0]: row[1] for row in w.execute("select model, sql_hash from headwater.live_models").fetchall()}
        for model in project.models:
            if known.get(model.name) == model.sql_hash:
                continue
            for table in ("live_models", "due_keys"):
                w.execute(f"delete from headwater.{table} where model = ?", [model.name])
            isolate.clear(w, model.name)
            w.execute(
                "insert into headwater.live_models (model, mode, sql_hash, state, due_backlog, message)"
                " values (?, ?, ?, 'live', 0, ?)",
                [model.name, model.analysis.mode, model.sql_hash, "; ".join(model.analysis.why_full) or None],
            )
            self.owe(model.name, CHANGED)
        for name, error in failing.items():
            for table in ("live_models", "due_keys"):  # all of it is owed when it is live again
                w.execute(f"delete from headwater.{table} where model = ?", [name])
            isolate.clear(w, name)
            w.execute(
                "insert into headwater.live_models (model, mode, state, message) values (?, 'none', ?, ?)",
                [name, "rebuilding" if name in waiting else "stopped", waiting.get(name, error)[:_CUT]],
            )

    def owe(self, model: str, because: str) -> None:
        """Owe all of a model."""
        self.warehouse.execute("delete from headwater.due_keys where model = ? and key is null", [model])
        self.warehouse.execute(
            "insert into headwater.due_keys values (?, null, ?, ?)",
            [model, because[:_CUT], naive_utc(self.clock.now())],
        )
        self.unread = True

    def stop(self, model: str, error: str, now: datetime) -> None:
        """Keep the model's rows as they are and owe all of it; it is tried again in a while."""
        self.owe(model, f"stopped: {error}")
        self.say(model, "stopped", error)
        self.rest(model, now)

    def rest(self, model: str, now: datetime) -> None:
        """Try what fails of a model again in a while."""
        self._retry_at[model] = now + timedelta(seconds=self.settings.retry_seconds)

    def may_retry(self, model: str, now: datetime) -> bool:
        """Whether its time has come; of a model that never failed it has."""
        return now >= self._retry_at.get(model, now)

    def say(self, model: str, state: str, message: str | None) -> None:
        """Write down how a model stands, and why."""
        self.warehouse.execute(
            "update headwater.live_models set state = ?, message = ? where model = ?",
            [state, message and message[:_CUT], model],
        )

    def settled(self, model: str) -> None:
        """All of a model is as it should be."""
        self.warehouse.execute("delete from headwater.due_keys where model = ?", [model])
        if model in self._not_live or model in self.stale:
            isolate.clear(self.warehouse, model)
            self.say(model, "live", None)
            self.unread = True
