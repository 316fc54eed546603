{{ config(materialized=live_kind()) }}

with purchases as (
    select
        orders.order_id,
        orders.customer_id,
        orders.ordered_at
    from {{ ref('stg_orders') }} as orders
    left join {{ ref('int_order_totals') }} as totals
        on orders.order_id = totals.order_id
    where
        {{ within_last('orders.ordered_at', none) }}
        and orders.customer_id is not null
        and {{ is_purchase('totals.order_id', 'totals.purchase_line_count', 'orders.amount') }}
)

select
    order_id,
    customer_id,
    row_number() over (partition by customer_id order by ordered_at, order_id) as order_number
from purchases
