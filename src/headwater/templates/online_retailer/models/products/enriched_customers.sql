{{ config(materialized=live_kind()) }}

select
    customers.customerid,
    customers.customername,
    customers.email,
    customers.segment,
    shipping.street as shipping_address_street,
    shipping.city as shipping_address_city,
    shipping.state as shipping_address_state,
    shipping.postalcode as shipping_address_postalcode,
    shipping.country as shipping_address_country,
    billing.street as billing_address_street,
    billing.city as billing_address_city,
    billing.state as billing_address_state,
    billing.postalcode as billing_address_postalcode,
    billing.country as billing_address_country,
    {{ latest_of(['customers.updated_at', 'shipping.updated_at', 'billing.updated_at']) }} as updated_at
from {{ ref('stg_customers') }} as customers
left join {{ ref('stg_addresses') }} as shipping
    on customers.shipping_address_id = shipping.addressid
left join {{ ref('stg_addresses') }} as billing
    on customers.billing_address_id = billing.addressid
