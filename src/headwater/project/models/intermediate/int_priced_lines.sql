{{ config(materialized='view') }}

with lines as (
    select
        order_lines.order_line_id,
        order_lines.order_id,
        orders.customer_id,
        orders.ordered_at,
        orders.updated_at,
        order_lines.product_id,
        order_lines.quantity,
        order_lines.unit_price,
        case
            when products.product_id is not null and catalogue.has_names then products.product_name
            else coalesce(order_lines.product_id, '(no product)')
        end as product_name,
        coalesce(prices.price, order_lines.unit_price) as price,
        coalesce(prices.is_deleted, false) as is_deleted
    from {{ ref('stg_order_lines') }} as order_lines
    inner join {{ ref('fct_orders') }} as orders
        on order_lines.order_id = orders.order_id
    left join {{ ref('stg_products') }} as products
        on order_lines.product_id = products.product_id
    left join {{ ref('int_product_prices') }} as prices
        on order_lines.product_id = prices.product_id
        and orders.ordered_at >= prices.holds_from
        and orders.ordered_at < prices.holds_until
    cross join {{ ref('int_catalogue_facts') }} as catalogue
)

select
    order_line_id,
    order_id,
    customer_id,
    ordered_at,
    product_id,
    product_name,
    quantity,
    unit_price,
    price,
    case
        when is_deleted then 'product deleted at the time'
        when coalesce(trim(product_name), '') = '' then 'product without a name'
        when coalesce(price, 0) <= 0 then 'price not positive'
    end as excluded_because,
    updated_at
from lines
