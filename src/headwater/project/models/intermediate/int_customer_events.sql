{{ config(materialized=live_kind()) }}

with sessions as (
    select
        customer_id,
        session_id,
        min(occurred_at) as first_event_at,
        max(occurred_at) as last_event_at,
        count(*) as events,
        count(case when {{ is_within_last('occurred_at', '30 days') }} then 1 end) as events_30d
    from {{ ref('fct_events') }}
    where customer_id is not null
    group by customer_id, session_id
)

select
    customer_id,
    min(first_event_at) as first_event_at,
    max(last_event_at) as last_event_at,
    cast(sum(events) as bigint) as event_count,
    cast(sum(events_30d) as bigint) as events_30d,
    count(*) as session_count,
    count(case when events_30d > 0 then 1 end) as sessions_30d
from sessions
group by customer_id
