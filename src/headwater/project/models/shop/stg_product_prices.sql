select
    product_price_id,
    product_id,
    valid_from,
    price,
    is_deleted
from {{ source('shop', 'product_prices') }}
