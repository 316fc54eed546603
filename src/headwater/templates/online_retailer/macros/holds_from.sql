{#
  From when a version holds. The first one of a key holds from 1900 on when `data_products.before_first` is first_version: a
  snapshot knows what a row is, not since when; and who is made in the same transaction as his first order has a commit
  that is later than that order's date.
#}
{% macro holds_from(version_number, valid_from) -%}
  {%- if setting('before_first') == 'first_version' -%}
    case when {{ version_number }} = 1 then timestamp '1900-01-01 00:00:00' else {{ valid_from }} end
  {%- else -%}
    {{ valid_from }}
  {%- endif -%}
{%- endmacro %}
