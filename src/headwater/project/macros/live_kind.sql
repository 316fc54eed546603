{#
  How a model that may be kept fresh is stored: a table that a build replaces and the live engine refreshes by key, or,
  where the warehouse maintains views itself, such a view. (On Confluent, whose tables take new rows only unless they are
  told otherwise, it is told: rows of a model change and go.)
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
  {%- if target.type == 'confluent' -%}
    {%- do config(**{'with': {'changelog.mode': 'retract'}}) -%}
    {%- if execute -%}
      {%- do refuse_numbered_rows(model.raw_code) -%}
    {%- endif -%}
  {%- endif -%}
  {{ return(kinds[target.type]) }}
{%- endmacro %}

{#
  Flink keeps `row_number()` where only the first row is taken. Every other function over ordered rows it takes only for
  rows that arrive in that order and never change.
#}
{% macro refuse_numbered_rows(sql) -%}
  {%- for function, name in modules.re.findall('(\\w+)\\([^()]*(?:case when[^()]*)?\\)\\s+over\\s*\\((?:[^()]|\\([^()]*\\))*\\)\\s*as\\s+(\\w+)', sql) -%}
    {%- if function != 'row_number' or not modules.re.search('where\\s+(?:\\w+\\.)?' ~ name ~ ' = 1\\b', sql) -%}
      {{- cannot_keep(name ~ ', a ' ~ function ~ '() over rows in their order',
          'Flink takes that only of rows that arrive in this order and never change, and orders are corrected and events come late',
          'Leave it to the engine of Headwater, or to another target') -}}
    {%- endif -%}
  {%- endfor -%}
{%- endmacro %}
