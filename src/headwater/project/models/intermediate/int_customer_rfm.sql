{{ config(materialized='view') }}

select
    customer_id,
    {{ clock_now() }} as as_of,
    {{ exact_days_apart('last_order_at', clock_now()) }} as recency_days,
    order_count as frequency,
    revenue as monetary,
    avg_order_value,
    {{ exact_days_apart('first_order_at', clock_now()) }} as tenure_days,
    purchase_days - 1 as repeat_purchases,
    {{ exact_days_apart('first_order_at', 'last_order_at') }} as last_purchase_age_days,
    {{ money(ratio('repeat_revenue', 'purchase_days - 1')) }} as repeat_value
from {{ ref('int_customer_orders') }}
where order_count > 0
