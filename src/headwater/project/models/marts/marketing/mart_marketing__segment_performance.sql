{{ config(materialized=live_kind()) }}

with responses as (
    select
        customer_id,
        campaign_id,
        count(*) as sent,
        count(case when {{ is_within_last('opened_at', none) }} then 1 end) as opened,
        count(case when {{ is_within_last('clicked_at', none) }} then 1 end) as clicked,
        count(case when {{ is_within_last('converted_at', none) }} then 1 end) as converted,
        count(case when {{ is_within_last('unsubscribed_at', none) }} then 1 end) as unsubscribed
    from {{ ref('stg_campaign_responses') }}
    where {{ within_last('sent_at', none) }}
    group by customer_id, campaign_id
),

campaign_orders as (
    select
        customer_id,
        campaign_id,
        sum(revenue) as revenue
    from {{ ref('fct_orders') }}
    where
        customer_id is not null
        and campaign_id is not null
    group by customer_id, campaign_id
),

segment_totals as (
    select
        coalesce(scores.segment, 'none') as segment,
        responses.campaign_id,
        cast(sum(responses.sent) as bigint) as sent,
        cast(sum(responses.opened) as bigint) as opened,
        cast(sum(responses.clicked) as bigint) as clicked,
        cast(sum(responses.converted) as bigint) as converted,
        cast(sum(responses.unsubscribed) as bigint) as unsubscribed,
        sum(campaign_orders.revenue) as revenue
    from responses
    left join {{ ref('mart_marketing__segment_scores') }} as scores
        on responses.customer_id = scores.customer_id
    left join campaign_orders
        on responses.customer_id = campaign_orders.customer_id
        and responses.campaign_id = campaign_orders.campaign_id
    group by coalesce(scores.segment, 'none'), responses.campaign_id
)

select
    segment_totals.segment,
    segment_totals.campaign_id,
    campaigns.campaign_name,
    campaigns.channel,
    segment_totals.sent,
    segment_totals.opened,
    segment_totals.clicked,
    segment_totals.converted,
    segment_totals.unsubscribed,
    {{ ratio('segment_totals.opened', 'segment_totals.sent') }} as open_rate,
    {{ ratio('segment_totals.clicked', 'segment_totals.sent') }} as click_rate,
    {{ ratio('segment_totals.converted', 'segment_totals.sent') }} as conversion_rate,
    {{ money('coalesce(segment_totals.revenue, 0)') }} as revenue
from segment_totals
left join {{ ref('stg_campaigns') }} as campaigns
    on segment_totals.campaign_id = campaigns.campaign_id
