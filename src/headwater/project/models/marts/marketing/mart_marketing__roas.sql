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
),

totals as (
    select
        month,
        channel,
        campaign_id,
        sum(spend) as spend,
        sum(orders) as orders,
        sum(revenue) as revenue
    from both_sides
    group by month, channel, campaign_id
),

attributed_months as (
    select
        month,
        sum(orders) as orders
    from orders
    where channel <> 'unattributed'
    group by month
)

select
    totals.month,
    totals.channel,
    totals.campaign_id,
    {{ money('totals.spend') }} as spend,
    cast(totals.orders as bigint) as orders,
    {{ money('totals.revenue') }} as revenue,
    case when attributed_months.orders > 0 then {{ ratio('totals.revenue', 'totals.spend') }} end as roas
from totals
left join attributed_months
    on totals.month = attributed_months.month
