{{ config(materialized=live_kind()) }}

with orders as (
    select
        orders.order_id,
        orders.customer_id,
        orders.ordered_at,
        orders.status,
        orders.currency,
        orders.channel,
        orders.campaign_id,
        orders.coupon_code,
        coalesce(totals.line_count, 0) as line_count,
        coalesce(totals.units, 0) as units,
        coalesce(totals.gross_revenue, case when orders.amount > 0 then orders.amount else 0 end) as gross_revenue,
        coalesce(totals.refund_amount, case when orders.amount < 0 then -orders.amount else 0 end) as refund_amount,
        coalesce(totals.discount_amount, 0) as discount_amount,
        {{ is_purchase('totals.order_id', 'totals.purchase_line_count', 'orders.amount') }} as is_purchase,
        orders.updated_at
    from {{ ref('stg_orders') }} as orders
    left join {{ ref('int_order_totals') }} as totals
        on orders.order_id = totals.order_id
    where {{ within_last('orders.ordered_at', none) }}
)

select
    orders.order_id,
    orders.customer_id,
    orders.ordered_at,
    {{ day_of('orders.ordered_at') }} as order_date,
    orders.status,
    coalesce(orders.currency, '{{ setting("currency") }}') as currency,
    orders.channel,
    orders.campaign_id,
    orders.coupon_code,
    orders.line_count,
    orders.units,
    {{ money('orders.gross_revenue') }} as gross_revenue,
    {{ money('orders.refund_amount') }} as refund_amount,
    {{ money('orders.discount_amount') }} as discount_amount,
    {{ money('orders.gross_revenue - orders.refund_amount - orders.discount_amount') }} as revenue,
    orders.is_purchase,
    coalesce(numbers.order_number = 1, false) as is_first_order,
    numbers.order_number,
    {{ latest_of(['orders.updated_at', 'orders.ordered_at']) }} as updated_at
from orders
left join {{ ref('int_order_numbers') }} as numbers
    on orders.order_id = numbers.order_id
