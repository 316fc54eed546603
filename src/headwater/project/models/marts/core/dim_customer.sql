{{ config(materialized=live_kind()) }}

with known_ids as (
    select customer_id from {{ ref('stg_customers') }}
    union
    select customer_id from {{ ref('int_customer_orders') }}
    union
    select customer_id from {{ ref('int_customer_events') }}
),

users as (
    select
        id as customer_id,
        person_id
    from {{ source('headwater', 'identities') }}
    where id_kind = 'user'
)

select
    known_ids.customer_id,
    coalesce(users.person_id, known_ids.customer_id) as person_id,
    customers.email,
    customers.phone,
    customers.first_name,
    customers.last_name,
    customers.company,
    customers.gender,
    customers.customer_segment,
    customers.city,
    customers.state,
    customers.country,
    customers.postal_code,
    customers.time_zone,
    customers.shipping_address_id,
    customers.billing_address_id,
    customers.tenure_months,
    customers.nps_score,
    customers.email_opt_in,
    customers.sms_opt_in,
    customers.created_at as signup_at,
    customers.customer_id is not null as is_registered,
    coalesce(
        {{ latest_of(['customers.updated_at', 'customers.created_at']) }},
        {{ latest_of(['orders.updated_at', 'events.last_event_at']) }}
    ) as updated_at
from known_ids
left join {{ ref('stg_customers') }} as customers
    on known_ids.customer_id = customers.customer_id
left join {{ ref('int_customer_orders') }} as orders
    on known_ids.customer_id = orders.customer_id
left join {{ ref('int_customer_events') }} as events
    on known_ids.customer_id = events.customer_id
left join users
    on known_ids.customer_id = users.customer_id
