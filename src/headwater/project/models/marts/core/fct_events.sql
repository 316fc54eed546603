{{ config(materialized=live_kind()) }}

with gaps as (
    select
        event_id,
        person_id,
        customer_id,
        anonymous_id,
        event_name,
        occurred_at,
        session_id,
        product_id,
        page_url,
        channel,
        campaign_id,
        lag(occurred_at) over (partition by person_id, session_id order by occurred_at, event_id) as previous_at
    from {{ ref('int_event_persons') }}
),

session_starts as (
    select
        event_id,
        person_id,
        customer_id,
        anonymous_id,
        event_name,
        occurred_at,
        session_id,
        product_id,
        page_url,
        channel,
        campaign_id,
        max(case when previous_at is null or occurred_at > previous_at + {{ span('30 minutes') }} then occurred_at end)
            over (partition by person_id, session_id order by occurred_at, event_id rows between unbounded preceding and current row)
            as started_at
    from gaps
)

select
    event_id,
    person_id,
    customer_id,
    anonymous_id,
    event_name,
    occurred_at,
    {{ day_of('occurred_at') }} as event_date,
    coalesce(session_id, person_id || '/' || {{ moment_text('started_at') }}) as session_id,
    product_id,
    page_url,
    channel,
    campaign_id
from session_starts
