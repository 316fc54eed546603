{#
  The moment of `as_of.sql` where Headwater's engine does not keep the clock.

    postgres, redshift   the row of headwater.clock, read again by each refresh; `dbt run-operation set_clock` moves it
    snowflake            the time at which the dynamic table is refreshed; the row of headwater.clock with the
                         var `headwater_clock: table`
    materialize          mz_now(), as a filter: the view lets a row go when its window has passed
    confluent            there is none: a row counts when it arrives, and nothing makes it go again
#}

{% macro postgres__clock_moment() -%}
  {%- if execute and flags.INTROSPECT -%}
    {%- set rows = run_query('select as_of from ' ~ source('headwater', 'clock')).rows -%}
    {%- if rows | length != 1 or rows[0][0] is none -%}
      {{ exceptions.raise_compiler_error('the clock is not set: `dbt run-operation set_clock` sets it to now, with --args \'{moment: "2026-01-31 00:00:00"}\' to another moment (UTC)') }}
    {%- endif -%}
  {%- endif -%}
  (select clock.as_of from {{ source('headwater', 'clock') }} as clock)
{%- endmacro %}

{% macro snowflake__clock_moment() -%}
  {{- snowflake__clock_now() -}}
{%- endmacro %}

{% macro snowflake__clock_now() -%}
  {%- if var('headwater_clock', 'engine') == 'table' -%}
    {{- default__clock_now() -}}
  {%- else -%}
    cast(convert_timezone('UTC', current_timestamp()) as timestamp_ntz)
  {%- endif -%}
{%- endmacro %}

{% macro materialize__clock_now() -%}
  (now() at time zone 'UTC')
{%- endmacro %}

{# mz_now() may only be compared, and only in WHERE; the width moves to the other side #}
{% macro materialize__within_last(ts, width) -%}
  {%- if var('headwater_as_of', none) is not none -%}
    {{- default__within_last(ts, width) -}}
  {%- elif width is none -%}
    (mz_now() >= {{ ts }})
  {%- else -%}
    (mz_now() < {{ ts }} + {{ span(width) }} and mz_now() >= {{ ts }})
  {%- endif -%}
{%- endmacro %}

{% macro materialize__is_within_last(ts, width) -%}
  exists (select 1 where {{ within_last(ts, width) }})
{%- endmacro %}

{% macro confluent__within_last(ts, width) -%}
  {%- if width is not none -%}
    {{- cannot_keep('the last ' ~ width ~ ' of ' ~ ts,
        'Flink computes a row again when a row arrives, and none arrives when a window shrinks, so the totals of quiet customers would stay too high for ever',
        'Leave it to the engine of Headwater, to Materialize or to Snowflake (leads: `mql: {window: none}` in headwater.yml counts events for ever)') -}}
  {%- endif -%}
  ({{ ts }} is not null)
{%- endmacro %}

{% macro confluent__clock_now() -%}
  {{- cannot_keep('the present moment',
      'an age grows while nothing arrives, and Flink computes a row again only when one does',
      'Compute the age where the table is read') -}}
{%- endmacro %}

{# Fails the compilation of the model that asks for what its target would not keep right. #}
{% macro cannot_keep(what, because, instead) -%}
  {%- if execute -%}
    {{ exceptions.raise_compiler_error(model.name ~ ' cannot be kept right on ' ~ target.type ~ ': it needs ' ~ what ~ '; ' ~ because ~ '. ' ~ instead ~ ', and build here with `--exclude ' ~ model.name ~ '+`.') }}
  {%- endif -%}
{%- endmacro %}
