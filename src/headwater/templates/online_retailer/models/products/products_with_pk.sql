{{ config(materialized=live_kind()) }}

select
    productid,
    brand,
    productname,
    category,
    description,
    color,
    size,
    price,
    updated_at
from {{ ref('stg_products') }}
