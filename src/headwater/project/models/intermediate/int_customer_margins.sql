{{ config(materialized=live_kind()) }}

with costed_orders as (
    select
        orders.customer_id,
        totals.costed_revenue,
        totals.cost_amount
    from {{ ref('fct_orders') }} as orders
    inner join {{ ref('int_order_totals') }} as totals
        on orders.order_id = totals.order_id
    where
        orders.customer_id is not null
        and totals.costed_revenue > 0
)

select
    customer_id,
    {{ money('sum(costed_revenue)') }} as costed_revenue,
    {{ money('sum(cost_amount)') }} as cost_amount,
    cast(100 * {{ ratio('sum(costed_revenue) - sum(cost_amount)', 'sum(costed_revenue)') }} as decimal(9, 4)) as margin_pct
from costed_orders
group by customer_id
