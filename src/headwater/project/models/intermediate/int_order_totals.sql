{{ config(materialized=live_kind()) }}

with lines as (
    select
        order_lines.order_id,
        order_lines.quantity,
        order_lines.quantity * order_lines.unit_price as amount,
        coalesce(order_lines.discount_amount, 0) as discount_amount,
        order_lines.quantity * products.cost as cost_amount
    from {{ ref('stg_order_lines') }} as order_lines
    left join {{ ref('stg_products') }} as products
        on order_lines.product_id = products.product_id
)

select
    order_id,
    count(*) as line_count,
    count(case when quantity > 0 and amount >= 0 then 1 end) as purchase_line_count,
    cast(sum(quantity) as bigint) as units,
    {{ money('sum(case when amount > 0 then amount else 0 end)') }} as gross_revenue,
    {{ money('sum(case when amount < 0 then -amount else 0 end)') }} as refund_amount,
    {{ money('sum(discount_amount)') }} as discount_amount,
    {{ money('sum(case when quantity > 0 and cost_amount is not null then amount - discount_amount else 0 end)') }}
        as costed_revenue,
    {{ money('sum(case when quantity > 0 then coalesce(cost_amount, 0) else 0 end)') }} as cost_amount
from lines
group by order_id
