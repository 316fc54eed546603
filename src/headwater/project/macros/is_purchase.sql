{# whether an order bought anything: one of its lines did; without lines, its amount is no refund #}
{% macro is_purchase(lines_of_order, purchase_line_count, amount) -%}
  case
    when {{ lines_of_order }} is not null then {{ purchase_line_count }} > 0
    else coalesce({{ amount }}, 0) >= 0
  end
{%- endmacro %}
