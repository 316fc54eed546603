create temporary table `enriched_customers` (
    `customerid` int, `customername` string, `email` string, `segment` string,
    `shipping_address_street` string, `shipping_address_city` string, `shipping_address_state` string,
    `shipping_address_postalcode` string, `shipping_address_country` string,
    `billing_address_street` string, `billing_address_city` string, `billing_address_state` string,
    `billing_address_postalcode` string, `billing_address_country` string,
    `updated_at` timestamp(6),
    primary key (`customerid`) not enforced
) with ({{ sink('enriched_customers') }});

create temporary table `products_with_pk` (
    `productid` int, `brand` string, `productname` string, `category` string, `description` string, `color` string,
    `size` string, `price` decimal(10, 2), `updated_at` timestamp(6),
    primary key (`productid`) not enforced
) with ({{ sink('products_with_pk') }});

create temporary table `product_sales` (
    `orderdate` timestamp(6), `orderid` int, `productid` int, `orderitemid` int, `brand` string, `productname` string,
    `price` decimal(10, 2), `customerid` int, `customername` string, `shipping_address_city` string,
    `shipping_address_state` string, `billing_address_state` string, `quantity` int, `total_amount` decimal(18, 2),
    `updated_at` timestamp(6),
    primary key (`orderitemid`) not enforced
) with ({{ sink('product_sales') }});

create temporary table `thirty_day_customer_snapshot` (
    `customerid` int, `customername` string, `total_amount` decimal(18, 2), `number_of_orders` bigint,
    `updated_at` timestamp(6),
    primary key (`customerid`) not enforced
) with ({{ sink('thirty_day_customer_snapshot') }});

create temporary view `customers_with_addresses` as
select
    c.`customerid`, c.`customername`, c.`email`, c.`segment`,
    s.`street` as `shipping_address_street`, s.`city` as `shipping_address_city`, s.`state` as `shipping_address_state`,
    s.`postalcode` as `shipping_address_postalcode`, s.`country` as `shipping_address_country`,
    b.`street` as `billing_address_street`, b.`city` as `billing_address_city`, b.`state` as `billing_address_state`,
    b.`postalcode` as `billing_address_postalcode`, b.`country` as `billing_address_country`,
    greatest(c.`updated_at`, coalesce(s.`updated_at`, c.`updated_at`), coalesce(b.`updated_at`, c.`updated_at`)) as `updated_at`
from `customers_now` as c
left join `addresses_now` as s on c.`shipping_address_id` = s.`addressid`
left join `addresses_now` as b on c.`billing_address_id` = b.`addressid`;

-- thirty days before the newest order of the same customer: Flink has no clock that moves while nothing arrives
create temporary view `totals_of_thirty_days` as
select s.`customerid`, sum(s.`total_amount`) as `total_amount`, count(distinct s.`orderid`) as `number_of_orders`, max(s.`updated_at`) as `updated_at`
from `sales` as s
inner join (select `customerid`, max(`orderdate`) as `newest` from `sales` group by `customerid`) as n
    on s.`customerid` = n.`customerid`
where s.`orderdate` > n.`newest` - interval '30' day
group by s.`customerid`;
