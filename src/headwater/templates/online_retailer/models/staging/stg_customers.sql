{{ config(materialized='view') }}

select
    customerid,
    customername,
    email,
    segment,
    shipping_address_id,
    billing_address_id,
    _at as updated_at
from {{ source('landed', 'retail__customers') }}
