{{ config(materialized=live_kind()) }}

with links as (
    select
        anonymous_id,
        customer_id,
        min(occurred_at) as linked_at
    from {{ ref('stg_events') }}
    where
        anonymous_id is not null
        and customer_id is not null
        and {{ within_last('occurred_at', none) }}
    group by anonymous_id, customer_id
),

ordered_links as (
    select
        anonymous_id,
        customer_id,
        linked_at,
        row_number() over (partition by anonymous_id order by linked_at, customer_id) as link_number
    from links
)

select
    anonymous_id,
    customer_id as person_id,
    customer_id,
    linked_at
from ordered_links
where link_number = 1
