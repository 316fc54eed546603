{{ config(materialized=live_kind()) }}

select
    person_id,
    customer_id,
    user_id,
    cast(sum(mql_score) as bigint) as mql_score,
    count(*) as scored_event_names,
    cast(sum(event_count) as bigint) as event_count,
    min(first_event_at) as first_event_at,
    max(last_event_at) as last_event_at,
    max(last_event_at) as updated_at
from {{ ref('user_mql_events') }}
group by person_id, customer_id, user_id
