{#
  The types that the models' .yml files name, where dbt-confluent makes a table of them: Flink's `varchar` holds one
  character and its text is `string`. dbt calls these macros in the place of the adapter's own.
#}
{% macro confluent__column_type(name) -%}
  {{ {'varchar': 'string', 'json': 'string', 'timestamp': 'timestamp(6)'}.get(name, name) }}
{%- endmacro %}

{% macro confluent__get_table_columns_and_constraints() -%}
  (
  {%- for column in model['columns'].values() %}
    {{ adapter.quote(column['name']) }} {{ column_type(column['data_type']) }}{{ ',' if not loop.last }}
  {%- endfor %}
  )
{%- endmacro %}

{% macro confluent__get_empty_schema_sql(columns) -%}
  {%- set typed = {} -%}
  {%- for name, column in columns.items() -%}
    {%- do typed.update({name: dict(column, data_type=column_type(column['data_type']))}) -%}
  {%- endfor -%}
  {{ return(default__get_empty_schema_sql(typed)) }}
{%- endmacro %}
