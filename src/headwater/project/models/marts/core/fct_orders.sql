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
        case
            when totals.order_id is not null then totals.purchase_line_count > 0
            else coalesce(orders.amount, 0) >= 0
        end as is_purchase,
        orders.updated_at
    from {{ ref('stg_orders') }} as orders
    left join {{ ref('int_order_totals') }} as totals
        on orders.order_id = totals.order_id
    where {{ within_last('orders.ordered_at', none) }}
),

purchases as (
    select
        order_id,
        row_number() over (partition by customer_id order by ordered_at, order_id) as order_number
    from orders
    where
        customer_id is not null
        and is_purchase
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
    coalesce(purchases.order_number = 1, false) as is_first_order,
    purchases.order_number,
    {{ latest_of(['orders.updated_at', 'orders.ordered_at']) }} as updated_at
from orders
left join purchases
    on orders.order_id = purchases.order_id
