{{ config(materialized=live_kind()) }}

with events as (
    select
        events.event_id,
        coalesce(events.customer_id, links.customer_id) as customer_id,
        coalesce(events.customer_id, links.customer_id, 'anon:' || events.anonymous_id) as person_id,
        events.anonymous_id,
        events.event_name,
        events.occurred_at,
        events.session_id,
        events.product_id,
        events.page_url,
        events.channel,
        events.campaign_id
    from {{ ref('stg_events') }} as events
    left join {{ ref('int_person_ids') }} as links
        on events.anonymous_id = links.anonymous_id
    where
        {{ within_last('events.occurred_at', none) }}
        and (events.customer_id is not null or events.anonymous_id is not null)
),

gaps as (
    select
        event_id,
        person_id,
        occurred_at,
        lag(occurred_at) over (partition by person_id order by occurred_at, event_id) as previous_at
    from events
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
from events
left join session_starts
    on events.event_id = session_starts.event_id
