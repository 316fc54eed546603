-- How do the ML segments differ? Largest revenue first.

with segments as (
    select
        segment_name,
        count(*) as customers,
        count(case when activity_status = 'Active' then 1 end) as active_customers,
        sum(total_orders) as orders,
        sum(total_revenue) as segment_revenue,
        avg(total_revenue) as avg_clv,
        avg(predicted_clv) as avg_predicted_clv
    from {{ ref('fct_customer_segments') }}
    group by segment_name
)

select
    segment_name,
    customers,
    round(100.0 * customers / sum(customers) over (), 1) as customers_pct,
    active_customers,
    orders,
    round(segment_revenue, 2) as segment_revenue,
    round(100.0 * segment_revenue / nullif(sum(segment_revenue) over (), 0), 1) as revenue_pct,
    round(avg_clv, 2) as avg_clv,
    round(avg_predicted_clv, 2) as avg_predicted_clv
from segments
order by segment_revenue desc
