"""A model that fails: which keys cannot be computed, found in transactions of their own, while everything else goes on.

A batch in which a model's SQL fails is undone and run again without that model; its touched keys are owed to it
(`headwater.due_keys`). Then, here, these keys are tried half by half until the ones that fail stand alone. They keep their last
good row and stand in `headwater.stale_keys` with the error, and so do the keys of the models below that were made from that
row. A model of which more than `max_stale_keys` keys fail is stopped as a whole: its rows stay as they are, all of it is owed.

Stale keys and stopped models are tried again every `retry_seconds`, and when the model's SQL has changed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from headwater.live.deltas import Delta, Deltas, at_moment
from headwater.live.project import LiveModel, Project
from headwater.live.refresh import Refresh
from headwater.warehouse import Warehouse

Attempt = Callable[[LiveModel, Sequence[str]], None]
"""Refreshes these keys of a model and everything below in one transaction; raises what the SQL raises."""


class TooMany(Exception):
    """More keys of one model fail than are worth isolating."""


def isolate(attempt: Attempt, model: LiveModel, keys: Sequence[str], limit: int) -> dict[str, str]:
    """Bring every key up to date that can be; the others with their error. Raises TooMany when they are more than `limit`."""
    failing: dict[str, str] = {}
    waiting: list[Sequence[str]] = [keys] if keys else []
    while waiting:
        part = waiting.pop()
        try:
            attempt(model, part)
        except Exception as error:
            if len(part) > 1:
                waiting += [part[len(part) // 2 :], part[: len(part) // 2]]
                continue
            failing[part[0]] = f"{type(error).__name__}: {error}"
            if len(failing) > limit:
                raise TooMany(failing[part[0]]) from error
    return failing


def mark(
    warehouse: Warehouse,
    project: Project,
    refreshes: dict[str, Refresh],
    model: LiveModel,
    failing: dict[str, str],
    now: datetime,
) -> None:
    """Write failing keys and their descendants to headwater.stale_keys, in the caller's transaction."""
    for key, error in failing.items():
        clear(warehouse, model.name, [key])
        _insert(warehouse, model.name, [key], error, now, (model.name, key))
        held = {model.name: [key]}
        for below in project.models:
            found: set[str] = set()
            for above in project.models:
                for path in below.analysis.paths:
                    if above.name in held and path.source == above.relation and not path.everything:
                        found |= set(
                            _led_to(warehouse, refreshes[above.name], path.sql, path.source, held[above.name], now)
                        )
            if found and below.name != model.name:
                held[below.name] = sorted(found)
                text = f"made from the row of {model.name} for {key}, which keeps its last good values: {error}"
                _insert(warehouse, below.name, held[below.name], text, now, (model.name, key))


def clear(warehouse: Warehouse, model: str, keys: Sequence[str] | None = None) -> None:
    """Take back what was said of a model's failing keys (all when None), and of what was made from them."""
    where = "" if keys is None else " and list_contains(?, origin_key)"
    warehouse.execute(
        f"delete from headwater.stale_keys where origin_model = ?{where}",
        [model] if keys is None else [model, list(keys)],
    )


def _led_to(w: Warehouse, refresh: Refresh, sql: str, source: str, keys: Sequence[str], now: datetime) -> list[str]:
    """Keys that the rows of `keys` in the model above lead to."""
    texts = ", ".join("'" + key.replace("'", "''") + "'" for key in keys)
    rows = f"(select {refresh.columns} from {source} where cast({refresh.key} as varchar) in ({texts}))"
    deltas = Deltas()
    deltas.put(source, list(refresh.types), Delta(added=rows))
    found = w.execute(
        f"select distinct cast(key as varchar) from ({at_moment(deltas.rendered(sql, source), now)})"
    ).fetchall()
    return [row[0] for row in found if row[0] is not None]


def _insert(w: Warehouse, model: str, keys: Sequence[str], error: str, now: datetime, origin: tuple[str, str]) -> None:
    w.execute(
        "insert into headwater.stale_keys (model, key, error, since, origin_model, origin_key)"
        " select ?, unnest(?), ?, ?, ?, ?",
        [model, list(keys), error[:1000], now, *origin],
    )
