-- What has a customer of each segment brought, and what is he expected to bring?

select
    segment_name,
    count(*) as customers,
    round(min(customer_lifetime_value), 2) as least_clv,
    round(median(customer_lifetime_value), 2) as median_clv,
    round(avg(customer_lifetime_value), 2) as mean_clv,
    round(max(customer_lifetime_value), 2) as most_clv,
    round(sum(predicted_clv), 2) as total_predicted_clv
from {{ ref('fct_customer_segments') }}
group by segment_name
order by mean_clv desc
