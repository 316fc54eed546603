{{ config(materialized='view') }}

select
    orderid,
    customerid,
    orderdate,
    status,
    _at as updated_at
from {{ source('landed', 'retail__orders') }}
