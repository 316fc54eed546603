{# The version of `v` that held at the moment of `o.orderdate`: the newest before it, or, by rule, the first there is. #}
{% macro held(key) -%}
row_number() over (
            partition by {{ key }}
            order by
                case when v.`valid_from` <= o.`orderdate` then 0 else 1 end,
                case when v.`valid_from` <= o.`orderdate` then v.`valid_from` end desc,
                v.`valid_from`,
                v.`lsn` desc
        ) as `rank_number`
{%- endmacro %}
{% macro in_time() -%}
{% if before_first != 'first_version' %}
        and v.`valid_from` <= o.`orderdate`
{% endif %}
{%- endmacro %}
-- orders with their customer as he was when each was placed
create temporary view `orders_of_customers` as
select `orderid`, `customerid`, `orderdate`, `updated_at`, `customername`, `shipping_address_id`, `billing_address_id`, `customer_deleted`, `customer_since`
from (
    select
        o.`orderid`, o.`customerid`, o.`orderdate`, o.`updated_at`,
        v.`customername`, v.`shipping_address_id`, v.`billing_address_id`,
        v.`is_deleted` as `customer_deleted`, v.`valid_from` as `customer_since`,
        {{ held('o.`orderid`') }}
    from `orders_now` as o
    left join `customers_versions` as v
        on o.`customerid` = v.`customerid`
        {{ in_time() }}
)
where `rank_number` = 1;

-- and with the addresses of that moment; the first version of an address holds before itself too
create temporary view `orders_shipped` as
select `orderid`, `customerid`, `orderdate`, `updated_at`, `customername`, `billing_address_id`, `customer_deleted`, `customer_since`, `shipping_address_city`, `shipping_address_state`, `shipping_since`
from (
    select
        o.`orderid`, o.`customerid`, o.`orderdate`, o.`updated_at`, o.`customername`, o.`billing_address_id`,
        o.`customer_deleted`, o.`customer_since`,
        v.`city` as `shipping_address_city`, v.`state` as `shipping_address_state`, v.`valid_from` as `shipping_since`,
        {{ held('o.`orderid`') }}
    from `orders_of_customers` as o
    left join `addresses_versions` as v
        on o.`shipping_address_id` = v.`addressid`
)
where `rank_number` = 1;

create temporary view `orders_billed` as
select `orderid`, `customerid`, `orderdate`, `updated_at`, `customername`, `customer_deleted`, `customer_since`, `shipping_address_city`, `shipping_address_state`, `shipping_since`, `billing_address_state`, `billing_since`
from (
    select
        o.`orderid`, o.`customerid`, o.`orderdate`, o.`updated_at`, o.`customername`, o.`customer_deleted`,
        o.`customer_since`, o.`shipping_address_city`, o.`shipping_address_state`, o.`shipping_since`,
        v.`state` as `billing_address_state`, v.`valid_from` as `billing_since`,
        {{ held('o.`orderid`') }}
    from `orders_shipped` as o
    left join `addresses_versions` as v
        on o.`billing_address_id` = v.`addressid`
)
where `rank_number` = 1;

-- order items with the product and its price of that moment
create temporary view `sale_lines` as
select *
from (
    select
        o.*,
        v.`productid` as `known_productid`, v.`brand`, v.`productname`, v.`price`, v.`is_deleted` as `product_deleted`,
        v.`valid_from` as `product_since`,
        {{ held('o.`orderitemid`') }}
    from (
        select i.`orderitemid`, i.`productid`, i.`quantity`, i.`updated_at` as `item_updated_at`, b.*
        from `order_items_now` as i
        inner join `orders_billed` as b on i.`orderid` = b.`orderid`
    ) as o
    left join `products_versions` as v
        on o.`productid` = v.`productid`
        {{ in_time() }}
)
where `rank_number` = 1;

create temporary view `sales` as
select
    `orderdate`, `orderid`, `productid`, `orderitemid`, `brand`, `productname`, `price`, `customerid`, `customername`,
    `shipping_address_city`, `shipping_address_state`, `billing_address_state`, `quantity`,
    cast(`quantity` * `price` as decimal(18, 2)) as `total_amount`,
    greatest(
        `item_updated_at`, `updated_at`, coalesce(`product_since`, `updated_at`), coalesce(`customer_since`, `updated_at`),
        coalesce(`shipping_since`, `updated_at`), coalesce(`billing_since`, `updated_at`)
    ) as `updated_at`
from `sale_lines`
where
    `orderdate` is not null
    and `product_deleted` is not true
    and `customer_deleted` is not true
{% if before_first == 'null' %}
    and (`known_productid` is null or (trim(coalesce(`productname`, '')) <> '' and `price` > 0));
{% else %}
    and `customer_since` is not null
    and trim(coalesce(`productname`, '')) <> ''
    and `price` > 0;
{% endif %}
