{{ config(materialized=live_kind()) }}

select
    customers.customerid,
    {{ latest_of(['customers.valid_from', 'shipping.valid_from', 'billing.valid_from']) }} as valid_from,
    {{ latest_of(['customers.holds_from', 'shipping.holds_from', 'billing.holds_from']) }} as holds_from,
    {{ earliest_of(['customers.holds_until', 'shipping.holds_until', 'billing.holds_until']) }} as holds_until,
    customers.customername,
    shipping.city as shipping_address_city,
    shipping.state as shipping_address_state,
    billing.state as billing_address_state,
    customers.is_deleted
from {{ ref('int_customer_periods') }} as customers
left join {{ ref('int_address_periods') }} as shipping
    on customers.shipping_address_id = shipping.addressid
    and shipping.holds_from < customers.holds_until
    and shipping.holds_until > customers.holds_from
left join {{ ref('int_address_periods') }} as billing
    on customers.billing_address_id = billing.addressid
    and billing.holds_from < customers.holds_until
    and billing.holds_until > customers.holds_from
where
    shipping.addressid is null
    or billing.addressid is null
    or (shipping.holds_from < billing.holds_until and shipping.holds_until > billing.holds_from)
