{{ config(materialized=live_kind()) }}

with totals as (
    select
        customerid,
        sum(total_amount) as total_amount,
        count(distinct orderid) as number_of_orders,
        max(updated_at) as updated_at
    from {{ ref('product_sales') }}
    where {{ within_last('orderdate', '30 days') }}
    group by customerid
)

select
    customers.customerid,
    customers.customername,
    cast(coalesce(totals.total_amount, 0) as decimal(18, 2)) as total_amount,
    coalesce(totals.number_of_orders, 0) as number_of_orders,
    {{ latest_of(['customers.updated_at', 'totals.updated_at']) }} as updated_at
from {{ ref('enriched_customers') }} as customers
left join totals
    on customers.customerid = totals.customerid
