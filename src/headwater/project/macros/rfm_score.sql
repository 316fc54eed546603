{# 1 to 5: one more than the number of cut points that lie below the value; equal values score the same #}
{% macro rfm_score(value, cut) -%}
  1
  {%- for number in range(1, 5) %}
    + case when {{ value }} > {{ cut }}_{{ number }} then 1 else 0 end
  {%- endfor %}
{%- endmacro %}
