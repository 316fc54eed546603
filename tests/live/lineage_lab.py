"""Small tables, one model, random changes: what lineage says of the model against what really happens."""

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from template_models import Changes, Model, World

from headwater.live.analysis import AS_OF, Analysis, Relation
from headwater.live.lineage import analyse

NOW = datetime.fromisoformat("2026-03-31T12:00:00")
CLOCK = f"timestamp '{AS_OF}'"

TABLES = {
    "main.visits": "id bigint, person varchar, device varchar, kind varchar, amount decimal(18, 4), ts timestamp",
    "main.people": "person varchar, city varchar, boss varchar, ts timestamp",
    "main.devices": "device varchar, owner varchar, ts timestamp",
    "main.kinds": "kind varchar, points bigint",
    "main.banned": "person varchar",
    "main.scales": "person varchar, weight double",
}
_DOMAIN: dict[str, tuple[Any, ...]] = {
    "person": ("p1", "p2", "p3", "p4", "d1", None),
    "owner": ("p1", "p2", "p3", None),
    "boss": ("p1", "p2", "p4", None),
    "device": ("d1", "d2", "d3", None),
    "kind": ("a", "b", "c", None),
    "city": ("x", "y", None),
    "points": (1, 2, 3, None),
    "amount": (1, 2, 5, None),
    "weight": (0.5, None),
}


def within(ts: str, width: str | None) -> str:
    """What the macro within_last makes."""
    if width is None:
        return f"({ts} <= {CLOCK})"
    return f"({ts} > {CLOCK} - interval '{width}' and {ts} <= {CLOCK})"


def relations(views: Mapping[str, str] | None = None) -> dict[str, Relation]:
    found = {
        name: Relation(
            name, dict(part.strip().split(" ", 1) for part in columns.replace("(18, 4)", "(18;4)").split(","))
        )
        for name, columns in TABLES.items()
    }
    return found | {name: Relation(name, {}, sql) for name, sql in (views or {}).items()}


def look(
    sql: str, key: str | None, touch: Mapping[str, str] | None = None, views: Mapping[str, str] | None = None
) -> Analysis:
    """The analysis of one model over the small tables."""
    return analyse("m", "main.m", sql, key, relations(views), touch or {})


def faults(sql: str, key: str, seed: int, steps: int = 25, analysis: Analysis | None = None) -> list[str]:
    """Everything that lineage gets wrong of a model in a run of random changes and moves of the clock."""
    choose = random.Random(seed)
    model = Model("m", "main.m", sql, "table", key, "auto", {})
    rows = {table: [_row(choose, table) for _ in range(choose.randrange(2, 9))] for table in TABLES}
    world = World([model], TABLES, rows, NOW, {"m": analysis} if analysis else None)
    assert world.analyses["m"].mode == "keyed", world.analyses["m"].why_full
    found: list[str] = []
    try:
        for _ in range(steps):
            changes = {}
            for table in choose.sample(sorted(TABLES), choose.choice((0, 1, 1, 2))):
                there = world.rows(table)
                old = choose.sample(there, min(len(there), choose.choice((0, 1, 1, 2))))
                new = [tuple(_row(choose, table).values()) for _ in range(choose.choice((0, 1, 1, 2)))]
                kept = [tuple(_nudged(choose, table, row).values()) for row in old if choose.random() < 0.5]
                changes[table] = Changes(old, new + kept)
            hours = choose.choice((0, 0, 1, 24, 24 * 29, 24 * 30, 24 * 31))
            found += world.step(changes, world.now + timedelta(hours=hours))
            if found:
                break
    finally:
        world.close()
    return found


def _columns(table: str) -> list[str]:
    return [part.strip().split(" ")[0] for part in TABLES[table].replace("(18, 4)", "").split(",")]


def _row(choose: random.Random, table: str) -> dict[str, Any]:
    return {column: _value(choose, column) for column in _columns(table)}


def _value(choose: random.Random, column: str) -> Any:
    if column == "id":
        return choose.randrange(1000)
    if column == "ts":
        days = choose.choice((0, 0, 30, 60, -1, -29, -30))
        return NOW - timedelta(days=days, seconds=choose.choice((-1, 0, 1, 3600)))
    return choose.choice(_DOMAIN[column])


def _nudged(choose: random.Random, table: str, row: tuple[Any, ...]) -> dict[str, Any]:
    named = dict(zip(_columns(table), row, strict=True))
    column = choose.choice(_columns(table))
    return named | {column: _value(choose, column)}
