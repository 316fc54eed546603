select
    product_id,
    product_name,
    brand,
    category,
    price,
    cost,
    updated_at
from {{ source('shop', 'products') }}
