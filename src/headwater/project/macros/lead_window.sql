{# how long an event counts for a lead, like '30 days'; none: for ever #}
{% macro lead_window() -%}
  {%- set days = setting('mql_window_days') -%}
  {{ return(none if days is none else days ~ ' days') }}
{%- endmacro %}
