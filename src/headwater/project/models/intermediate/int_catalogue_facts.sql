{{ config(materialized=live_kind()) }}

select
    count(*) as products,
    count(product_name) > 0 as has_names
from {{ ref('stg_products') }}
