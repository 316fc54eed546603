"""Commands around what came of decisions: outcomes, learned policies, the experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headwater.cli.apps import experiment_app, outcomes_app, policy_app
from headwater.cli.options import HERE, Goal, Json, Project
from headwater.cli.screen import line, print_json
from headwater.cli.within import beside, between, stack_of, with_stack
from headwater.errors import InvalidValue

if TYPE_CHECKING:
    from headwater.decisions.explain import Explanation


@beside(outcomes_app, "import")
def outcomes_import(
    file: Annotated[
        Path, typer.Argument(help="CSV or Parquet: kind, occurred_at, customer_id or decision_id, value …")
    ],
    project: Project = HERE,
    as_json: Json = False,
) -> None:
    """Take in what customers did (opens, clicks, orders, unsubscribes, complaints) from a file; bad rows are put aside."""
    with_stack(project, as_json, lambda stack: stack.outcomes_import(file.resolve()))


@beside(outcomes_app, "attribute")
def outcomes_attribute(project: Project = HERE, as_json: Json = False) -> None:
    """Give each outcome to at most one decision, close windows, compare the groups, watch the champion."""
    with_stack(project, as_json, lambda stack: [stack.outcomes(), stack.compare()])


@beside(policy_app, "train")
def policy_train(project: Project = HERE, goal: Goal = None, as_json: Json = False) -> None:
    """Fit a challenger on the closed decisions of a goal."""
    with_stack(project, as_json, lambda stack: stack.policy_train(goal))


@beside(policy_app, "evaluate")
def policy_evaluate(
    project: Project = HERE,
    goal: Goal = None,
    against: Annotated[str, typer.Option(help="best_constant, or logged (what was done)")] = "best_constant",
    as_json: Json = False,
) -> None:
    """What the challenger would have brought, on decisions it was not fitted on: value, interval, checks, a verdict."""
    if against not in ("best_constant", "logged"):
        raise InvalidValue(f"--against: found {against!r}; expected best_constant or logged")
    with_stack(project, as_json, lambda stack: stack.policy_evaluate(goal, against))


@beside(policy_app, "promote")
def policy_promote(
    version: Annotated[int | None, typer.Argument(help="a version; nothing = the challenger")] = None,
    project: Project = HERE,
    goal: Goal = None,
    as_json: Json = False,
) -> None:
    """Make the challenger the champion, if it is shown to beat the best constant policy and to harm no guardrail metric."""
    with_stack(project, as_json, lambda stack: stack.policy_promote(goal, version))


@beside(policy_app, "rollback")
def policy_rollback(project: Project = HERE, goal: Goal = None, as_json: Json = False) -> None:
    """Take the champion out of use; what decided before it decides again."""
    with_stack(project, as_json, lambda stack: stack.policy_rollback(goal))


@between(policy_app, "list")
def policy_list(project: Project = HERE, as_json: Json = False) -> None:
    """Every version: what it was fitted on, what became of it."""
    with stack_of(project) as stack:
        found = stack.policies()
    if as_json:
        print_json(found)
        return
    if not found:
        print("no policy was trained yet; `headwater policy train` fits one on the decision log")
    for one in found:
        _line(one)


def _line(one: dict[str, Any]) -> None:
    status = {"promoted": "ok", "refused": "refused"}.get(one["verdict"], "skipped")
    alias = f"{one['alias']}, " if one["alias"] else ""
    why = f": {one['verdict_reason']}" if one["verdict_reason"] else ""
    text = f"{alias}{one['learner']}, {one['row_count']:,} decisions, {one['trained_at']:%Y-%m-%d %H:%M}; {one['verdict']}{why}"
    line(status, f"{one['goal']} {one['version']}", text)


@between(experiment_app, "report")
def experiment_report(project: Project = HERE, goal: Goal = None, as_json: Json = False) -> None:
    """Treatment, holdout, business as usual: lift with its intervals, the check of the groups' sizes, what can be seen at all."""
    if as_json:
        with_stack(project, as_json, lambda stack: stack.experiment(goal))
        return
    with stack_of(project) as stack:
        result = stack.experiment(goal)
    line(result.status, "experiment", result.message, result.warnings)
    found = result.details
    for check in found["checks"]:
        if check["ok"]:
            line("ok", check["name"], check["sentence"])
    for one in found["lifts"]:
        if one["metric"] == "reward" or one["segment"] == "all":
            line("note", one["segment"].replace("all", "all segments"), _lift(one, found["unit"]))
    if any(one["metric"] != "reward" for one in found["lifts"]):
        print("  --json has the guardrail metrics of each segment")


def _lift(one: dict[str, Any], unit: str) -> str:
    """One comparison: what each group did, the difference, its interval for whoever looks once and for whoever looks often."""
    from headwater.decisions.experiment import POINTS, REWARD, interval, why_none, written

    share = unit == POINTS or one["metric"] != REWARD
    groups = ", ".join(
        f"{one[f'group_{side}'].replace('_', ' ')} {written(one[f'mean_{side}'], share=share, sign=False)} of {one[f'customers_{side}']:,}"
        for side in ("a", "b")
    )
    if one["low"] is None:
        return f"{one['metric']}: {groups}: {why_none(one['customers_a'], one['customers_b'])}"
    once, always = (
        interval(one[low], one[high], share=share) for low, high in (("low", "high"), ("safe_low", "safe_high"))
    )
    return f"{one['metric']}: {groups}: {written(one['lift'], share=share)} {once}, at every look {always}"


def show_decision(found: "Explanation", as_json: bool) -> None:
    """One decision taken apart: what it is and why, what the customer looks like, every step."""
    from headwater.decisions.explain import SHORT

    if as_json:
        print_json(found.as_json())
        return
    one = found.decision
    line("ok" if one.action != "none" else "skipped", "decision", found.message)
    seen = ", ".join(f"{name} {value}" for name, value in one.features.items() if value is not None)
    group = one.experiment_group.replace("_", " ")
    line(
        "note",
        one.customer_id,
        f"goal {one.goal}, segment {one.segment or 'none'}, group {group}; {seen or 'no buckets are known'}",
    )
    for step in found.steps:
        line("note" if step.before is None else "warn", f"{step.number:>2} {step.rule}", step.text)
    if any(step.before and len(step.before) > SHORT for step in found.steps):
        print("  a way is an action by a channel; --json names each that a rule took")
