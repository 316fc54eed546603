select
    event_id,
    anonymous_id,
    customer_id,
    event_name,
    occurred_at,
    session_id,
    product_id,
    page_url,
    channel,
    campaign_id
from {{ ref('stg_events') }}
