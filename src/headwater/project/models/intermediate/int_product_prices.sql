{{ config(materialized=live_kind()) }}

with versions as (
    select
        product_id,
        valid_from,
        price,
        coalesce(is_deleted, false) as is_deleted
    from {{ ref('stg_product_prices') }}
    where {{ within_last('valid_from', none) }}
),

products_without_versions as (
    select
        products.product_id,
        cast(null as timestamp) as valid_from,
        products.price,
        false as is_deleted
    from {{ ref('stg_products') }} as products
    left join versions
        on products.product_id = versions.product_id
    where versions.product_id is null
),

all_versions as (
    select product_id, valid_from, price, is_deleted from versions
    union all
    select product_id, valid_from, price, is_deleted from products_without_versions
),

ordered_versions as (
    select
        product_id,
        valid_from,
        price,
        is_deleted,
        row_number() over (partition by product_id order by valid_from) as version_number,
        lead(valid_from) over (partition by product_id order by valid_from) as next_valid_from
    from all_versions
)

select
    product_id,
    version_number,
    valid_from,
    case when version_number = 1 then timestamp '1900-01-01 00:00:00' else valid_from end as holds_from,
    coalesce(next_valid_from, timestamp '9999-12-31 00:00:00') as holds_until,
    price,
    is_deleted
from ordered_versions
