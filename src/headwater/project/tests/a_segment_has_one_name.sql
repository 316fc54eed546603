-- A published segment id carries one name, and a name belongs to one id.

with segments as (
    select distinct
        segment_id,
        segment_name
    from {{ ref('int_customer_segments') }}
)

select
    'segment_id' as twice,
    cast(segment_id as varchar) as value
from segments
group by segment_id
having count(*) > 1
union all
select
    'segment_name' as twice,
    segment_name as value
from segments
group by segment_name
having count(*) > 1
