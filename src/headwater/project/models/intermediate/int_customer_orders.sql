{{ config(materialized=live_kind()) }}

with order_days as (
    select
        customer_id,
        order_date,
        min(case when order_number is not null then ordered_at end) as first_order_at,
        max(case when order_number is not null then ordered_at end) as last_order_at,
        count(order_number) as order_count,
        count(case when order_number is not null and {{ is_within_last('ordered_at', '30 days') }} then 1 end) as orders_30d,
        count(case when order_number is not null and {{ is_within_last('ordered_at', '90 days') }} then 1 end) as orders_90d,
        count(case when order_number is not null and {{ is_within_last('ordered_at', '365 days') }} then 1 end) as orders_365d,
        max(case when is_first_order then 1 else 0 end) as is_first_day,
        sum(revenue) as revenue,
        sum(case when {{ is_within_last('ordered_at', '30 days') }} then revenue else 0 end) as revenue_30d,
        sum(case when {{ is_within_last('ordered_at', '90 days') }} then revenue else 0 end) as revenue_90d,
        sum(case when {{ is_within_last('ordered_at', '365 days') }} then revenue else 0 end) as revenue_365d,
        max(updated_at) as updated_at
    from {{ ref('fct_orders') }}
    where customer_id is not null
    group by customer_id, order_date
)

select
    customer_id,
    min(first_order_at) as first_order_at,
    max(last_order_at) as last_order_at,
    cast(sum(order_count) as bigint) as order_count,
    count(case when order_count > 0 then 1 end) as purchase_days,
    {{ money('sum(revenue)') }} as revenue,
    {{ money(ratio('sum(revenue)', 'sum(order_count)')) }} as avg_order_value,
    {{ money('sum(revenue_30d)') }} as revenue_30d,
    {{ money('sum(revenue_90d)') }} as revenue_90d,
    {{ money('sum(revenue_365d)') }} as revenue_365d,
    cast(sum(orders_30d) as bigint) as orders_30d,
    cast(sum(orders_90d) as bigint) as orders_90d,
    cast(sum(orders_365d) as bigint) as orders_365d,
    {{ money('sum(case when order_count > 0 and is_first_day = 0 then revenue else 0 end)') }} as repeat_revenue,
    max(updated_at) as updated_at
from order_days
group by customer_id
