{{ config(materialized=live_kind()) }}

with customers as (
    select
        customer_id,
        nps_score,
        revenue_90d,
        events_30d,
        coalesce(last_event_at, last_order_at) as last_seen_at,
        updated_at
    from {{ ref('int_customer_360') }}
),

flags as (
    select
        customer_id,
        nps_score,
        revenue_90d,
        events_30d,
        updated_at,
        coalesce(nps_score < {{ setting('churn_rescue_nps_below') }}, false) as is_churn_rescue_nps,
        revenue_90d >= {{ setting('high_value_revenue_90d') }}
        and not coalesce({{ is_within_last('last_seen_at', setting('high_value_quiet_days') ~ ' days') }}, false)
            as is_high_value_lapse_risk,
        revenue_90d <= 0
        and events_30d >= {{ setting('new_users_events_30d') }} as is_new_users_first_week_intent
    from customers
)

select
    customer_id,
    case
        {%- for segment in setting('rule_order') %}
        when is_{{ segment }} then '{{ segment }}'
        {%- endfor %}
    end as segment,
    is_churn_rescue_nps,
    is_high_value_lapse_risk,
    is_new_users_first_week_intent,
    case when is_churn_rescue_nps then (10 - nps_score) / 10.0 end as churn_rescue_nps_score,
    case when is_high_value_lapse_risk then {{ ratio('revenue_90d', 'revenue_90d + ' ~ setting('high_value_revenue_90d')) }} end
        as high_value_lapse_risk_score,
    case when is_new_users_first_week_intent then {{ ratio('events_30d', 'events_30d + ' ~ setting('new_users_events_30d')) }} end
        as new_users_first_week_intent_score,
    updated_at
from flags
