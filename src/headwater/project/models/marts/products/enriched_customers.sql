{{ config(materialized=live_kind()) }}

select
    customers.customer_id,
    {{ full_name('customers.first_name', 'customers.last_name', 'customers.company') }} as customer_name,
    customers.email,
    customers.customer_segment,
    shipping.street as shipping_address_street,
    shipping.city as shipping_address_city,
    shipping.state as shipping_address_state,
    shipping.postal_code as shipping_address_postal_code,
    shipping.country as shipping_address_country,
    billing.street as billing_address_street,
    billing.city as billing_address_city,
    billing.state as billing_address_state,
    billing.postal_code as billing_address_postal_code,
    billing.country as billing_address_country,
    customers.updated_at
from {{ ref('dim_customer') }} as customers
left join {{ ref('stg_addresses') }} as shipping
    on customers.shipping_address_id = shipping.address_id
left join {{ ref('stg_addresses') }} as billing
    on customers.billing_address_id = billing.address_id
