{{ config(materialized=live_kind(), tags=['hightouch']) }}

select
    leads.person_id,
    leads.customer_id,
    leads.user_id,
    customers.email,
    customers.phone,
    customers.first_name,
    customers.last_name,
    customers.company,
    customers.country,
    leads.mql_score,
    leads.scored_event_names,
    leads.event_count,
    leads.first_event_at,
    leads.last_event_at,
    {{ latest_of(['leads.updated_at', 'customers.updated_at']) }} as updated_at
from {{ ref('user_mql_score') }} as leads
left join {{ ref('dim_customer') }} as customers
    on leads.customer_id = customers.customer_id
where leads.mql_score >= {{ setting('mql_threshold') }}
