{#
  What warehouses write differently stands here and nowhere in a model. `default__` is DuckDB; another warehouse adds its
  own `<adapter>__` beside it.
#}

{# calendar days from one moment to a later one, a bigint #}
{% macro days_apart(earlier, later) -%}
  {{ return(adapter.dispatch('days_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__days_apart(earlier, later) -%}
  date_diff('day', cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{# days from one moment to a later one with their fraction, a double #}
{% macro exact_days_apart(earlier, later) -%}
  {{ return(adapter.dispatch('exact_days_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__exact_days_apart(earlier, later) -%}
  ((epoch({{ later }}) - epoch({{ earlier }})) / 86400.0)
{%- endmacro %}

{# calendar months from one day to a later one, a bigint #}
{% macro months_apart(earlier, later) -%}
  {{ return(adapter.dispatch('months_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__months_apart(earlier, later) -%}
  date_diff('month', cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{# the first day of the month, a date #}
{% macro month_of(ts) -%}
  cast(date_trunc('month', {{ ts }}) as date)
{%- endmacro %}

{# the day, a date #}
{% macro day_of(ts) -%}
  cast({{ ts }} as date)
{%- endmacro %}

{# the latest of several moments; a null is passed over, all nulls give null #}
{% macro latest_of(moments) -%}
  {{ return(adapter.dispatch('latest_of')(moments)) }}
{%- endmacro %}

{% macro default__latest_of(moments) -%}
  greatest({{ moments | join(', ') }})
{%- endmacro %}

{# the earliest of several moments; a null is passed over, all nulls give null #}
{% macro earliest_of(moments) -%}
  {{ return(adapter.dispatch('earliest_of')(moments)) }}
{%- endmacro %}

{% macro default__earliest_of(moments) -%}
  least({{ moments | join(', ') }})
{%- endmacro %}

{# money, in the shop's currency #}
{% macro money(expression) -%}
  cast({{ expression }} as decimal(18, 4))
{%- endmacro %}

{# a share or a rate, a double; null when the denominator is zero #}
{% macro ratio(numerator, denominator) -%}
  (cast({{ numerator }} as double) / nullif({{ denominator }}, 0))
{%- endmacro %}

{# the value below which `share` of the rows lie; always a value that occurs #}
{% macro cut_point(share, expression) -%}
  percentile_disc({{ share }}) within group (order by {{ expression }})
{%- endmacro %}

{# a moment as text without blanks, e.g. 20260131T120000.000000; sorts as the moment does #}
{% macro moment_text(ts) -%}
  {{ return(adapter.dispatch('moment_text')(ts)) }}
{%- endmacro %}

{% macro default__moment_text(ts) -%}
  strftime({{ ts }}, '%Y%m%dT%H%M%S.%f')
{%- endmacro %}
