{{ config(materialized='view') }}

select
    items.orderitemid,
    orders.orderid,
    items.productid,
    items.quantity,
    orders.orderdate,
    orders.customerid,
    products.brand,
    products.productname,
    products.price,
    customers.customername,
    customers.shipping_address_city,
    customers.shipping_address_state,
    customers.billing_address_state,
    case
        when orders.orderdate is null then 'the order has no date'
        when products.is_deleted then 'the product was deleted at the time'
        when customers.is_deleted then 'the customer was deleted at the time'
        {%- if setting('before_first') != 'null' %}
        when products.productid is null then 'the product was not known at the time'
        when customers.customerid is null then 'the customer was not known at the time'
        {%- endif %}
        when products.productid is not null and coalesce(trim(products.productname), '') = '' then 'the product has no name'
        when products.productid is not null and coalesce(products.price, 0) <= 0 then 'the price is not positive'
    end as excluded_because,
    {{ latest_of(['items.updated_at', 'orders.updated_at', 'products.valid_from', 'customers.valid_from']) }} as updated_at
from {{ ref('stg_orders') }} as orders
inner join {{ ref('stg_order_items') }} as items
    on orders.orderid = items.orderid
left join {{ ref('int_product_periods') }} as products
    on items.productid = products.productid
    and orders.orderdate >= products.holds_from
    and orders.orderdate < products.holds_until
left join {{ ref('int_enriched_customer_periods') }} as customers
    on orders.customerid = customers.customerid
    and orders.orderdate >= customers.holds_from
    and orders.orderdate < customers.holds_until
