{{ config(materialized=live_kind()) }}

with first_months as (
    select
        customer_id,
        {{ month_of('ordered_at') }} as cohort_month
    from {{ ref('fct_orders') }}
    where is_first_order
),

cohorts as (
    select
        cohort_month,
        count(*) as cohort_customers
    from first_months
    group by cohort_month
),

customer_months as (
    select
        orders.customer_id,
        first_months.cohort_month,
        greatest({{ month_of('orders.ordered_at') }}, first_months.cohort_month) as order_month,
        count(orders.order_number) as order_count,
        sum(orders.revenue) as revenue
    from {{ ref('fct_orders') }} as orders
    inner join first_months
        on orders.customer_id = first_months.customer_id
    group by orders.customer_id, first_months.cohort_month, order_month
),

activity as (
    select
        cohort_month,
        order_month,
        count(case when order_count > 0 then 1 end) as active_customers,
        sum(revenue) as revenue
    from customer_months
    group by cohort_month, order_month
),

months as (
    select distinct order_month
    from activity
)

select
    cohorts.cohort_month,
    cast({{ months_apart('cohorts.cohort_month', 'months.order_month') }} as integer) as months_since_first,
    cohorts.cohort_customers,
    coalesce(activity.active_customers, 0) as active_customers,
    {{ ratio('coalesce(activity.active_customers, 0)', 'cohorts.cohort_customers') }} as retention_rate,
    {{ money('coalesce(activity.revenue, 0)') }} as revenue
from cohorts
inner join months
    on cohorts.cohort_month <= months.order_month
left join activity
    on cohorts.cohort_month = activity.cohort_month
    and months.order_month = activity.order_month
