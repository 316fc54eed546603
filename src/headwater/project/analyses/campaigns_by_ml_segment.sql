-- Which campaign works for which ML segment? (mart_marketing__segment_performance asks the same of the rule segments.)

select
    segments.segment_name,
    campaigns.campaign_name,
    campaigns.channel,
    count(*) as sent,
    round(100.0 * count(responses.opened_at) / count(*), 1) as open_pct,
    round(100.0 * count(responses.clicked_at) / count(*), 1) as click_pct,
    round(100.0 * count(responses.converted_at) / count(*), 1) as conversion_pct
from {{ ref('stg_campaign_responses') }} as responses
inner join {{ ref('fct_customer_segments') }} as segments
    on responses.customer_id = segments.customer_id
left join {{ ref('stg_campaigns') }} as campaigns
    on responses.campaign_id = campaigns.campaign_id
group by segments.segment_name, campaigns.campaign_name, campaigns.channel
order by segments.segment_name, conversion_pct desc
