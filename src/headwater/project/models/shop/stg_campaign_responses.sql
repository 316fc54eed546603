select
    campaign_response_id,
    campaign_id,
    customer_id,
    sent_at,
    opened_at,
    clicked_at,
    converted_at,
    unsubscribed_at
from {{ source('shop', 'campaign_responses') }}
