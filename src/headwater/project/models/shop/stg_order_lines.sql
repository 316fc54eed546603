select
    order_line_id,
    order_id,
    product_id,
    quantity,
    unit_price,
    discount_amount
from {{ source('shop', 'order_lines') }}
