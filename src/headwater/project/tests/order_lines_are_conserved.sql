-- Each line of a counted order is either in product_sales or counted in excluded_rows.

with lines as (
    select coalesce(sum(line_count), 0) as row_count
    from {{ ref('fct_orders') }}
),

sales as (
    select count(*) as row_count
    from {{ ref('product_sales') }}
),

exclusions as (
    select coalesce(sum(row_count), 0) as row_count
    from {{ ref('excluded_rows') }}
    where reason like 'not in product_sales: %'
)

select
    lines.row_count as lines,
    sales.row_count as sales,
    exclusions.row_count as excluded
from lines
cross join sales
cross join exclusions
where lines.row_count <> sales.row_count + exclusions.row_count
