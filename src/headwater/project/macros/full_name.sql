{# first and last name with one blank between; the company where there is no name; null where there is neither #}
{% macro full_name(first_name, last_name, company) -%}
  coalesce(
    nullif(trim(coalesce({{ first_name }}, '') || ' ' || coalesce({{ last_name }}, '')), ''),
    {{ company }}
  )
{%- endmacro %}
