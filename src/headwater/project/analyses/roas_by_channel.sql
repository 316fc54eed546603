-- What did each channel bring for its money?

select
    channel,
    sum(spend) as spend,
    sum(orders) as orders,
    sum(revenue) as revenue,
    round(sum(revenue) / nullif(sum(spend), 0), 2) as roas,
    round(sum(spend) / nullif(sum(orders), 0), 2) as cost_per_order
from {{ ref('mart_marketing__roas') }}
group by channel
order by revenue desc
