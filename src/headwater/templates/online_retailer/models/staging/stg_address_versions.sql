{{ config(materialized='view') }}

select
    addressid,
    city,
    state,
    _valid_from as valid_from,
    _deleted as is_deleted
from {{ source('landed', 'retail__addresses__versions') }}
