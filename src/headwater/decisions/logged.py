"""From the decision log and the outcomes to a `Log` that can be evaluated, and to learn from.

Only decisions that opened a window which has closed count (they have a row in `outcome_log`), and of these:

    of the treatment group      holdout and business as usual leave nothing to chance; experiment.py compares the groups
    with every action possible  what a deterministic policy logged says nothing of other actions (it is left out, unless there
                                is nothing else: then `evaluate` refuses, and says so)
    carried out as drawn        one that a step after the draw changed (budget, final check) has no propensity; one whose action
                                was never sent reached nobody. Both are left out and counted, and when they are too many the
                                log fails a check: what is left is no fair sample of it

The split into treatment and holdout is checked against the share that was meant.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from headwater.decisions import inputs
from headwater.decisions.attribution import ASKED_FOR
from headwater.decisions.evaluate import Log
from headwater.decisions.hashing import text_sql
from headwater.decisions.health import Check, sample_ratio
from headwater.decisions.situations import table
from headwater.errors import Refused
from headwater.warehouse import Warehouse

MOST_EXCLUDED = 0.10
"""Of the closed decisions, the share that may be left out before what remains is no fair sample of them."""

REWARD = "reward"


def read(
    warehouse: Warehouse,
    goal: str,
    holdout_share: float,
    policy: str | None = None,
    metric: str = REWARD,
) -> Log:
    """The closed decisions of a goal (and of one policy). Raises InvalidValue for an unknown goal, Refused when none is closed.

    `metric`: the reward, or the name of a guardrail metric to be put in its place. Features are the logged buckets, one column
    of 0 and 1 per bucket and value, and per segment; `Log.columns` names them as `name=value`.
    """
    goal = inputs.goal(goal)
    groups = _groups(warehouse, goal, policy)
    value = "o.value" if metric == REWARD else f"coalesce((o.metrics ->> '{metric}')::double, 0)"
    table(
        warehouse,
        "learning_rows",
        f"""select l.decision_id, l.customer_id, l.segment, l.features::varchar as features,
               l.probabilities::varchar as probabilities, l.action, l.propensity, {value}::double as value,
               l.action = 'none' or {ASKED_FOR} or l.decision_id in (select decision_id from headwater.contact_ledger)
                   as carried_out
           from headwater.decision_log l join headwater.outcome_log o using (decision_id)
           where l.goal = {text_sql(goal)} and {"true" if policy is None else f"l.policy = {text_sql(policy)}"}
               and l.experiment_group = 'treatment'""",
    )
    looks = _distinct(warehouse, "learning_looks", "segment", "features")
    distributions = [json.loads(text) for (text,) in _distinct(warehouse, "learning_drawn", "probabilities")]
    rows = warehouse.execute(
        """select r.customer_id, r.action, r.propensity, r.value, r.carried_out, l.number as look, d.number as drawn
           from learning_rows r
           join learning_looks l on l.segment is not distinct from r.segment and l.features is not distinct from r.features
           join learning_drawn d on d.probabilities = r.probabilities
           order by r.customer_id, r.decision_id"""
    ).fetchnumpy()
    propensity = np.ma.filled(np.ma.asarray(rows["propensity"], dtype=float), np.nan)
    which = np.asarray(rows["drawn"], dtype=np.int64)
    possible = np.array([all(p > 0 for p in one.values()) for one in distributions], dtype=bool)[which]
    if not possible.any():
        possible[:] = True
    usable = possible & np.isfinite(propensity) & np.asarray(rows["carried_out"], dtype=bool)
    closed = int(possible.sum())
    if usable.sum() < 2:
        raise Refused(_too_few(warehouse, goal, closed, int(usable.sum())))
    seen, look = np.unique(np.asarray(rows["look"], dtype=np.int64)[usable], return_inverse=True)
    described = [{**json.loads(looks[i][1] or "{}"), "segment": looks[i][0]} for i in seen]
    columns, matrix = encode(described)
    shown = np.unique(which[usable])
    actions = tuple(sorted({action for i in shown for action in distributions[i]}))
    feasible = np.array([[action in one for action in actions] for one in distributions], dtype=bool)
    number = {action: position for position, action in enumerate(actions)}
    taken, position = np.unique(np.asarray(rows["action"][usable], dtype=str), return_inverse=True)
    return Log(
        actions,
        np.array([number[action] for action in taken], dtype=np.int64)[position],
        np.asarray(rows["value"][usable], dtype=float),
        propensity[usable],
        matrix[look],
        np.asarray(rows["customer_id"][usable], dtype=str),
        feasible[which[usable]],
        checks=(
            *((sample_ratio(groups, {g: s for g, s in _shares(holdout_share).items() if s > 0}),) if groups else ()),
            _carried_out(closed, int(usable.sum())),
        ),
        excluded=closed - int(usable.sum()),
        columns=columns,
    )


def encode(
    described: Sequence[Mapping[str, Any]], columns: tuple[str, ...] | None = None
) -> tuple[tuple[str, ...], np.ndarray]:
    """One column of 0 and 1 per `name=value` that occurs (or those given): (columns, (n, d) float64). Null is no column."""
    texts = [{f"{name}={value}" for name, value in one.items() if value is not None} for one in described]
    names = columns if columns is not None else tuple(sorted({text for one in texts for text in one}))
    return names, np.array([[float(name in one) for name in names] for one in texts]).reshape(len(texts), len(names))


def _distinct(warehouse: Warehouse, name: str, *columns: str) -> list[tuple]:
    """Number the distinct values of some columns of `learning_rows` in the temporary table `name`; row i has the number i."""
    listed = ", ".join(columns)
    table(
        warehouse,
        name,
        f"select *, row_number() over (order by {listed}) - 1 as number from (select distinct {listed} from learning_rows)",
    )
    return warehouse.execute(f"select {listed} from {name} order by number").fetchall()


def _groups(warehouse: Warehouse, goal: str, policy: str | None) -> dict[str, int]:
    """Customers by group, of everybody who was decided for, by the newest decision."""
    rows = warehouse.execute(
        """select last, count(*) from (
               select max_by(case experiment_group when 'holdout' then 'holdout' else 'treatment' end, decided_at) as last
               from headwater.decision_log where goal = $1 and ($2 is null or policy = $2) group by customer_id
           ) group by 1""",
        [goal, policy],
    ).fetchall()
    return dict(rows)


def _shares(holdout_share: float) -> dict[str, float]:
    return {"treatment": 1 - holdout_share, "holdout": holdout_share}


def _carried_out(closed: int, usable: int) -> Check:
    left = closed - usable
    share = left / closed
    sentence = (
        f"{left:,} of {closed:,} closed decisions were not carried out as drawn (budget, final check, never sent)"
    )
    if share > MOST_EXCLUDED:
        sentence += (
            f"; above {MOST_EXCLUDED:.0%} what is left is no fair sample. Send what is decided, or widen the budget"
        )
    return Check("carried_out", share <= MOST_EXCLUDED, share, sentence)


def _too_few(warehouse: Warehouse, goal: str, closed: int, usable: int) -> str:
    elsewhere = warehouse.execute(
        """select l.goal, count(*) from headwater.decision_log l join headwater.outcome_log o using (decision_id)
           where l.goal <> ? and l.experiment_group = 'treatment' group by all order by all""",
        [goal],
    ).fetchall()
    others = (
        f"; closed for another goal: {', '.join(f'{name} ({count:,})' for name, count in elsewhere)}"
        if elsewhere
        else ""
    )
    left = f" ({closed:,} closed, but not carried out as drawn: nothing was sent)" if closed > usable else ""
    return (
        f"there are {usable:,} closed decisions for the goal {goal!r}{left}, at least 2 are needed; wait until outcome windows have closed "
        f"and run `headwater outcomes attribute`{others}"
    )
