"""From the decision log and the outcomes to a `Log` that can be evaluated.

Only decisions of the treatment group whose outcome window has closed count (they have a row in `outcome_log`). A decision that
was changed after the draw (budget, final check) has no propensity; it is left out and counted. The split into treatment and
holdout is checked against the share that was meant.
"""

import json

import numpy as np

from headwater.decisions import inputs
from headwater.decisions.evaluate import Log
from headwater.decisions.health import sample_ratio
from headwater.errors import DataError
from headwater.warehouse import Warehouse


def read(warehouse: Warehouse, goal: str, holdout_share: float, policy: str | None = None) -> Log:
    """The closed decisions of a goal (and of one policy). Raises InvalidValue for an unknown goal, DataError when none is closed.

    Features are the logged buckets, one column of 0 and 1 per bucket and value, and per segment.
    """
    goal = inputs.goal(goal)
    rows = warehouse.execute(
        """select l.customer_id, l.experiment_group, l.segment, l.features::varchar, l.probabilities::varchar, l.action,
               l.propensity, sum(o.value)::double
           from headwater.decision_log l join headwater.outcome_log o using (decision_id)
           where l.goal = $1 and ($2 is null or l.policy = $2)
           group by all order by l.customer_id, l.action""",
        [goal, policy],
    ).fetchall()
    treated = [row for row in rows if row[1] != "holdout"]
    usable = [row for row in treated if row[6] is not None]
    if len(usable) < 2:
        raise DataError(
            f"there are {len(usable)} closed decisions for the goal {goal!r}, at least 2 are needed; wait until outcome windows have closed"
        )
    groups = {"treatment": len(treated), "holdout": len(rows) - len(treated)}
    split = {"treatment": 1 - holdout_share, "holdout": holdout_share}
    probabilities = [json.loads(row[4]) for row in usable]
    actions = tuple(sorted({action for one in probabilities for action in one}))
    number = {action: position for position, action in enumerate(actions)}
    looks = [{**json.loads(row[3]), "segment": row[2]} for row in usable]
    columns = sorted({(name, str(value)) for look in looks for name, value in look.items() if value is not None})
    features = np.array([[float(str(look.get(name)) == value) for name, value in columns] for look in looks])
    return Log(
        actions,
        np.array([number[row[5]] for row in usable], dtype=np.int64),
        np.array([row[7] for row in usable], dtype=float),
        np.array([row[6] for row in usable], dtype=float),
        features.reshape(len(usable), len(columns)),
        np.array([row[0] for row in usable], dtype=str),
        np.array([[action in one for action in actions] for one in probabilities]),
        checks=(sample_ratio(groups, {g: s for g, s in split.items() if s > 0}),),
        excluded=len(treated) - len(usable),
    )
