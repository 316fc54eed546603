{{ config(materialized='view') }}

select
    decisions.decision_id,
    decisions.idempotency_key,
    decisions.decided_at,
    decisions.as_of,
    decisions.run_id,
    decisions.customer_id,
    decisions.experiment_group,
    decisions.segment,
    decisions.goal,
    decisions.policy,
    decisions.policy_version,
    decisions.features,
    decisions.feasible_actions,
    decisions.probabilities,
    decisions.action,
    decisions.channel,
    decisions.template,
    decisions.discount_pct,
    decisions.propensity,
    decisions.seed,
    decisions.blocked_by,
    decisions.config_hash,
    decisions.trace_id,
    traces.trace
from {{ source('headwater', 'decision_log') }} as decisions
left join {{ source('headwater', 'decision_traces') }} as traces
    on decisions.trace_id = traces.trace_id
