"""What came of decisions: outcomes, policies that learn from them, and the experiment that says what deciding brought."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from headwater.decisions import inputs
from headwater.decisions.settings import GOALS
from headwater.records.stage import StageResult
from headwater.stack.project import Project


class Learning(Project):
    """Outcomes, policies, experiment."""

    def outcomes_import(self, path: Path) -> StageResult:
        """Take in a file of outcomes; what cannot be used is put aside with its reasons."""
        from headwater.decisions import outcomes  # noqa: PLC0415 (with the modules below it brings numpy and scipy along)

        def work() -> StageResult:
            done = outcomes.take_in(self.warehouse, path, self.config.decisions, self.clock)
            return StageResult("outcomes import", "ok", done.new, done.message, asdict(done), done.warnings)

        return self._stage("outcomes import", work)

    def outcomes(self) -> StageResult:
        """Attribute outcomes to decisions, close windows, and look after the champion's guardrail metrics."""
        return self._stage("outcomes", self._attributed)

    def _attributed(self) -> StageResult:
        from headwater.decisions import attribution, champion, outcomes, watch  # noqa: PLC0415

        settings = self.config.decisions
        if not self.warehouse.value("select count(*) from headwater.decision_log"):
            return StageResult("outcomes", "skipped", 0, "nothing was decided yet, so nothing came of it")
        refused = outcomes.note_refusals(self.warehouse, settings, self.clock)
        done = attribution.attribute(self.warehouse, settings)
        warnings, watched = [], []
        for (goal,) in self.warehouse.execute("select distinct goal from headwater.decision_log order by 1").fetchall():
            for one in watch.watch(self.warehouse, settings, goal):
                watched.append(asdict(one))
                if one.worse:
                    _, back = champion.rollback(self.warehouse, self.clock, goal, f"because of {one.sentence}")
                    now = f"version {back.version}" if back else "the table, with exploration,"
                    warnings.append(f"the champion for {goal} was taken back and {now} decides: {one.sentence}")
                    break
        details = asdict(done) | {"refusals": refused, "watched": watched}
        return StageResult("outcomes", "ok", done.closed, done.message, details, tuple(warnings))

    def compare(self) -> StageResult:
        """Compare the groups of every goal that was decided for, and keep what was found for the report."""
        return self._stage("experiment", self._compared)

    def _compared(self) -> StageResult:
        from headwater.decisions import experiment  # noqa: PLC0415

        goals = self.warehouse.execute("select distinct goal from headwater.decision_log order by 1").fetchall()
        if not goals:
            return StageResult("experiment", "skipped", 0, "nothing was decided yet, so there is nothing to compare")
        found = [experiment.report(self.warehouse, self.config.decisions, goal) for (goal,) in goals]
        for one in found:
            experiment.write(self.warehouse, one)
        first = max(found, key=lambda one: sum(one.closed.values()))
        warnings = tuple(f"{one.goal}: {check.sentence}" for one in found for check in one.checks if not check.ok)
        details = {"goals": {one.goal: one.message for one in found}}
        return StageResult("experiment", "ok", sum(first.closed.values()), first.message, details, warnings)

    def policy_train(self, goal: str | None = None) -> StageResult:
        """Fit a challenger from the decision log."""
        from headwater.decisions import champion  # noqa: PLC0415

        def work() -> StageResult:
            made = champion.train(self.warehouse, self.config.decisions, self.clock, self._goal(goal))
            text = (
                f"version {made.version} for {made.goal} ({made.learner}) is the challenger, fitted on {made.row_count:,} decisions of "
                f"{made.customers:,} customers; `headwater policy evaluate` says what it would bring"
            )
            return StageResult("policy train", "ok", made.row_count, text, _shown(made))

        return self._stage("policy train", work)

    def policy_evaluate(self, goal: str | None = None, against: str = "best_constant") -> StageResult:
        """What the challenger (or the learner of the settings) would have brought, on folds that it was not fitted on."""
        from headwater.decisions import champion  # noqa: PLC0415

        def work() -> StageResult:
            wanted = self._goal(goal)
            challenger = champion.aliased(self.warehouse, wanted, "challenger")
            name = challenger.learner if challenger else None
            found = champion.judge(self.warehouse, self.config.decisions, wanted, baseline=against, learner_name=name)
            checks = tuple(check.sentence for check in found.evaluation.checks if not check.ok)
            text, details = found.sentence, found.as_json() | {"version": challenger and challenger.version}
            if challenger is None:
                text += (
                    f". No policy was trained for {wanted}: {found.learner} was fitted for this evaluation only and is kept nowhere. "
                    f"`decisions.learning.least_rows` ({self.config.decisions.learning.least_rows:,}) bounds training; an evaluation "
                    "has no least number of rows, since few of them show as a wide interval"
                )
            return StageResult("policy evaluate", "ok", found.evaluation.rows, text, details, checks)

        return self._stage("policy evaluate", work)

    def policy_promote(self, goal: str | None = None, version: int | None = None) -> StageResult:
        """Make the challenger the champion, if the gate lets it pass."""
        from headwater.decisions import champion  # noqa: PLC0415

        def work() -> StageResult:
            settings = self.config.decisions
            made, judgement = champion.promote(self.warehouse, settings, self.clock, self._goal(goal), version)
            text = f"version {made.version} is the champion for {made.goal}: {judgement.evaluation.sentence}"
            idle = settings.policy != "champion"
            warnings = ("it decides nothing as long as decisions.policy is not `champion`",) if idle else ()
            return StageResult("policy promote", "ok", made.row_count, text, _shown(made), warnings)

        return self._stage("policy promote", work)

    def policy_rollback(self, goal: str | None = None) -> StageResult:
        """Take the champion out of use and return to what decided before it."""
        from headwater.decisions import champion  # noqa: PLC0415

        def work() -> StageResult:
            left, back = champion.rollback(self.warehouse, self.clock, self._goal(goal))
            now = (
                f"version {back.version} is the champion again"
                if back
                else "the default table decides, with exploration"
            )
            text = f"version {left.version} for {left.goal} is retired; {now}"
            return StageResult(
                "policy rollback", "ok", 1, text, {"left": left.version, "champion": back and back.version}
            )

        return self._stage("policy rollback", work)

    def policies(self) -> list[dict[str, Any]]:
        """One entry per goal and version, oldest first, without the models themselves."""
        from headwater.decisions import champion  # noqa: PLC0415

        with self.locked("headwater policy list"):
            return [_shown(one) for goal in GOALS for one in champion.versions(self.warehouse, goal)]

    def experiment(self, goal: str | None = None) -> StageResult:
        """Compare treatment, business as usual and holdout as things stand."""
        from headwater.decisions import experiment  # noqa: PLC0415

        def work() -> StageResult:
            settings = self.config.decisions
            found = experiment.report(self.warehouse, settings, self._goal(goal))
            experiment.write(self.warehouse, found)
            others = [] if found.has_result else experiment.goals_with_result(self.warehouse, settings)
            units = {experiment.REWARD: found.unit}
            details = asdict(found) | {
                "lifts": [
                    asdict(one) | {"lift": one.lift, "sentence": one.sentence(units.get(one.metric, "a customer"))}
                    for one in found.lifts
                ],
                "goals_with_result": others,
            }
            said = (*(check.sentence for check in found.checks if not check.ok),)
            have = "has a result" if len(others) == 1 else "have results"
            elsewhere = f" {' and '.join(f'`--goal {one}`' for one in others)} {have}." if others else ""
            return StageResult("experiment", "ok", sum(found.closed.values()), found.message + elsewhere, details, said)

        return self._stage("experiment", work)

    def _goal(self, goal: str | None) -> str:
        return inputs.goal(self.config.decisions.goal if goal is None else goal)


def _shown(version: Any) -> dict[str, Any]:
    shown = asdict(version)
    shown["model"] = {"actions": shown["model"].get("actions"), "columns": len(shown["model"].get("columns", ()))}
    return shown
