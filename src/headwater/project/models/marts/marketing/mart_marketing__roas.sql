{{ config(materialized=live_kind()) }}

with spend as (
    select
        {{ month_of('spent_on') }} as month,
        channel,
        campaign_id,
        amount as spend,
        0 as orders,
        0 as revenue
    from {{ ref('stg_ad_spend') }}
    where {{ within_last('cast(spent_on as timestamp)', none) }}
),

orders as (
    select
        {{ month_of('ordered_at') }} as month,
        coalesce(channel, 'unattributed') as channel,
        campaign_id,
        0 as spend,
        count(case when is_purchase then 1 end) as orders,
        sum(revenue) as revenue
    from {{ ref('fct_orders') }}
    group by {{ month_of('ordered_at') }}, coalesce(channel, 'unattributed'), campaign_id
),

both_sides as (
    select month, channel, campaign_id, spend, orders, revenue from spend
    union all
    select month, channel, campaign_id, spend, orders, revenue from orders
)

select
    month,
    channel,
    campaign_id,
    {{ money('sum(spend)') }} as spend,
    cast(sum(orders) as bigint) as orders,
    {{ money('sum(revenue)') }} as revenue,
    {{ ratio('sum(revenue)', 'sum(spend)') }} as roas
from both_sides
group by month, channel, campaign_id
