{{ config(materialized=live_kind()) }}

select
    lines.order_line_id,
    lines.order_id,
    lines.ordered_at,
    lines.product_id,
    products.brand,
    lines.product_name,
    products.category,
    lines.price,
    lines.unit_price,
    lines.customer_id,
    customers.customer_name,
    customers.shipping_address_city,
    customers.shipping_address_state,
    customers.billing_address_state,
    lines.quantity,
    {{ money('lines.quantity * lines.price') }} as total_amount,
    lines.updated_at
from {{ ref('int_priced_lines') }} as lines
left join {{ ref('stg_products') }} as products
    on lines.product_id = products.product_id
left join {{ ref('enriched_customers') }} as customers
    on lines.customer_id = customers.customer_id
where lines.excluded_because is null
