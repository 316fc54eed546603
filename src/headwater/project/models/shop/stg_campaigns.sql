select
    campaign_id,
    campaign_name,
    channel,
    started_at,
    ended_at
from {{ source('shop', 'campaigns') }}
