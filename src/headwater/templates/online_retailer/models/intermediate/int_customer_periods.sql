{{ config(materialized='view') }}

with versions as (
    select
        customerid,
        valid_from,
        customername,
        shipping_address_id,
        billing_address_id,
        is_deleted,
        row_number() over (partition by customerid order by valid_from) as version_number,
        lead(valid_from) over (partition by customerid order by valid_from) as next_valid_from
    from {{ ref('stg_customer_versions') }}
)

select
    customerid,
    version_number,
    valid_from,
    {{ holds_from('version_number', 'valid_from') }} as holds_from,
    coalesce(next_valid_from, timestamp '9999-12-31 00:00:00') as holds_until,
    customername,
    shipping_address_id,
    billing_address_id,
    is_deleted
from versions
