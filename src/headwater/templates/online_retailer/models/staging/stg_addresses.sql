{{ config(materialized='view') }}

select
    addressid,
    street,
    city,
    state,
    postalcode,
    country,
    _at as updated_at
from {{ source('landed', 'retail__addresses') }}
