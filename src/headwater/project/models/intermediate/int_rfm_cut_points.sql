{{ config(materialized=live_kind()) }}

select
    count(*) as customers,
    {{ cut_point(0.2, 'last_order_at') }} as recency_cut_1,
    {{ cut_point(0.4, 'last_order_at') }} as recency_cut_2,
    {{ cut_point(0.6, 'last_order_at') }} as recency_cut_3,
    {{ cut_point(0.8, 'last_order_at') }} as recency_cut_4,
    {{ cut_point(0.2, 'order_count') }} as frequency_cut_1,
    {{ cut_point(0.4, 'order_count') }} as frequency_cut_2,
    {{ cut_point(0.6, 'order_count') }} as frequency_cut_3,
    {{ cut_point(0.8, 'order_count') }} as frequency_cut_4,
    {{ cut_point(0.2, 'revenue') }} as monetary_cut_1,
    {{ cut_point(0.4, 'revenue') }} as monetary_cut_2,
    {{ cut_point(0.6, 'revenue') }} as monetary_cut_3,
    {{ cut_point(0.8, 'revenue') }} as monetary_cut_4,
    max(updated_at) as updated_at
from {{ ref('int_customer_orders') }}
where order_count > 0
