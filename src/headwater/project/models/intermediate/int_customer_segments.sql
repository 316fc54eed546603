{{ config(materialized='view') }}

with published as (
    select
        customer_id,
        segment_id,
        segment_name
    from {{ customer_segments() }}
),

assignments as (
    select
        customer_id,
        segment_id,
        max(stability) as stability
    from {{ source('headwater', 'segment_assignments') }}
    where valid_to is null
    group by customer_id, segment_id
)

select
    published.customer_id,
    published.segment_id,
    published.segment_name,
    assignments.stability
from published
left join assignments
    on published.customer_id = assignments.customer_id
    and published.segment_id = assignments.segment_id
