select
    order_id,
    customer_id,
    ordered_at,
    status,
    currency,
    channel,
    campaign_id,
    coupon_code,
    amount,
    updated_at
from {{ source('shop', 'orders') }}
