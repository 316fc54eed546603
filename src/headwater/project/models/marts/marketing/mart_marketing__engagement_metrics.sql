{{ config(materialized=live_kind()) }}

with visits as (
    select
        event_date,
        person_id,
        customer_id,
        session_id,
        count(*) as events
    from {{ ref('fct_events') }}
    group by event_date, person_id, customer_id, session_id
),

event_days as (
    select
        event_date,
        sum(events) as events,
        count(distinct person_id) as visitors,
        count(distinct customer_id) as customers,
        count(distinct session_id) as sessions,
        0 as orders,
        0 as revenue
    from visits
    group by event_date
),

order_days as (
    select
        order_date as event_date,
        0 as events,
        0 as visitors,
        0 as customers,
        0 as sessions,
        count(case when is_purchase then 1 end) as orders,
        sum(revenue) as revenue
    from {{ ref('fct_orders') }}
    group by order_date
),

days as (
    select event_date, events, visitors, customers, sessions, orders, revenue from event_days
    union all
    select event_date, events, visitors, customers, sessions, orders, revenue from order_days
)

select
    event_date,
    cast(sum(events) as bigint) as events,
    cast(sum(visitors) as bigint) as visitors,
    cast(sum(customers) as bigint) as customers,
    cast(sum(sessions) as bigint) as sessions,
    cast(sum(orders) as bigint) as orders,
    {{ money('sum(revenue)') }} as revenue
from days
group by event_date
