{{ config(materialized=live_kind()) }}

with lines_not_sold as (
    select
        orderitemid,
        orderid,
        orderdate,
        productid,
        customerid,
        quantity,
        price,
        excluded_because,
        updated_at
    from {{ ref('int_sale_lines') }}
    where excluded_because is not null
),

lines_without_order as (
    select
        items.orderitemid,
        items.orderid,
        cast(null as timestamp) as orderdate,
        items.productid,
        cast(null as integer) as customerid,
        items.quantity,
        cast(null as decimal(10, 2)) as price,
        'the order is not there' as excluded_because,
        items.updated_at
    from {{ ref('stg_order_items') }} as items
    left join {{ ref('stg_orders') }} as orders
        on items.orderid = orders.orderid
    where orders.orderid is null
)

select orderitemid, orderid, orderdate, productid, customerid, quantity, price, excluded_because, updated_at
from lines_not_sold
union all
select orderitemid, orderid, orderdate, productid, customerid, quantity, price, excluded_because, updated_at
from lines_without_order
