{#
  Where the published ML segments are: the dbt seed `customer_segments`, or, once `segment assign --publish` has left rows
  there because the shop has more customers than `segments.ml.seed_limit`, the table `headwater.customer_segments` of the
  same columns. Chosen when the view is read, so that a publication needs no build.
#}
{% macro customer_segments() -%}
  (
    select customer_id, segment_id, segment_name
    from {{ source('headwater', 'large_shop_segments') }}
    union all
    select customer_id, segment_id, segment_name
    from {{ ref('customer_segments') }}
    where not exists (select 1 from {{ source('headwater', 'large_shop_segments') }})
  )
{%- endmacro %}
