{{ config(materialized='view') }}

select
    goal,
    segment,
    metric,
    group_a,
    group_b,
    customers_a,
    customers_b,
    mean_a,
    mean_b,
    lift,
    error as standard_error,
    low,
    high,
    safe_low,
    safe_high,
    detectable,
    trusted,
    computed_at
from {{ source('headwater', 'experiment_results') }}
