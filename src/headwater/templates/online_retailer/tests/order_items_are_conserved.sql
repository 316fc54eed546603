-- Each order item is either in product_sales or in excluded_sales, once.

with items as (
    select count(*) as row_count
    from {{ ref('stg_order_items') }}
),

sales as (
    select count(*) as row_count
    from {{ ref('product_sales') }}
),

exclusions as (
    select count(*) as row_count
    from {{ ref('excluded_sales') }}
)

select
    items.row_count as items,
    sales.row_count as sales,
    exclusions.row_count as excluded
from items
cross join sales
cross join exclusions
where items.row_count <> sales.row_count + exclusions.row_count
