{{ config(materialized='view') }}

select
    customerid,
    customername,
    shipping_address_id,
    billing_address_id,
    _valid_from as valid_from,
    _deleted as is_deleted
from {{ source('landed', 'retail__customers__versions') }}
