{{ config(materialized='view') }}

select
    productid,
    brand,
    productname,
    price,
    _valid_from as valid_from,
    _deleted as is_deleted
from {{ source('landed', 'retail__products__versions') }}
