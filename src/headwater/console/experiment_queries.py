"""The reads of the report's part on what deciding brought; the rules are those of `queries`."""

import json

from headwater.console.queries import Row, _read
from headwater.warehouse.connection import Warehouse


def experiments(warehouse: Warehouse) -> list[Row]:
    """One row per goal that decisions were made for: goal, window_days, unit, groups and closed (customers by group),
    trusted, message, power, checks (name, ok, sentence), computed_at. The goal with most closed customers first."""
    rows = _read(warehouse, "select * from headwater.experiment_reports order by goal")
    for row in rows:
        row |= {name: json.loads(row[name] or "null") for name in ("groups", "closed", "checks")}
    return sorted(rows, key=lambda row: (-sum((row["closed"] or {}).values()), row["goal"]))


def lifts(warehouse: Warehouse) -> list[Row]:
    """One row per goal, comparison, segment ('all' first) and metric, as in headwater.experiment_results."""
    return _read(
        warehouse,
        """select goal, segment, metric, group_a, group_b, customers_a, customers_b, mean_a, mean_b, lift, low, high,
               safe_low, safe_high, detectable, sentence
           from headwater.experiment_results
           order by goal, metric <> 'reward', metric, group_a <> 'treatment', group_b <> 'holdout', segment <> 'all', segment""",
    )
