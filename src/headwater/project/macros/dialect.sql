{#
  What warehouses write differently stands here and nowhere in a model. `default__` is DuckDB; another warehouse adds its
  own `<adapter>__` beside it. Redshift and Materialize take Postgres' where they have none of their own.
#}

{# a stretch of time, like '30 days' #}
{% macro span(width) -%}
  {{ return(adapter.dispatch('span')(width)) }}
{%- endmacro %}

{% macro default__span(width) -%}
  interval '{{ width }}'
{%- endmacro %}

{% macro confluent__span(width) -%}
  {%- set number, unit = width.split(' ') -%}
  interval '{{ number }}' {{ unit[:-1] if unit.endswith('s') else unit }}
{%- endmacro %}

{# calendar days from one moment to a later one, a bigint #}
{% macro days_apart(earlier, later) -%}
  {{ return(adapter.dispatch('days_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__days_apart(earlier, later) -%}
  date_diff('day', cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro postgres__days_apart(earlier, later) -%}
  cast(cast({{ later }} as date) - cast({{ earlier }} as date) as bigint)
{%- endmacro %}

{% macro materialize__days_apart(earlier, later) -%}
  cast(extract(epoch from cast(cast({{ later }} as date) as timestamp) - cast(cast({{ earlier }} as date) as timestamp)) / 86400 as bigint)
{%- endmacro %}

{% macro redshift__days_apart(earlier, later) -%}
  datediff(day, cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro snowflake__days_apart(earlier, later) -%}
  datediff(day, cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro confluent__days_apart(earlier, later) -%}
  cast(timestampdiff(day, cast({{ earlier }} as date), cast({{ later }} as date)) as bigint)
{%- endmacro %}

{# days from one moment to a later one with their fraction, a double #}
{% macro exact_days_apart(earlier, later) -%}
  {{ return(adapter.dispatch('exact_days_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__exact_days_apart(earlier, later) -%}
  ((epoch({{ later }}) - epoch({{ earlier }})) / 86400.0)
{%- endmacro %}

{% macro postgres__exact_days_apart(earlier, later) -%}
  (cast(extract(epoch from {{ later }}) - extract(epoch from {{ earlier }}) as double precision) / 86400.0)
{%- endmacro %}

{% macro redshift__exact_days_apart(earlier, later) -%}
  (cast(datediff(microsecond, {{ earlier }}, {{ later }}) as double precision) / 86400000000.0)
{%- endmacro %}

{% macro snowflake__exact_days_apart(earlier, later) -%}
  (cast(datediff(microsecond, {{ earlier }}, {{ later }}) as double) / 86400000000.0)
{%- endmacro %}

{# Flink counts whole seconds #}
{% macro confluent__exact_days_apart(earlier, later) -%}
  (cast(timestampdiff(second, {{ earlier }}, {{ later }}) as double) / 86400.0)
{%- endmacro %}

{# calendar months from one day to a later one, a bigint #}
{% macro months_apart(earlier, later) -%}
  {{ return(adapter.dispatch('months_apart')(earlier, later)) }}
{%- endmacro %}

{% macro default__months_apart(earlier, later) -%}
  date_diff('month', cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro postgres__months_apart(earlier, later) -%}
  cast(
    (extract(year from {{ later }}) - extract(year from {{ earlier }})) * 12
    + extract(month from {{ later }}) - extract(month from {{ earlier }}) as bigint)
{%- endmacro %}

{% macro redshift__months_apart(earlier, later) -%}
  datediff(month, cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro snowflake__months_apart(earlier, later) -%}
  datediff(month, cast({{ earlier }} as date), cast({{ later }} as date))
{%- endmacro %}

{% macro confluent__months_apart(earlier, later) -%}
  {{- postgres__months_apart(earlier, later) -}}
{%- endmacro %}

{# the first day of the month, a date #}
{% macro month_of(ts) -%}
  {{ return(adapter.dispatch('month_of')(ts)) }}
{%- endmacro %}

{% macro default__month_of(ts) -%}
  cast(date_trunc('month', {{ ts }}) as date)
{%- endmacro %}

{% macro confluent__month_of(ts) -%}
  cast(floor({{ ts }} to month) as date)
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

{% macro snowflake__latest_of(moments) -%}
  greatest_ignore_nulls({{ moments | join(', ') }})
{%- endmacro %}

{% macro confluent__latest_of(moments) -%}
  {{- null_passing_of('greatest', moments) -}}
{%- endmacro %}

{# the earliest of several moments; a null is passed over, all nulls give null #}
{% macro earliest_of(moments) -%}
  {{ return(adapter.dispatch('earliest_of')(moments)) }}
{%- endmacro %}

{% macro default__earliest_of(moments) -%}
  least({{ moments | join(', ') }})
{%- endmacro %}

{% macro snowflake__earliest_of(moments) -%}
  least_ignore_nulls({{ moments | join(', ') }})
{%- endmacro %}

{% macro confluent__earliest_of(moments) -%}
  {{- null_passing_of('least', moments) -}}
{%- endmacro %}

{# greatest or least, where the warehouse answers null as soon as one of them is null #}
{% macro null_passing_of(function, moments) -%}
  {%- set found = namespace(sql=moments[0]) -%}
  {%- for moment in moments[1:] -%}
    {%- set found.sql = 'coalesce(' ~ function ~ '(' ~ found.sql ~ ', ' ~ moment ~ '), ' ~ found.sql ~ ', ' ~ moment ~ ')' -%}
  {%- endfor -%}
  {{ found.sql }}
{%- endmacro %}

{# money, in the shop's currency #}
{% macro money(expression) -%}
  cast({{ expression }} as decimal(18, 4))
{%- endmacro %}

{# a share or a rate, a double; null when the denominator is zero #}
{% macro ratio(numerator, denominator) -%}
  {{ return(adapter.dispatch('ratio')(numerator, denominator)) }}
{%- endmacro %}

{% macro default__ratio(numerator, denominator) -%}
  (cast({{ numerator }} as double) / nullif({{ denominator }}, 0))
{%- endmacro %}

{% macro postgres__ratio(numerator, denominator) -%}
  (cast({{ numerator }} as double precision) / nullif({{ denominator }}, 0))
{%- endmacro %}

{# the value below which `share` of the rows lie; always a value that occurs #}
{% macro cut_point(share, expression) -%}
  {{ return(adapter.dispatch('cut_point')(share, expression)) }}
{%- endmacro %}

{% macro default__cut_point(share, expression) -%}
  percentile_disc({{ share }}) within group (order by {{ expression }})
{%- endmacro %}

{# Materialize has no percentiles #}
{% macro materialize__cut_point(share, expression) -%}
  (array_agg({{ expression }} order by {{ expression }}))[cast(ceil({{ share }} * count({{ expression }})) as integer)]
{%- endmacro %}

{# Redshift has no exact percentile as an aggregate #}
{% macro redshift__cut_point(share, expression) -%}
  approximate percentile_disc({{ share }}) within group (order by {{ expression }})
{%- endmacro %}

{% macro confluent__cut_point(share, expression) -%}
  {{- cannot_keep('the customer below whom ' ~ share ~ ' of all lie by ' ~ expression,
      'Flink has no percentile that answers with a value that occurs',
      'Write the cut points from a warehouse that has one') -}}
{%- endmacro %}

{# a moment as text without blanks, e.g. 20260131T120000.000000; sorts as the moment does #}
{% macro moment_text(ts) -%}
  {{ return(adapter.dispatch('moment_text')(ts)) }}
{%- endmacro %}

{% macro default__moment_text(ts) -%}
  strftime({{ ts }}, '%Y%m%dT%H%M%S.%f')
{%- endmacro %}

{% macro postgres__moment_text(ts) -%}
  to_char({{ ts }}, 'YYYYMMDD"T"HH24MISS.US')
{%- endmacro %}

{% macro snowflake__moment_text(ts) -%}
  to_char({{ ts }}, 'YYYYMMDD"T"HH24MISS.FF6')
{%- endmacro %}

{% macro confluent__moment_text(ts) -%}
  date_format({{ ts }}, 'yyyyMMdd''T''HHmmss.SSSSSS')
{%- endmacro %}
