{{ config(materialized='view') }}

select
    orderitemid,
    orderid,
    productid,
    quantity,
    _at as updated_at
from {{ source('landed', 'retail__order_items') }}
