execute statement set
begin

insert into `enriched_customers`
select * from `customers_with_addresses`;

insert into `products_with_pk`
select `productid`, `brand`, `productname`, `category`, `description`, `color`, `size`, `price`, `updated_at`
from `products_now`;

insert into `product_sales`
select * from `sales`;

insert into `thirty_day_customer_snapshot`
select
    c.`customerid`,
    c.`customername`,
    cast(coalesce(t.`total_amount`, 0) as decimal(18, 2)),
    coalesce(t.`number_of_orders`, cast(0 as bigint)),
    greatest(c.`updated_at`, coalesce(t.`updated_at`, c.`updated_at`))
from `customers_with_addresses` as c
left join `totals_of_thirty_days` as t on c.`customerid` = t.`customerid`;

end;
