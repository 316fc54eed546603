{{ config(materialized=live_kind()) }}

with known as (
    select
        id as anonymous_id,
        person_id,
        customer_id,
        linked_at
    from {{ source('headwater', 'identities') }}
    where id_kind = 'anonymous'
),

users as (
    select
        id as customer_id,
        person_id,
        customer_id as main_customer_id
    from {{ source('headwater', 'identities') }}
    where id_kind = 'user'
),

links as (
    select
        anonymous_id,
        customer_id,
        min(occurred_at) as linked_at
    from {{ ref('stg_events__files') }}
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
),

first_links as (
    select
        ordered_links.anonymous_id,
        coalesce(users.person_id, ordered_links.customer_id) as person_id,
        coalesce(users.main_customer_id, ordered_links.customer_id) as customer_id,
        ordered_links.linked_at
    from ordered_links
    left join known
        on ordered_links.anonymous_id = known.anonymous_id
    left join users
        on ordered_links.customer_id = users.customer_id
    where
        ordered_links.link_number = 1
        and known.anonymous_id is null
)

select anonymous_id, person_id, customer_id, linked_at from known
union all
select anonymous_id, person_id, customer_id, linked_at from first_links
