{{ config(materialized=live_kind()) }}

with users as (
    select
        id as customer_id,
        person_id,
        customer_id as main_customer_id
    from {{ source('headwater', 'identities') }}
    where id_kind = 'user'
)

select
    events.event_id,
    coalesce(users.person_id, events.customer_id, links.person_id, 'anon:' || events.anonymous_id) as person_id,
    coalesce(users.main_customer_id, events.customer_id, links.customer_id) as customer_id,
    events.anonymous_id,
    events.event_name,
    events.occurred_at,
    events.session_id,
    events.product_id,
    events.page_url,
    events.channel,
    events.campaign_id
from {{ ref('stg_events') }} as events
left join users
    on events.customer_id = users.customer_id
left join {{ ref('int_person_ids') }} as links
    on events.anonymous_id = links.anonymous_id
where
    {{ within_last('events.occurred_at', none) }}
    and (events.customer_id is not null or events.anonymous_id is not null)
