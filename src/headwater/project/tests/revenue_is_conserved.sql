-- Every total that claims to hold all revenue holds the revenue of fct_orders.

with orders as (
    select coalesce(sum(revenue), 0) as revenue
    from {{ ref('fct_orders') }}
),

totals as (
    select 'customers and unattributed orders' as total, coalesce(sum(revenue), 0) as revenue
    from (
        select revenue from {{ ref('int_customer_orders') }}
        union all
        select revenue from {{ ref('fct_orders') }} where customer_id is null
    ) as parts
    union all
    select 'mart_marketing__roas' as total, coalesce(sum(revenue), 0) as revenue
    from {{ ref('mart_marketing__roas') }}
    union all
    select 'mart_marketing__engagement_metrics' as total, coalesce(sum(revenue), 0) as revenue
    from {{ ref('mart_marketing__engagement_metrics') }}
)

select
    totals.total,
    totals.revenue,
    orders.revenue as expected_revenue
from totals
cross join orders
where totals.revenue <> orders.revenue
