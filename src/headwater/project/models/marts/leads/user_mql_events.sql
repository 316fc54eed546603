{{ config(materialized=live_kind()) }}

select
    events.person_id,
    events.customer_id,
    events.customer_id as user_id,
    events.event_name,
    scores.mql_score,
    count(*) as event_count,
    min(events.occurred_at) as first_event_at,
    max(events.occurred_at) as last_event_at
from {{ ref('fct_events') }} as events
inner join {{ ref('mql_score') }} as scores
    on events.event_name = scores.event_name
where {{ within_last('events.occurred_at', lead_window()) }}
group by events.person_id, events.customer_id, events.event_name, scores.mql_score
