-- In the month of the first purchase every customer of a cohort is active, and the cohorts hold every buyer.

with first_months as (
    select
        cohort_month,
        cohort_customers,
        active_customers
    from {{ ref('mart_marketing__cohort_retention') }}
    where months_since_first = 0
),

buyers as (
    select count(*) as customers
    from {{ ref('int_customer_orders') }}
    where order_count > 0
),

cohort_customers as (
    select coalesce(sum(cohort_customers), 0) as customers
    from first_months
)

select
    cohort_month,
    cohort_customers as expected,
    active_customers as found
from first_months
where active_customers <> cohort_customers
union all
select
    null as cohort_month,
    buyers.customers as expected,
    cohort_customers.customers as found
from buyers
cross join cohort_customers
where buyers.customers <> cohort_customers.customers
