{# Written by headwater from headwater.yml; change it there. #}
{% macro setting(name) %}
  {%- set settings = {
    'currency': 'USD',
    'mql_threshold': 20,
    'mql_window_days': 30,
    'rule_order': ['churn_rescue_nps', 'high_value_lapse_risk', 'new_users_first_week_intent'],
    'churn_rescue_nps_below': 7,
    'high_value_revenue_90d': 150,
    'high_value_quiet_days': 30,
    'new_users_events_30d': 2,
    'ml_seed_limit': 100000,
    'clv_horizon_days': 90,
    'discount_cap': 10,
    'suppress_hours': 48,
    'holdout_share': 0.1,
    'before_first': 'first_version',
  } -%}
  {%- do settings.update(var('headwater_settings', {})) -%}
  {%- if name not in settings -%}
    {{ exceptions.raise_compiler_error('there is no setting ' ~ name ~ '; there are: ' ~ settings.keys() | join(', ')) }}
  {%- endif -%}
  {{ return(settings[name]) }}
{% endmacro %}
