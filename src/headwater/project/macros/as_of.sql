{#
  One moment for all models: `headwater.clock`, set by `headwater seed`. A table sees it as a literal; a view reads the
  clock when it is queried. In a table the moment may stand only inside `within_last`, its day as `as_of_day`; ages stand in
  views. No model calls now(). `--vars 'headwater_as_of: 2026-01-31 00:00:00'` puts another moment in its place (unit tests do).
  `default__` is DuckDB; other warehouses have theirs in `clock_elsewhere.sql`.
#}

{% macro as_of() -%}
  {%- set given = var('headwater_as_of', none) -%}
  {%- if given is not none -%}
    timestamp '{{ given }}'
  {%- else -%}
    {{- adapter.dispatch('clock_moment')() -}}
  {%- endif -%}
{%- endmacro %}

{% macro default__clock_moment() -%}
  {%- set clock = source('headwater', 'clock') -%}
  {%- if execute -%}
    {%- set rows = run_query('select as_of from ' ~ clock) -%}
    {%- if rows and rows.rows | length == 1 and rows.rows[0][0] is not none -%}
      timestamp '{{ rows.rows[0][0] }}'
    {%- else -%}
      {{ exceptions.raise_compiler_error('the clock is not set: run `headwater seed` first, it loads the files and sets it') }}
    {%- endif -%}
  {%- else -%}
    timestamp '2000-01-01 00:00:00'
  {%- endif -%}
{%- endmacro %}

{#
  True for moments in the half-open window ts > as_of - width and ts <= as_of; never for a null.
  `width` is like '30 days'; none leaves the window open at its beginning: everything until the clock, nothing after it.
  Stands in WHERE, alone or beside others with AND; within an expression write `is_within_last`, which means the same.
#}
{% macro within_last(ts, width) -%}
  {{- adapter.dispatch('within_last')(ts, width) -}}
{%- endmacro %}

{% macro default__within_last(ts, width) -%}
  {%- if width is none -%}
    ({{ ts }} <= {{ as_of() }})
  {%- else -%}
    ({{ ts }} > {{ as_of() }} - {{ span(width) }} and {{ ts }} <= {{ as_of() }})
  {%- endif -%}
{%- endmacro %}

{% macro is_within_last(ts, width) -%}
  {{- adapter.dispatch('is_within_last')(ts, width) -}}
{%- endmacro %}

{% macro default__is_within_last(ts, width) -%}
  {{- within_last(ts, width) -}}
{%- endmacro %}

{#
  For tables: the calendar day (UTC) of the clock. What is computed of it is computed anew for everybody at midnight, and
  only then; take it for what may be a day old, such as a score.
#}
{% macro as_of_day() -%}
  cast({{ as_of() }} as date)
{%- endmacro %}

{# for views only: the clock when the view is read #}
{% macro clock_now() -%}
  {%- set given = var('headwater_as_of', none) -%}
  {%- if given is not none -%}
    timestamp '{{ given }}'
  {%- else -%}
    {{- adapter.dispatch('clock_now')() -}}
  {%- endif -%}
{%- endmacro %}

{% macro default__clock_now() -%}
  (select clock.as_of from {{ source('headwater', 'clock') }} as clock)
{%- endmacro %}

{# for views only: calendar days from ts to the clock, null when ts is null #}
{% macro days_since(ts) -%}
  {{ days_apart(ts, clock_now()) }}
{%- endmacro %}

{# for views only: the class of a customer by calendar days since the last order #}
{% macro activity_status(last_order_at) -%}
  case
    when {{ last_order_at }} is null then 'No orders'
    when {{ days_since(last_order_at) }} <= 30 then 'Active'
    when {{ days_since(last_order_at) }} <= 90 then 'Recent'
    when {{ days_since(last_order_at) }} <= 180 then 'Dormant'
    else 'Inactive'
  end
{%- endmacro %}
