{# Classes of a number. Each is half-open: a value on a bound belongs to the class that begins there. #}

{# by events of the last 30 days #}
{% macro engagement_level(events_30d) -%}
  case
    when {{ events_30d }} >= 10 then 'High'
    when {{ events_30d }} >= 3 then 'Medium'
    when {{ events_30d }} >= 1 then 'Low'
    else 'None'
  end
{%- endmacro %}

{# by lifetime revenue, shop currency #}
{% macro revenue_band(revenue) -%}
  case
    when {{ revenue }} >= 5000 then '5000+'
    when {{ revenue }} >= 1000 then '1000-4999'
    when {{ revenue }} >= 250 then '250-999'
    when {{ revenue }} >= 50 then '50-249'
    when {{ revenue }} > 0 then '1-49'
    else 'none'
  end
{%- endmacro %}

{# by the answer to the NPS question, with the usual three classes #}
{% macro nps_band(nps_score) -%}
  case
    when {{ nps_score }} is null then 'unknown'
    when {{ nps_score }} >= 9 then 'promoter'
    when {{ nps_score }} >= 7 then 'passive'
    else 'detractor'
  end
{%- endmacro %}

{# by calendar days since the last order; for views only #}
{% macro recency_bucket(last_order_at) -%}
  case
    when {{ last_order_at }} is null then 'never'
    when {{ days_since(last_order_at) }} <= 7 then '0-7'
    when {{ days_since(last_order_at) }} <= 30 then '8-30'
    when {{ days_since(last_order_at) }} <= 90 then '31-90'
    when {{ days_since(last_order_at) }} <= 180 then '91-180'
    else '181+'
  end
{%- endmacro %}
