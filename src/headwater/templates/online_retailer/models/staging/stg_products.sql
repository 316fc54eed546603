{{ config(materialized='view') }}

select
    productid,
    brand,
    productname,
    category,
    description,
    color,
    size,
    price,
    stock,
    _at as updated_at
from {{ source('landed', 'retail__products') }}
