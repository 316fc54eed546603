{{ config(materialized=live_kind()) }}

with versions as (
    select
        productid,
        valid_from,
        brand,
        productname,
        price,
        is_deleted,
        row_number() over (partition by productid order by valid_from) as version_number,
        lead(valid_from) over (partition by productid order by valid_from) as next_valid_from
    from {{ ref('stg_product_versions') }}
)

select
    productid,
    version_number,
    valid_from,
    {{ holds_from('version_number', 'valid_from') }} as holds_from,
    coalesce(next_valid_from, timestamp '9999-12-31 00:00:00') as holds_until,
    brand,
    productname,
    price,
    is_deleted
from versions
