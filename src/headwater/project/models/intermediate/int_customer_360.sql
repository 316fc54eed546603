{{ config(materialized=live_kind()) }}

with rfm_scores as (
    select
        orders.customer_id,
        cast({{ rfm_score('orders.last_order_at', 'cut_points.recency_cut') }} as bigint) as rfm_recency_score,
        cast({{ rfm_score('orders.order_count', 'cut_points.frequency_cut') }} as bigint) as rfm_frequency_score,
        cast({{ rfm_score('orders.revenue', 'cut_points.monetary_cut') }} as bigint) as rfm_monetary_score
    from {{ ref('int_customer_orders') }} as orders
    cross join {{ ref('int_rfm_cut_points') }} as cut_points
    where orders.order_count > 0
)

select
    customers.customer_id,
    customers.person_id,
    customers.email,
    customers.first_name,
    customers.last_name,
    customers.phone,
    customers.company,
    customers.gender,
    customers.city,
    customers.state,
    customers.country,
    customers.time_zone,
    customers.tenure_months,
    customers.nps_score,
    customers.email_opt_in,
    customers.sms_opt_in,
    customers.signup_at,
    orders.first_order_at,
    orders.last_order_at,
    coalesce(orders.order_count, 0) as order_count,
    {{ money('coalesce(orders.revenue, 0)') }} as lifetime_revenue,
    orders.avg_order_value,
    {{ money('coalesce(orders.revenue_30d, 0)') }} as revenue_30d,
    {{ money('coalesce(orders.revenue_90d, 0)') }} as revenue_90d,
    {{ money('coalesce(orders.revenue_365d, 0)') }} as revenue_365d,
    coalesce(orders.orders_30d, 0) as orders_30d,
    coalesce(orders.orders_90d, 0) as orders_90d,
    events.last_event_at,
    coalesce(events.events_30d, 0) as events_30d,
    coalesce(events.sessions_30d, 0) as sessions_30d,
    rfm_scores.rfm_recency_score,
    rfm_scores.rfm_frequency_score,
    rfm_scores.rfm_monetary_score,
    margins.margin_pct,
    {{ latest_of(['customers.updated_at', 'orders.updated_at', 'events.last_event_at']) }} as updated_at
from {{ ref('dim_customer') }} as customers
left join {{ ref('int_customer_orders') }} as orders
    on customers.customer_id = orders.customer_id
left join {{ ref('int_customer_events') }} as events
    on customers.customer_id = events.customer_id
left join {{ ref('int_customer_margins') }} as margins
    on customers.customer_id = margins.customer_id
left join rfm_scores
    on customers.customer_id = rfm_scores.customer_id
