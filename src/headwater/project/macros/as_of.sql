{#
  One moment for all models: `headwater.clock`, set by `headwater seed`. A table sees it as a literal; a view reads the
  clock when it is queried. `as_of` may stand in a table only through these macros: no model calls now().
#}

{% macro as_of() -%}
  {%- set clock = source('headwater', 'clock') -%}
  {%- if execute and var('headwater_as_of', none) is none -%}
    {%- set rows = run_query('select as_of from ' ~ clock) -%}
    {%- if rows and rows.rows | length == 1 and rows.rows[0][0] is not none -%}
      timestamp '{{ rows.rows[0][0] }}'
    {%- else -%}
      {{ exceptions.raise_compiler_error('the clock is not set: run `headwater seed` first, it loads the files and sets it') }}
    {%- endif -%}
  {%- else -%}
    timestamp '{{ var('headwater_as_of', '2000-01-01 00:00:00') }}'
  {%- endif -%}
{%- endmacro %}

{# true for moments in the half-open window: ts > as_of - width and ts <= as_of. `width` is like '30 days'. #}
{% macro within_last(ts, width) -%}
  ({{ ts }} > {{ as_of() }} - interval '{{ width }}' and {{ ts }} <= {{ as_of() }})
{%- endmacro %}

{# for views only: the clock when the view is read #}
{% macro clock_now() -%}
  (select as_of from {{ source('headwater', 'clock') }})
{%- endmacro %}

{# for views only: whole days from ts to the clock, null when ts is null #}
{% macro days_since(ts) -%}
  date_diff('day', cast({{ ts }} as date), cast({{ clock_now() }} as date))
{%- endmacro %}
