-- Each model that says "one row per customer in dim_customer" has as many rows as dim_customer. (Its key is unique by a test of its own.)

with customers as (
    select count(*) as customers
    from {{ ref('dim_customer') }}
),

models as (
    select 'int_customer_360' as model, count(*) as row_count from {{ ref('int_customer_360') }}
    union all
    select 'mart_marketing__segment_scores' as model, count(*) as row_count from {{ ref('mart_marketing__segment_scores') }}
    union all
    select 'mart_marketing__customer_360' as model, count(*) as row_count from {{ ref('mart_marketing__customer_360') }}
    union all
    select 'fct_customer_segments' as model, count(*) as row_count from {{ ref('fct_customer_segments') }}
    union all
    select 'int_decision_candidates' as model, count(*) as row_count from {{ ref('int_decision_candidates') }}
    union all
    select 'thirty_day_customer_snapshot' as model, count(*) as row_count from {{ ref('thirty_day_customer_snapshot') }}
)

select
    models.model,
    models.row_count,
    customers.customers as expected_rows
from models
cross join customers
where models.row_count <> customers.customers
