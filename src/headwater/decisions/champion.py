"""Versions of learned policies: which one decides, which one waits to, and what it has to show first.

One row of `headwater.policy_registry` per goal and version; rows stay, aliases move:

    champion     decides, where `decisions.policy` is `champion`
    challenger   was trained and not (yet) promoted
    previous     was champion before; `rollback` returns to it
    (null)       history; verdict `retired`: left by a rollback, and never taken up again

The gate is applied to the log as it is at the moment of promotion, and to the learner, not to the fitted model: the model has
seen these rows, so it is fitted anew on other folds. It passes when all of this holds:

    checks        mean weight 1, effective rows ≥ 10 %, groups of the size that was meant, decisions carried out
    gain          the lower bound of the paired, cross-fitted, doubly robust difference to the best constant policy is above 0
    guardrails    for each guardrail metric the upper bound of the difference to what was done is at most `guardrail_margin`

Where no policy was promoted, `champion` decides as `epsilon_mixed`: it gathers the log that a first policy can be trained on.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from headwater.clock import Clock, naive_utc
from headwater.decisions import logged
from headwater.decisions.attribution import data_moment
from headwater.decisions.evaluate import Evaluation, Log, evaluate
from headwater.decisions.learned import Learned, learner, need_columns, text_of
from headwater.decisions.policy import Champion, Policy
from headwater.decisions.settings import DecisionSettings
from headwater.decisions.table import Table
from headwater.errors import InvalidValue, Refused
from headwater.records.counted import counted
from headwater.warehouse import Warehouse

RULE_OF_THREE = 3.0
"""What never happened in n decisions happens, with 95 % confidence, in at most 3/n of them."""

_COLUMNS = (
    "goal, version, alias, learner, trained_at, as_of, row_count, customers, data_hash, model, evaluation, verdict, "
    "verdict_reason, promoted_at"
)


@dataclass(frozen=True)
class Version:
    """One row of the registry. Times are naive UTC. `model`: what the learner's `restore` understands."""

    goal: str
    version: int
    alias: str | None
    learner: str
    trained_at: datetime
    as_of: datetime
    row_count: int
    customers: int
    data_hash: str
    model: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    verdict: str
    verdict_reason: str
    promoted_at: datetime | None = None

    @property
    def policy_version(self) -> str:
        """What `decision_log.policy_version` says of its decisions."""
        return f"{self.goal}:{self.version}"


@dataclass(frozen=True)
class Guard:
    """A guardrail metric under the challenger against what was done; per decision."""

    metric: str
    difference: float
    low: float
    high: float
    margin: float

    @property
    def ok(self) -> bool:
        """Whether it is shown not to become more frequent by more than the margin."""
        return self.high <= self.margin

    @property
    def sentence(self) -> str:
        said = f"{self.metric}: {self.difference:+.4g} [{self.low:+.4g}, {self.high:+.4g}] per decision"
        return said + ("" if self.ok else f", which may be more than {self.margin:g} worse than what was done")


@dataclass(frozen=True)
class Judgement:
    """What the gate found. `reasons`: one sentence for each part that did not pass; empty when it may be promoted."""

    goal: str
    learner: str
    evaluation: Evaluation
    guards: tuple[Guard, ...]

    @property
    def reasons(self) -> tuple[str, ...]:
        found = [check.sentence for check in self.evaluation.checks if not check.ok]
        if not found and not self.evaluation.beats_baseline:
            found.append(f"gain: {self.evaluation.sentence}")
        return (*found, *(f"guardrail: {guard.sentence}" for guard in self.guards if not guard.ok))

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        worse = [guard.sentence for guard in self.guards if not guard.ok]
        verdict = "it may be promoted" if not self.reasons else "it is not to be promoted"
        return f"{self.evaluation.sentence}; {verdict}" + (f" ({'; '.join(worse)})" if worse else "")

    def as_json(self) -> dict[str, Any]:
        one = self.evaluation
        return {
            "goal": self.goal, "target": one.target, "estimator": one.estimator, "baseline": one.baseline, "bar": one.bar,
            "rows": one.rows, "excluded": one.excluded, "logged_value": one.logged_value, "relative": one.relative,
            **{name: {"value": e.value, "error": e.error, "low": e.low, "high": e.high} for name, e in
               (("value", one.value), ("baseline_value", one.baseline_value), ("difference", one.difference))},
            "checks": [{"name": c.name, "ok": bool(c.ok), "value": c.value, "sentence": c.sentence} for c in one.checks],
            "guardrails": [{"metric": g.metric, "difference": g.difference, "low": g.low, "high": g.high, "ok": g.ok} for g in self.guards],
            "sentence": self.sentence, "reasons": list(self.reasons),
        }  # fmt: skip


