{{ config(materialized=live_kind()) }}

with orders_to_come as (
    select
        'orders' as entity,
        'dated after the clock' as reason,
        count(*) as row_count,
        sum(amount) as amount
    from {{ ref('stg_orders') }}
    where not {{ is_within_last('ordered_at', none) }}
),

orders_without_customer as (
    select
        'orders' as entity,
        'without a customer (counted in fct_orders, in no customer model)' as reason,
        count(*) as row_count,
        sum(revenue) as amount
    from {{ ref('fct_orders') }}
    where customer_id is null
),

lines_without_order as (
    select
        'order_lines' as entity,
        'of an order that is not there' as reason,
        coalesce(sum(totals.line_count), 0) as row_count,
        sum(totals.gross_revenue - totals.refund_amount - totals.discount_amount) as amount
    from {{ ref('int_order_totals') }} as totals
    left join {{ ref('stg_orders') }} as orders
        on totals.order_id = orders.order_id
    where orders.order_id is null
),

lines_not_sold as (
    select
        'order_lines' as entity,
        'not in product_sales: ' || excluded_because as reason,
        count(*) as row_count,
        sum(quantity * unit_price) as amount
    from {{ ref('int_priced_lines') }}
    where excluded_because is not null
    group by excluded_because
),

events_to_come as (
    select
        'events' as entity,
        'dated after the clock' as reason,
        count(*) as row_count,
        cast(null as decimal(18, 4)) as amount
    from {{ ref('stg_events') }}
    where not {{ is_within_last('occurred_at', none) }}
),

events_of_nobody as (
    select
        'events' as entity,
        'with neither customer nor visitor' as reason,
        count(*) as row_count,
        cast(null as decimal(18, 4)) as amount
    from {{ ref('stg_events') }}
    where
        customer_id is null
        and anonymous_id is null
        and {{ within_last('occurred_at', none) }}
),

responses_to_come as (
    select
        'campaign_responses' as entity,
        'dated after the clock' as reason,
        count(*) as row_count,
        cast(null as decimal(18, 4)) as amount
    from {{ ref('stg_campaign_responses') }}
    where not {{ is_within_last('sent_at', none) }}
),

spend_to_come as (
    select
        'ad_spend' as entity,
        'dated after the clock' as reason,
        count(*) as row_count,
        sum(amount) as amount
    from {{ ref('stg_ad_spend') }}
    where not {{ is_within_last('cast(spent_on as timestamp)', none) }}
),

exclusions as (
    select entity, reason, row_count, amount from orders_to_come
    union all
    select entity, reason, row_count, amount from orders_without_customer
    union all
    select entity, reason, row_count, amount from lines_without_order
    union all
    select entity, reason, row_count, amount from lines_not_sold
    union all
    select entity, reason, row_count, amount from events_to_come
    union all
    select entity, reason, row_count, amount from events_of_nobody
    union all
    select entity, reason, row_count, amount from responses_to_come
    union all
    select entity, reason, row_count, amount from spend_to_come
)

select
    entity,
    reason,
    cast(row_count as bigint) as row_count,
    {{ money('amount') }} as amount
from exclusions
where row_count > 0
