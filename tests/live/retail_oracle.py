"""The data products computed in Postgres itself, from history tables that triggers fill and commits time: what must come out.

Outside the publication, so nothing of it is followed. `install` before the first change; the rows of that moment count as
always there, as they do for a reader whose first sight of them is a snapshot.
"""

from decimal import Decimal
from typing import Any

import psycopg

KEYS = {"customers": "customerid", "addresses": "addressid", "products": "productid"}


def install(shop: "psycopg.Connection[Any]") -> None:
    """Make the history tables and the triggers."""
    shop.execute("create schema history")
    for table, key in KEYS.items():
        shop.execute(
            f"""
            create table history.{table} as select *, true as base, false as gone, 0::bigint as seq from {table};
            create sequence history.{table}_seq;
            create function history.note_{table}() returns trigger language plpgsql security definer as $$
            begin
                if tg_op <> 'INSERT' and (tg_op = 'DELETE' or old.{key} is distinct from new.{key}) then
                    insert into history.{table} select (old).*, false, true, nextval('history.{table}_seq');
                end if;
                if tg_op <> 'DELETE' then
                    insert into history.{table} select (new).*, false, false, nextval('history.{table}_seq');
                end if;
                return null;
            end $$;
            create trigger note after insert or update or delete on {table}
            for each row execute function history.note_{table}();
            create view history.{table}_periods as
            with timed as (
                select *, case when base then timestamp '1900-01-01' else pg_xact_commit_timestamp(xmin) at time zone 'UTC' end as at
                from history.{table}
            ),
            versions as (select distinct on ({key}, at) * from timed order by {key}, at, seq desc)
            select
                *,
                case when row_number() over (partition by {key} order by at) = 1 then timestamp '1900-01-01' else at end as since,
                coalesce(lead(at) over (partition by {key} order by at), timestamp '9999-12-31') as until
            from versions
            """.encode()
        )
    shop.execute(
        b"""
        create view history.product_sales as
        select
            o.orderdate, o.orderid, p.productid, i.orderitemid, p.brand, p.productname, p.price, c.customerid, c.customername,
            case when not s.gone then s.city end as shipping_address_city,
            case when not s.gone then s.state end as shipping_address_state,
            case when not b.gone then b.state end as billing_address_state,
            i.quantity, i.quantity * p.price as total_amount
        from orders as o
        join order_items as i using (orderid)
        join history.products_periods as p on p.productid = i.productid and o.orderdate >= p.since and o.orderdate < p.until
        join history.customers_periods as c on c.customerid = o.customerid and o.orderdate >= c.since and o.orderdate < c.until
        left join history.addresses_periods as s
            on s.addressid = c.shipping_address_id and o.orderdate >= s.since and o.orderdate < s.until
        left join history.addresses_periods as b
            on b.addressid = c.billing_address_id and o.orderdate >= b.since and o.orderdate < b.until
        where not p.gone and not c.gone and trim(p.productname) <> '' and p.price > 0;
        create view history.thirty_day_customer_snapshot as
        select
            c.customerid, c.customername, coalesce(sum(s.total_amount), 0.00) as total_amount,
            count(distinct s.orderid) as number_of_orders
        from customers as c
        left join history.product_sales as s
            on s.customerid = c.customerid and s.orderdate > now() at time zone 'UTC' - interval '30 days'
            and s.orderdate <= now() at time zone 'UTC'
        group by c.customerid, c.customername;
        create view history.enriched_customers as
        select
            c.customerid, c.customername, c.segment, case when s.addressid is not null then '****' end as shipping_address_street, s.city as shipping_address_city,
            b.city as billing_address_city, b.country as billing_address_country
        from customers as c
        left join addresses as s on s.addressid = c.shipping_address_id
        left join addresses as b on b.addressid = c.billing_address_id;
        create view history.products_with_pk as
        select productid, brand, productname, category, description, color, size, price from products;
        """
    )


COLUMNS = {
    "product_sales": "orderdate, orderid, productid, orderitemid, brand, productname, price, customerid, customername,"
    " shipping_address_city, shipping_address_state, billing_address_state, quantity, total_amount",
    "thirty_day_customer_snapshot": "customerid, customername, total_amount, number_of_orders",
    "enriched_customers": "customerid, customername, segment, shipping_address_street, shipping_address_city,"
    " billing_address_city, billing_address_country",
    "products_with_pk": "productid, brand, productname, category, description, color, size, price",
}


def expected(shop: "psycopg.Connection[Any]", product: str) -> list[tuple[Any, ...]]:
    """The rows of a data product, as they must be now."""
    return plain(shop.execute(f"select {COLUMNS[product]} from history.{product}".encode()).fetchall())


def plain(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Sorted, moments without a zone, decimals by their value."""

    def one(value: Any) -> Any:
        if isinstance(value, Decimal):
            return value.normalize()
        return value.replace(tzinfo=None) if hasattr(value, "tzinfo") else value

    return sorted((tuple(map(one, row)) for row in rows), key=repr)
