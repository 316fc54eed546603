{{ config(materialized=live_kind()) }}

select
    orderdate,
    orderid,
    productid,
    orderitemid,
    brand,
    productname,
    price,
    customerid,
    customername,
    shipping_address_city,
    shipping_address_state,
    billing_address_state,
    quantity,
    cast(quantity * price as decimal(18, 2)) as total_amount,
    updated_at
from {{ ref('int_sale_lines') }}
where excluded_because is null
