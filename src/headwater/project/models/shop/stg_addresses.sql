select
    address_id,
    street,
    city,
    state,
    postal_code,
    country
from {{ source('shop', 'addresses') }}
