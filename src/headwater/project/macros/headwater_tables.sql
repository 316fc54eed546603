{#
  The tables of the source `headwater` on a warehouse that Headwater itself does not write to: the clock, and, empty, what
  the stages would log there. `dbt run-operation headwater_tables` makes what is missing and sets a clock that is not
  set; running it again changes nothing.
#}
{% macro headwater_tables() -%}
  {%- if target.type in ('duckdb', 'confluent') -%}
    {{ exceptions.raise_compiler_error('headwater_tables is not for ' ~ target.type ~ ': ' ~ ('`headwater` makes them itself' if target.type == 'duckdb' else 'a table is a topic there; make those that a model reads, with the columns of models/sources.yml')) }}
  {%- endif -%}
  {%- for node in graph.sources.values() if node.source_name in ('headwater', 'collected') -%}
    {%- set place = api.Relation.create(database=node.database, schema=node.schema, identifier=node.identifier) -%}
    {%- do adapter.create_schema(place) -%}
    {%- set columns = [] -%}
    {%- for column in node.columns.values() -%}
      {%- do columns.append(column.name ~ ' ' ~ column_type(column.data_type)) -%}
    {%- endfor -%}
    {%- do run_query('create table if not exists ' ~ place ~ ' (' ~ columns | join(', ') ~ ')') -%}
    {%- do log(place ~ ': ' ~ columns | length ~ ' columns') -%}
  {%- endfor -%}
  {%- set clock = source('headwater', 'clock') -%}
  {%- if run_query('select 1 from ' ~ clock).rows | length == 0 -%}
    {%- do set_clock() -%}
  {%- endif -%}
{%- endmacro %}

{# moves the clock to a moment in UTC, like "2026-01-31 00:00:00"; left out, to now. What stands in materialized views follows at their next refresh. #}
{% macro set_clock(moment=none) -%}
  {%- set now = modules.datetime.datetime.now(modules.pytz.utc).strftime('%Y-%m-%d %H:%M:%S.%f') -%}
  {%- set clock = source('headwater', 'clock') -%}
  {%- call statement('set_clock', auto_begin=true) -%}
    delete from {{ clock }};
    insert into {{ clock }} (as_of, set_at) values (timestamp '{{ moment or now }}', timestamp '{{ now }}');
    commit
  {%- endcall -%}
{%- endmacro %}

{# a type of models/sources.yml, as this warehouse writes it #}
{% macro column_type(name) -%}
  {{ return(adapter.dispatch('column_type')(name)) }}
{%- endmacro %}

{% macro default__column_type(name) -%}
  {{ name }}
{%- endmacro %}

{% macro postgres__column_type(name) -%}
  {{ {'double': 'double precision', 'json': 'jsonb'}.get(name, name) }}
{%- endmacro %}

{% macro redshift__column_type(name) -%}
  {{ {'double': 'double precision', 'json': 'super'}.get(name, name) }}
{%- endmacro %}

{% macro snowflake__column_type(name) -%}
  {{ {'json': 'variant'}.get(name, name) }}
{%- endmacro %}
