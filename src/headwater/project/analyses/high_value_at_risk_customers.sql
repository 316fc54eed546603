-- Whom should a retention campaign reach first? Customers at risk who have brought more than 1,000, largest first.

select
    segments.customer_id,
    customers.email,
    customers.email_opt_in,
    segments.total_revenue,
    segments.predicted_clv,
    segments.days_since_last_purchase,
    segments.stability
from {{ ref('fct_customer_segments') }} as segments
left join {{ ref('dim_customer') }} as customers
    on segments.customer_id = customers.customer_id
where
    segments.segment_name = 'At-Risk (Lapsing)'
    and segments.total_revenue > 1000
order by segments.total_revenue desc
