{{ config(materialized='view') }}

select
    excluded_because,
    count(*) as row_count,
    cast(sum(quantity) as bigint) as units
from {{ ref('excluded_sales') }}
group by excluded_because
