{{ config(materialized=live_kind()) }}

with newest_versions as (
    select
        product_id,
        valid_from,
        price,
        is_deleted
    from {{ ref('int_product_prices') }}
    where holds_until = timestamp '9999-12-31 00:00:00'
)

select
    products.product_id,
    products.brand,
    products.product_name,
    products.category,
    coalesce(products.price, newest_versions.price) as price,
    products.cost,
    {{ latest_of(['products.updated_at', 'newest_versions.valid_from']) }} as updated_at
from {{ ref('stg_products') }} as products
inner join newest_versions
    on products.product_id = newest_versions.product_id
where not newest_versions.is_deleted
