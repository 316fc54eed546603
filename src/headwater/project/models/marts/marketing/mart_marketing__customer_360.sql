{{ config(materialized='view') }}

select
    customers.customer_id,
    customers.person_id,
    customers.email,
    customers.first_name,
    customers.last_name,
    customers.phone,
    customers.company,
    customers.city,
    customers.state,
    customers.country,
    customers.time_zone,
    customers.nps_score,
    customers.email_opt_in,
    customers.sms_opt_in,
    customers.signup_at,
    {{ days_since('coalesce(customers.signup_at, customers.first_order_at)') }} as tenure_days,
    customers.first_order_at,
    customers.last_order_at,
    {{ days_since('customers.last_order_at') }} as days_since_last_order,
    {{ activity_status('customers.last_order_at') }} as activity_status,
    customers.order_count,
    customers.lifetime_revenue,
    customers.avg_order_value,
    customers.revenue_30d,
    customers.revenue_90d,
    customers.revenue_365d,
    customers.orders_30d,
    customers.orders_90d,
    customers.last_event_at,
    {{ days_since('customers.last_event_at') }} as days_since_last_event,
    customers.events_30d,
    customers.sessions_30d,
    {{ engagement_level('customers.events_30d') }} as engagement_level,
    customers.rfm_recency_score,
    customers.rfm_frequency_score,
    customers.rfm_monetary_score,
    scores.segment as rule_segment,
    coalesce(segments.segment_name, 'Unsegmented') as ml_segment,
    clv_scores.clv as predicted_clv,
    customers.updated_at
from {{ ref('int_customer_360') }} as customers
inner join {{ ref('mart_marketing__segment_scores') }} as scores
    on customers.customer_id = scores.customer_id
left join {{ ref('int_customer_segments') }} as segments
    on customers.customer_id = segments.customer_id
left join {{ source('headwater', 'clv_scores') }} as clv_scores
    on customers.customer_id = clv_scores.customer_id
