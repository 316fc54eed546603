{{ config(materialized=live_kind(), enabled=target.type == 'duckdb') }}

with features as (
    select
        customer_id,
        ln(1 + cast(greatest({{ days_apart('last_order_at', as_of_day()) }}, 0) as double)) as recency,
        ln(1 + cast(order_count as double)) as frequency,
        cast(revenue as double) as monetary,
        updated_at
    from {{ ref('int_customer_orders') }}
    where order_count > 0 and revenue > 0
),

scaled as (
    select
        features.customer_id,
        features.updated_at,
        centroids.version,
        centroids.raw_segment_id,
        centroids.segment_id,
        centroids.segment_name,
        centroids.stability,
        coalesce((features.recency - centroids.recency_mean) / centroids.recency_scale - centroids.recency_centre, 0) as recency_gap,
        coalesce((features.frequency - centroids.frequency_mean) / centroids.frequency_scale - centroids.frequency_centre, 0)
            as frequency_gap,
        coalesce(
            (ln(1 + greatest(features.monetary, centroids.monetary_floor)) - centroids.monetary_mean) / centroids.monetary_scale
            - centroids.monetary_centre, 0
        ) as monetary_gap
    from features
    cross join {{ source('headwater', 'segment_centroids') }} as centroids
),

distances as (
    select
        customer_id,
        updated_at,
        version,
        raw_segment_id,
        segment_id,
        segment_name,
        stability,
        sqrt(recency_gap * recency_gap + frequency_gap * frequency_gap + monetary_gap * monetary_gap) as distance
    from scaled
),

compared as (
    select
        customer_id,
        updated_at,
        version,
        raw_segment_id,
        segment_id,
        segment_name,
        stability,
        distance,
        distance - min(distance) over (partition by customer_id) as gap
    from distances
),

ranked as (
    select
        customer_id,
        updated_at,
        version,
        raw_segment_id,
        segment_id,
        segment_name,
        stability,
        lead(distance) over (partition by customer_id order by distance, raw_segment_id) - distance as margin,
        list(gap) over (
            partition by customer_id order by raw_segment_id rows between unbounded preceding and unbounded following
        ) as gaps,
        row_number() over (partition by customer_id order by distance, raw_segment_id) as place
    from compared
)

select
    customer_id,
    version,
    raw_segment_id,
    segment_id,
    segment_name,
    stability,
    margin,
    gaps,
    updated_at
from ranked
where place = 1
