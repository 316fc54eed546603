{{ config(materialized=live_kind()) }}

with orders_with_lines as (
    select
        customer_id,
        order_id,
        sum(total_amount) as total_amount,
        max(case when quantity > 0 then 1 else 0 end) as is_purchase
    from {{ ref('product_sales') }}
    where
        customer_id is not null
        and {{ within_last('ordered_at', '30 days') }}
    group by customer_id, order_id
),

orders_without_lines as (
    select
        customer_id,
        order_id,
        revenue as total_amount,
        case when order_number is not null then 1 else 0 end as is_purchase
    from {{ ref('fct_orders') }}
    where
        customer_id is not null
        and line_count = 0
        and {{ within_last('ordered_at', '30 days') }}
),

recent_orders as (
    select customer_id, order_id, total_amount, is_purchase from orders_with_lines
    union all
    select customer_id, order_id, total_amount, is_purchase from orders_without_lines
),

totals as (
    select
        customer_id,
        sum(total_amount) as total_amount,
        cast(sum(is_purchase) as bigint) as number_of_orders
    from recent_orders
    group by customer_id
)

select
    customers.customer_id,
    customers.customer_name,
    {{ money('coalesce(totals.total_amount, 0)') }} as total_amount,
    coalesce(totals.number_of_orders, 0) as number_of_orders,
    {{ latest_of(['customers.updated_at', 'orders.updated_at']) }} as updated_at
from {{ ref('enriched_customers') }} as customers
left join totals
    on customers.customer_id = totals.customer_id
left join {{ ref('int_customer_orders') }} as orders
    on customers.customer_id = orders.customer_id
