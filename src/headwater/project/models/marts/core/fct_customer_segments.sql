{{ config(materialized='view') }}

select
    customers.customer_id,
    segments.segment_id,
    coalesce(segments.segment_name, 'Unsegmented') as segment_name,
    segments.stability,
    customers.gender,
    customers.city,
    customers.state,
    customers.country,
    coalesce(
        customers.tenure_months,
        {{ months_apart('coalesce(customers.signup_at, customers.first_order_at)', clock_now()) }}
    ) as tenure_months,
    customers.order_count as total_orders,
    customers.lifetime_revenue as total_revenue,
    customers.avg_order_value,
    customers.lifetime_revenue as customer_lifetime_value,
    clv_scores.clv as predicted_clv,
    customers.first_order_at,
    customers.last_order_at,
    {{ days_since('customers.last_order_at') }} as days_since_last_purchase,
    {{ activity_status('customers.last_order_at') }} as activity_status,
    customers.updated_at
from {{ ref('int_customer_360') }} as customers
left join {{ ref('int_customer_segments') }} as segments
    on customers.customer_id = segments.customer_id
left join {{ source('headwater', 'clv_scores') }} as clv_scores
    on customers.customer_id = clv_scores.customer_id
