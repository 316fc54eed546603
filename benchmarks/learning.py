"""Policies that learn: a million logged decisions judged and learned from, from the tables to the verdict."""

from pathlib import Path

from benchmarks.row import Measured, peak_mb, seconds
from headwater.decisions import champion, logged
from headwater.decisions.evaluate import Evaluation, evaluate
from headwater.decisions.learned import learner, text_of
from headwater.decisions.settings import DecisionSettings
from headwater.warehouse import Warehouse

ROWS, ACTIONS = 1_000_000, ("a", "b", "c", "d", "e", "none")
BUCKETS = {"activity_status": 5, "recency_bucket": 4, "revenue_band": 5, "nps_band": 3, "engagement_level": 4}
SETTINGS = DecisionSettings(goal="conversion", holdout_share=0.0)


def log_1m(folder: Path) -> None:
    """A DuckDB file with a million closed decisions of an even draw over six actions, one per customer; which action is best
    depends on two of the buckets."""
    looks = ", ".join(f"'{name}', 'b' || (hash(i, '{name}') % {count})" for name, count in BUCKETS.items())
    even = ", ".join(f"'{name}', {1 / len(ACTIONS)!r}" for name in ACTIONS)
    feasible = ", ".join(f"{{'action': '{name}'}}" for name in ACTIONS)
    names = ", ".join(f"'{name}'" for name in ACTIONS)
    with Warehouse(folder / "log.duckdb") as warehouse:
        warehouse.execute("insert into headwater.clock values (timestamp '2026-03-01', null, timestamp '2026-03-01')")
        warehouse.execute(
            f"""insert into headwater.decision_log by name
                select 'd' || i as decision_id, 'd' || i as idempotency_key, timestamp '2026-01-01' as decided_at,
                    'C' || (10000001 + i) as customer_id, 'treatment' as experiment_group, 'high_value_lapse_risk' as segment,
                    'conversion' as goal, 'epsilon_mixed' as policy, '1' as policy_version, json_object({looks}) as features,
                    to_json([{feasible}]) as feasible_actions, json_object({even}) as probabilities,
                    list_extract([{names}], 1 + (hash(i, 'x') % {len(ACTIONS)})::integer) as action,
                    {1 / len(ACTIONS)!r} as propensity, timestamp '2026-01-01' as as_of
                from range({ROWS}) made(i)"""
        )
        warehouse.execute(
            """insert into headwater.contact_ledger select decision_id, customer_id, 'email', 'x', decision_id, decided_at
               from headwater.decision_log where action <> 'none'"""
        )
        warehouse.execute(
            """insert into headwater.outcome_log by name
               select decision_id as outcome_id, decision_id, customer_id, goal,
                   ((hash(decision_id, 'y') % 1000 < 50 + case when hash(features ->> 'activity_status') % 5
                       = hash(action) % 5 then 60 else 0 end)::integer)::decimal(18,4) as value,
                   '{"unsubscribe": 0, "complaint": 0}' as metrics
               from headwater.decision_log"""
        )


def policy_evaluate(work: Path) -> Measured:
    """Read the log, judge the learner over five folds against the best constant policy."""
    found: list[Evaluation] = []

    def judge() -> None:
        with Warehouse(work / "log_1m" / "log.duckdb", read_only=True) as warehouse:
            log = logged.read(warehouse, "conversion", 0.0)
        found.append(evaluate(log, learner("softmax", 0.02), folds=5))

    took, bound = seconds(judge), 30.0
    size = f"{ROWS:,} decisions, {len(ACTIONS)} actions, 5 folds: {found[0].difference.value:+.4f} to the best constant"
    return Measured(size, took, peak_mb(), bound, took <= bound)


def policy_refit(work: Path) -> Measured:
    """Read the log, fit softmax on all of it, and write the model as it is kept."""
    kept: list[str] = []

    def refit() -> None:
        with Warehouse(work / "log_1m" / "log.duckdb", read_only=True) as warehouse:
            log = champion.read_log(warehouse, SETTINGS, "conversion")
        kept.append(text_of(learner("softmax", 0.02).train(log)))

    took, bound = seconds(refit), 20.0
    return Measured(f"{ROWS:,} decisions; model of {len(kept[0]) // 1000} kB", took, peak_mb(), bound, took <= bound)
