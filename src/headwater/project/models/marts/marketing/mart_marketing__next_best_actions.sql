{{ config(materialized='view') }}

with decisions as (
    select
        decision_id,
        customer_id,
        segment,
        goal,
        action,
        channel,
        template,
        discount_pct,
        decided_at,
        row_number() over (partition by customer_id order by decided_at desc, decision_id desc) as newest_first
    from {{ source('headwater', 'decision_log') }}
    where coalesce(run_id, '') <> 'http' -- asked for one by one: whoever asked carries it out
)

select
    decisions.decision_id,
    decisions.customer_id,
    customers.email,
    customers.phone,
    customers.first_name,
    customers.last_name,
    decisions.segment,
    decisions.goal,
    decisions.action,
    decisions.channel,
    decisions.template,
    decisions.discount_pct,
    decisions.decided_at,
    {{ message_text('messages.subject') }} as subject,
    {{ message_text('messages.body') }} as body,
    messages.source as text_source
from decisions
left join {{ ref('dim_customer') }} as customers
    on decisions.customer_id = customers.customer_id
left join {{ source('headwater', 'decision_messages') }} as messages
    on decisions.decision_id = messages.decision_id
where
    decisions.newest_first = 1
    and decisions.action <> 'none'