def versions(warehouse: Warehouse, goal: str) -> list[Version]:
    """All versions of a goal, oldest first."""
    rows = warehouse.rows(f"select {_COLUMNS} from headwater.policy_registry where goal = ? order by version", [goal])
    return [
        Version(**{**row, **{key: json.loads(row[key] or "{}") for key in ("model", "evaluation")}}) for row in rows
    ]


def aliased(warehouse: Warehouse, goal: str, alias: str) -> Version | None:
    """The version that has the alias; None when there is none."""
    return next((one for one in versions(warehouse, goal) if one.alias == alias), None)


def policy(warehouse: Warehouse, table: Table, settings: DecisionSettings) -> Policy:
    """The policy that `decisions.policy: champion` stands for now, for the goal of the settings."""
    version = aliased(warehouse, settings.goal, "champion")
    return Champion(table, settings) if version is None else restored(version, table, settings)


def restored(version: Version, table: Table, settings: DecisionSettings) -> Policy:
    """The policy of a version."""
    model = learner(version.learner, settings.learning.floor).restore(version.model)
    return Learned(table, settings, model, version.model["actions"], version.learner, version.policy_version)


def train(warehouse: Warehouse, settings: DecisionSettings, clock: Clock, goal: str | None = None) -> Version:
    """Fit a new version on all closed decisions of the goal; it becomes the challenger.

    Raises Refused when there are fewer closed decisions than `learning.least_rows`, or the log is deterministic.
    """
    goal = goal or settings.goal
    log = read_log(warehouse, settings, goal)
    least = settings.learning.least_rows
    if len(log) < least:
        raise Refused(
            f"there are {counted(len(log), 'closed decision')} for the goal {goal!r}, fewer than decisions.learning.least_rows ({least:,}); "
            "gather more, or lower it knowing that little can be learned"
        )
    if (log.propensity == 1).all():
        raise Refused(
            "the log is of a deterministic policy (every propensity is 1), so it says nothing of what another action would have "
            "brought. Set `decisions.policy: epsilon_mixed` (or `champion`) and gather a log first"
        )
    need_columns(log)
    text = text_of(learner(settings.learning.learner, settings.learning.floor).train(log))
    newest = warehouse.value("select max(version) from headwater.policy_registry where goal = ?", [goal])
    version = Version(
        goal, int(newest or 0) + 1, "challenger", settings.learning.learner, naive_utc(clock.now()), data_moment(warehouse),
        len(log), len(set(log.units.tolist())), _hash_of(log), json.loads(text), {}, "trained", "",
    )  # fmt: skip
    with warehouse.transaction():
        warehouse.execute(
            "update headwater.policy_registry set alias = null where goal = ? and alias = 'challenger'", [goal]
        )
        warehouse.execute(
            f"insert into headwater.policy_registry ({_COLUMNS}) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [goal, version.version, version.alias, version.learner, version.trained_at, version.as_of, version.row_count,
             version.customers, version.data_hash, text, "{}", version.verdict, "", None],
        )  # fmt: skip
    return version


def judge(
    warehouse: Warehouse,
    settings: DecisionSettings,
    goal: str | None = None,
    *,
    baseline: str = "best_constant",
    learner_name: str | None = None,
) -> Judgement:
    """What the gate says today of a learner (the setting's when none is named), on all closed decisions of the goal."""
    goal = goal or settings.goal
    learning = settings.learning
    name = learner_name or learning.learner
    log = read_log(warehouse, settings, goal)
    target = learner(name, learning.floor)
    found = replace(evaluate(log, target, "dr", baseline, learning.folds), unit=settings.goal_of(goal).unit)
    guards = []
    for metric in settings.goal_of(goal).guardrail_metrics:
        happened = logged.read(warehouse, goal, settings.holdout_share, metric=metric).reward
        one = evaluate(log, target, "dr", "logged", learning.folds, metric=happened).difference
        never = 0.0 if happened.any() else RULE_OF_THREE / len(log)
        guards.append(Guard(metric, one.value, one.low, max(one.high, never), learning.guardrail_margin))
    return Judgement(goal, name, found, tuple(guards))


