select
    ad_spend_id,
    spent_on,
    channel,
    campaign_id,
    amount,
    impressions,
    clicks
from {{ source('shop', 'ad_spend') }}
