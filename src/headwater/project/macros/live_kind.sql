{#
  How a model that may be kept fresh is stored: a table that a build replaces and the live engine refreshes by key, or,
  where the warehouse maintains views itself, such a view.
#}
{% macro live_kind() -%}
  {%- set kinds = {
    'postgres': 'materialized_view',
    'redshift': 'materialized_view',
    'materialize': 'materialized_view',
    'snowflake': 'dynamic_table',
    'confluent': 'streaming_table',
  } -%}
  {{ return(kinds.get(target.type, 'table')) }}
{%- endmacro %}