def promote(
    warehouse: Warehouse, settings: DecisionSettings, clock: Clock, goal: str | None = None, version: int | None = None
) -> tuple[Version, Judgement]:
    """Make a version (the challenger when none is named) the champion, if the gate lets it pass.

    Raises Refused with every reason when it does not, InvalidValue when there is no such version.
    """
    goal = goal or settings.goal
    chosen = _chosen(versions(warehouse, goal), goal, version)
    if chosen.verdict == "retired":
        raise Refused(
            f"version {chosen.version} for {goal} was taken out of use: {chosen.verdict_reason} Train a new version: `headwater policy train`"
        )
    judgement = judge(warehouse, settings, goal, learner_name=chosen.learner)
    text = json.dumps(judgement.as_json(), sort_keys=True)
    if judgement.reasons:
        reason = "; ".join(judgement.reasons)
        warehouse.execute(
            "update headwater.policy_registry set evaluation = ?, verdict = case when alias = 'champion' then verdict else 'refused' end,"
            " verdict_reason = ? where goal = ? and version = ?",
            [text, reason, goal, chosen.version],
        )
        raise Refused(f"version {chosen.version} for {goal} is not promoted: {reason}")
    with warehouse.transaction():
        if chosen.alias != "champion":
            warehouse.execute(
                "update headwater.policy_registry set alias = null where goal = ? and alias = 'previous'", [goal]
            )
            warehouse.execute(
                "update headwater.policy_registry set alias = 'previous' where goal = ? and alias = 'champion'", [goal]
            )
        warehouse.execute(
            "update headwater.policy_registry set alias = 'champion', promoted_at = ?, evaluation = ?, verdict = 'promoted',"
            " verdict_reason = '' where goal = ? and version = ?",
            [naive_utc(clock.now()), text, goal, chosen.version],
        )
    return next(one for one in versions(warehouse, goal) if one.version == chosen.version), judgement


def rollback(warehouse: Warehouse, clock: Clock, goal: str, why: str = "") -> tuple[Version, Version | None]:
    """Take the champion out of use and return to the version before it, or to none: then `champion` decides as `epsilon_mixed`.

    Returns (who left, who decides now). Raises Refused when there is no champion.
    """
    known = versions(warehouse, goal)
    now = next((one for one in known if one.alias == "champion"), None)
    if now is None:
        raise Refused(
            f"there is no champion for {goal} to take back; nothing was promoted, so the default table decides"
        )
    back = next((one for one in known if one.alias == "previous"), None)
    earlier = [
        one for one in known
        if one.promoted_at and one.verdict == "promoted" and one.version not in (now.version, back.version if back else None)
    ]  # fmt: skip
    reason = f"Rolled back at {naive_utc(clock.now()):%Y-%m-%d %H:%M} UTC{f', {why}' if why else ''}."
    with warehouse.transaction():
        warehouse.execute(
            "update headwater.policy_registry set alias = null, verdict = 'retired', verdict_reason = ? where goal = ? and version = ?",
            [reason, goal, now.version],
        )
        if back:
            _alias(warehouse, back, "champion")
        if earlier and back:
            _alias(warehouse, max(earlier, key=lambda one: (one.promoted_at, one.version)), "previous")
    return now, back


def read_log(warehouse: Warehouse, settings: DecisionSettings, goal: str) -> Log:
    """The log that is learned from and judged on."""
    return logged.read(warehouse, goal, settings.holdout_share)


def _alias(warehouse: Warehouse, version: Version, alias: str) -> None:
    warehouse.execute(
        "update headwater.policy_registry set alias = ? where goal = ? and version = ?",
        [alias, version.goal, version.version],
    )


def _chosen(known: list[Version], goal: str, version: int | None) -> Version:
    numbers = ", ".join(str(one.version) for one in known) or "none; run `headwater policy train` first"
    if version is None:
        chosen = next((one for one in known if one.alias == "challenger"), None)
        if chosen is None:
            raise InvalidValue(f"there is no challenger for {goal} to promote; versions: {numbers}")
        return chosen
    for one in known:
        if one.version == version:
            return one
    raise InvalidValue(f"version: found {version!r}; {goal} has the versions: {numbers}")


def _hash_of(log: Log) -> str:
    """Short hash of the rows: the same rows give the same hash."""
    told = hashlib.sha256()
    for array in (log.action, log.reward, log.propensity, log.features):
        told.update(array.tobytes())
    told.update("\x1f".join([*log.actions, *log.columns]).encode())
    return told.hexdigest()[:16]
