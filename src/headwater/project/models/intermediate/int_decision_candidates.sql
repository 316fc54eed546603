{{ config(materialized='view') }}

select
    customers.customer_id,
    scores.segment,
    coalesce(segments.segment_name, 'Unsegmented') as ml_segment,
    coalesce(customers.email, '') <> '' as has_email,
    coalesce(customers.phone, '') <> '' as has_phone,
    coalesce(customers.email_opt_in, false) as email_consent,
    coalesce(customers.sms_opt_in, false) as sms_consent,
    customers.time_zone,
    customers.margin_pct,
    {{ activity_status('customers.last_order_at') }} as activity_status,
    {{ recency_bucket('customers.last_order_at') }} as recency_bucket,
    {{ revenue_band('customers.lifetime_revenue') }} as revenue_band,
    {{ nps_band('customers.nps_score') }} as nps_band,
    {{ engagement_level('customers.events_30d') }} as engagement_level,
    customers.updated_at
from {{ ref('int_customer_360') }} as customers
inner join {{ ref('mart_marketing__segment_scores') }} as scores
    on customers.customer_id = scores.customer_id
left join {{ ref('int_customer_segments') }} as segments
    on customers.customer_id = segments.customer_id
