{#
  How a model that may be kept fresh is stored: a table that a build replaces and the live engine refreshes by key, or,
  where the warehouse maintains views itself, such a view.
#}
{% macro live_kind() -%}
  {%- set kinds = {
    'duckdb': 'table',
    'postgres': 'materialized_view',
    'redshift': 'materialized_view',
    'materialize': 'materialized_view',
    'snowflake': 'dynamic_table',
    'confluent': 'streaming_table',
  } -%}
  {%- if target.type not in kinds -%}
    {{ exceptions.raise_compiler_error('the models are not written for ' ~ target.type ~ '; they are for ' ~ kinds.keys() | join(', ') ~ '. Another warehouse needs its own <adapter>__ macros beside those in macros/dialect.sql and macros/clock_elsewhere.sql, and a line in macros/live_kind.sql') }}
  {%- endif -%}
  {{ return(kinds[target.type]) }}
{%- endmacro %}
