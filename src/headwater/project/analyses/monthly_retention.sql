-- How much of each cohort buys again after one, three, six and twelve months? (A month that has not come yet is null.)

select
    cohort_month,
    max(cohort_customers) as customers,
    round(100 * max(case when months_since_first = 1 then retention_rate end), 1) as after_1_month_pct,
    round(100 * max(case when months_since_first = 3 then retention_rate end), 1) as after_3_months_pct,
    round(100 * max(case when months_since_first = 6 then retention_rate end), 1) as after_6_months_pct,
    round(100 * max(case when months_since_first = 12 then retention_rate end), 1) as after_12_months_pct
from {{ ref('mart_marketing__cohort_retention') }}
group by cohort_month
order by cohort_month
