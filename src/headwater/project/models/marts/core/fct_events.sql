{{ config(materialized=live_kind()) }}

with gaps as (
    select
        event_id,
        person_id,
        occurred_at,
        lag(occurred_at) over (partition by person_id order by occurred_at, event_id) as previous_at
    from {{ ref('int_event_persons') }}
    where session_id is null
),

session_starts as (
    select
        event_id,
        person_id,
        max(case when previous_at is null or occurred_at > previous_at + {{ span('30 minutes') }} then occurred_at end)
            over (partition by person_id order by occurred_at, event_id rows between unbounded preceding and current row)
            as started_at
    from gaps
)

select
    events.event_id,
    events.person_id,
    events.customer_id,
    events.anonymous_id,
    events.event_name,
    events.occurred_at,
    {{ day_of('events.occurred_at') }} as event_date,
    coalesce(events.session_id, events.person_id || '/' || {{ moment_text('session_starts.started_at') }}) as session_id,
    events.product_id,
    events.page_url,
    events.channel,
    events.campaign_id
from {{ ref('int_event_persons') }} as events
left join session_starts
    on events.event_id = session_starts.event_id
    and events.person_id = session_starts.person_id
