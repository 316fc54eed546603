{{ config(materialized=live_kind()) }}

with versions as (
    select
        addressid,
        valid_from,
        city,
        state,
        is_deleted,
        row_number() over (partition by addressid order by valid_from) as version_number,
        lead(valid_from) over (partition by addressid order by valid_from) as next_valid_from
    from {{ ref('stg_address_versions') }}
)

select
    addressid,
    version_number,
    valid_from,
    case when version_number = 1 then timestamp '1900-01-01 00:00:00' else valid_from end as holds_from,
    coalesce(next_valid_from, timestamp '9999-12-31 00:00:00') as holds_until,
    city,
    state,
    is_deleted
from versions
