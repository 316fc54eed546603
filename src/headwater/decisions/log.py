"""The decision log: one row per decision, and each distinct trace once.

`decision_log.trace_id` refers to `decision_traces`; a row's whole story is the join of the two. `replay` draws a logged
decision again from nothing but the row.
"""

import json
from collections.abc import Container, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

from headwater.decisions.hashing import unit
from headwater.decisions.settle import compact
from headwater.errors import DataError
from headwater.records.decisions import Decision, Trace
from headwater.warehouse import Warehouse

COLUMNS = (
    "decision_id",
    "idempotency_key",
    "decided_at",
    "run_id",
    "customer_id",
    "experiment_group",
    "segment",
    "goal",
    "policy",
    "policy_version",
    "features",
    "feasible_actions",
    "probabilities",
    "action",
    "channel",
    "template",
    "discount_pct",
    "propensity",
    "seed",
    "trace_id",
    "blocked_by",
    "config_hash",
    "as_of",
)
ON_DEMAND = "http"
"""`run_id` of decisions that were asked for one by one (realtime/): whoever asked carries them out. They stand beside a batch's
proposals, supersede none of them and are sent by nobody."""
JSON_COLUMNS = ("features", "feasible_actions", "probabilities")


def insert(warehouse: Warehouse, decisions: Sequence[Decision], written: Container[str] = ()) -> None:
    """Append the decisions and the traces that are new. The caller has a transaction open. `written`: ids of traces that are
    known to be there, so that they need not be looked for."""
    if not decisions:
        return
    columns = {name: [_stored(name, decision) for decision in decisions] for name in COLUMNS}
    traces = {one.trace.trace_id: one.trace.text for one in decisions if one.trace.trace_id not in written}
    if traces:
        insert_traces(warehouse, traces)
    insert_rows(warehouse, "headwater.decision_log", columns)


def insert_traces(warehouse: Warehouse, traces: Mapping[str, str]) -> None:
    """Add the traces (id → JSON) that are not there yet."""
    rows, parameters = given({"trace_id": traces.keys(), "trace": traces.values()})
    warehouse.execute(
        f"insert into headwater.decision_traces select trace_id, trace from {rows}"
        " anti join headwater.decision_traces using (trace_id)",
        parameters,
    )


def insert_rows(warehouse: Warehouse, table: str, columns: Mapping[str, Sequence[Any]]) -> None:
    """Append rows given by column; every value goes as text and is cast to the column's own type."""
    if next(iter(columns.values()), ()):
        texts = {name: [None if v is None else str(v) for v in values] for name, values in columns.items()}
        rows, parameters = given(texts)
        warehouse.execute(
            f"insert into {table} ({', '.join(columns)}) select {', '.join(columns)} from {rows}", parameters
        )


def given(columns: Mapping[str, Iterable[Any]], types: Mapping[str, Any] | None = None) -> tuple[str, list[str]]:
    """Rows from Python as a sub-select for SQL, and its one parameter; columns are varchar unless `types` says otherwise.

    As one JSON text: an array of strings would make DuckDB look for pandas once per value.
    """
    values = zip(*columns.values(), strict=True)
    shape = {name: (types or {}).get(name, "varchar") for name in columns}
    text = json.dumps([dict(zip(columns, row, strict=True)) for row in values])
    return f"(select unnest(from_json(?::json, '{json.dumps([shape])}'), recursive := true))", [text]


def read(warehouse: Warehouse, where: str, parameters: Sequence[Any]) -> list[Decision]:
    """The logged decisions that fulfil the condition."""
    rows = warehouse.rows(
        f"""select l.*, coalesce(t.trace, '[]')::varchar as trace_text from headwater.decision_log l
            left join headwater.decision_traces t using (trace_id) where {where}""",
        parameters,
    )
    return [decision_of(row) for row in rows]


def decision_of(row: Mapping[str, Any]) -> Decision:
    """A row of the log (with `trace_text`) as a Decision."""
    values: dict[str, Any] = {name: row[name] for name in COLUMNS if name != "trace_id"}
    for name in JSON_COLUMNS:
        values[name] = json.loads(values[name])
    values["feasible_actions"] = tuple(values["feasible_actions"])
    return Decision(**values, trace=Trace(row["trace_id"], row["trace_text"]))


def replay(decision: Decision) -> str:
    """The action that the logged seed draws from the logged probabilities.

    It equals the logged action unless `blocked_by` names a step after the draw (budget, final_check).
    """
    u = unit("sample", decision.seed, decision.idempotency_key)
    upper = 0.0
    drawn = None
    for action, probability in decision.probabilities.items():
        if probability > 0:
            drawn, upper = action, upper + probability
            if u < upper:
                break
    if drawn is None:
        raise DataError(
            f"decision {decision.decision_id} has no action of positive probability in the log; it was not written by Headwater"
        )
    return drawn


def _stored(name: str, decision: Decision) -> Any:
    if name == "trace_id":
        return decision.trace.trace_id
    value = getattr(decision, name)
    if name in JSON_COLUMNS:
        return compact(value)
    if isinstance(value, float):
        return repr(value)
    return str(value) if isinstance(value, Decimal) else value
