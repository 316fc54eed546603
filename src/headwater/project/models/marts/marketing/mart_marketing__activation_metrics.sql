{{ config(materialized='view') }}

select
    {{ day_of('started_at') }} as day,
    sync,
    cast(sum(coalesce(planned, 0)) as bigint) as planned,
    cast(sum(coalesce(sent, 0)) as bigint) as sent,
    cast(sum(coalesce(confirmed, 0)) as bigint) as confirmed,
    cast(sum(coalesce(failed, 0)) as bigint) as failed,
    cast(sum(coalesce(held, 0)) as bigint) as held
from {{ source('headwater', 'sync_runs') }}
where not coalesce(dry_run, false)
group by {{ day_of('started_at') }}, sync
