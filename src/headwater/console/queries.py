"""Every read that the report makes, one function each; whoever wants a number of the report as SQL finds it here.

A function answers a list of dictionaries (column → value), or one dictionary where it says so. A relation that is absent
or empty is no error: the answer is an empty list (or a dictionary of nulls and zeros), and the report says why. Shares are
DOUBLE in 0 … 1, money is DECIMAL in the shop's currency, times are UTC. The order of rows is fixed, so the same tables
give the same page. Nothing is written.
"""

import json
import re
from typing import Any

from headwater.errors import StageFailed
from headwater.warehouse.connection import Warehouse

Row = dict[str, Any]

FACTS = "main.fct_orders"
SEGMENTS = "main.fct_customer_segments"
CUSTOMER_360 = "main.mart_marketing__customer_360"
SCORES = "main.mart_marketing__segment_scores"
NO_SEGMENT = "none"
RETURN = (
    """(sum(revenue) filter (roas is not null)::double / nullif(sum(spend) filter (roas is not null), 0)::double)"""
)
LATEST_DECISIONS = """(
    select * from headwater.decision_log
    qualify row_number() over (partition by customer_id order by decided_at desc, decision_id desc) = 1
)"""


def _read(warehouse: Warehouse, sql: str) -> list[Row]:
    """The rows of `sql`, or none when a relation that it names (always in full: schema.relation) is absent.

    Raises StageFailed when the relations are there but cannot be read, as after an upgrade without a build.
    """
    needed = sorted(set(re.findall(r"\b((?:main|headwater)\.\w+)", sql)))
    if not all(warehouse.exists(relation) for relation in needed):
        return []
    try:
        return warehouse.rows(sql)
    except Exception as error:
        raise StageFailed(
            f"the report cannot read {' and '.join(needed)} ({str(error).splitlines()[0]}). Build the models again: `headwater build`"
        ) from error


def clock(warehouse: Warehouse) -> Row:
    """One dictionary: as_of (the moment that every number is true at) and set_at; nulls before the first `seed`."""
    rows = _read(warehouse, "select as_of, set_at from headwater.clock order by set_at desc limit 1")
    return rows[0] if rows else {"as_of": None, "set_at": None}


def headline(warehouse: Warehouse) -> Row:
    """One dictionary of totals.

    customers: rows of dim_customer. buyers: customers with at least one purchase; active: those with one in the last 30
    days before as_of. orders: purchases (pure returns are none). revenue: net, all of fct_orders; the rows without a
    customer (unattributed) are in it and are also counted apart. newest_*: null when there is none. revenue is null when
    there are no orders.
    """
    found: Row = {"customers": None, "orders": None, "revenue": None, "newest_order_at": None, "newest_event_at": None}
    found |= {"buyers": None, "active": None, "unattributed_orders": 0, "unattributed_revenue": None}
    for sql in (
        "select count(*) as customers from main.dim_customer",
        f"""
        select count(*) filter (is_purchase) as orders, sum(revenue) as revenue, max(ordered_at) as newest_order_at,
               count(distinct customer_id) filter (is_purchase) as buyers,
               count(*) filter (customer_id is null) as unattributed_orders,
               sum(revenue) filter (customer_id is null) as unattributed_revenue,
               count(distinct customer_id) filter (is_purchase and ordered_at > clock.as_of - interval 30 days) as active
        from {FACTS} left join (select max(as_of) as as_of from headwater.clock) as clock on true
        """,
        "select max(occurred_at) as newest_event_at from main.fct_events",
        "select max(loaded_at) as newest_file_at, count(*) as files from headwater.file_loads",
    ):
        for row in _read(warehouse, sql):
            found |= row
    return found


def revenue_by_month(warehouse: Warehouse) -> list[Row]:
    """One row per calendar month from the first to the last order, months without orders as zeros; at most the last 36.

    month, orders, revenue, is_whole (false for the month that as_of has not passed).
    """
    return _read(
        warehouse,
        f"""
        with months as (
            select date_trunc('month', ordered_at)::date as month, count(*) filter (is_purchase) as orders, sum(revenue) as revenue
            from {FACTS} group by all
        ),
        spine as (
            select unnest(generate_series(min(month), max(month), interval 1 month))::date as month from months
        )
        select spine.month, coalesce(orders, 0) as orders, coalesce(revenue, 0) as revenue,
               coalesce(spine.month + interval 1 month - interval 1 day <= (select max(as_of) from headwater.clock), true) as is_whole
        from spine left join months using (month)
        order by spine.month desc limit 36
        """,
    )[::-1]


def stages(warehouse: Warehouse) -> list[Row]:
    """What each stage wrote in its newest run, unless a later stage made up for it, one row each (a stage that works sync by sync writes one per sync): run_id,
    stage, status, started_at, ended_at, as_of, row_count, message, warnings (sentences). Ordered by start."""
    return _read(
        warehouse,
        """
        select run_id, stage, status, started_at, ended_at, as_of, row_count, message,
               coalesce(cast(warnings as varchar[]), []) as warnings
        from headwater.stage_status
        order by started_at, ended_at nulls last, stage
        """,
    )


def files(warehouse: Warehouse) -> list[Row]:
    """One row per loaded file: file, raw_table, read_rows, loaded_rows, rejected_rows, loaded_at."""
    return _read(
        warehouse,
        """select file, raw_table, read_rows, loaded_rows, rejected_rows, loaded_at
           from headwater.file_loads order by raw_table, file, loaded_at""",
    )


def segment_model(warehouse: Warehouse) -> Row | None:
    """The model of the ML segments that stand now (its champion, else its newest version), or None when there are none.

    model, version, verdict (promoted | doubtful | refused), verdict_reason, jaccard (stability by segment name, 0 … 1), and
    smallest_jaccard, that of the least stable one (None when the registry does not keep it).
    """
    rows = _read(
        warehouse,
        """
        select model, version, verdict, verdict_reason, stability from headwater.ml_model_registry
        where model in (select model from headwater.segment_assignments where valid_to is null)
        order by coalesce(alias = 'champion', false) desc, version desc, model limit 1
        """,
    )
    if not rows:
        return None
    stability = json.loads(rows[0].pop("stability") or "{}")
    return rows[0] | {"jaccard": stability.get("jaccard", {}), "smallest_jaccard": stability.get("smallest")}


def ml_segments(warehouse: Warehouse) -> list[Row]:
    """One row per ML segment, customers without one under 'Unsegmented' (last): segment_id, segment_name, customers,
    customer_share, revenue, revenue_share, avg_order_value, median_days_quiet (null without orders), stability.

    Revenue is the customers' net revenue: orders without a customer are not in it.
    """
    return _read(
        warehouse,
        f"""
        with found as (
            select segment_id, segment_name, count(*) as customers, coalesce(sum(total_revenue), 0) as revenue,
                   coalesce(sum(total_orders), 0) as orders, median(days_since_last_purchase) as median_days_quiet,
                   max(stability) as stability
            from {SEGMENTS} group by all
        )
        select segment_id, segment_name, customers, customers / sum(customers) over () as customer_share,
               revenue, revenue::double / nullif(sum(revenue) over (), 0)::double as revenue_share,
               orders, case when orders > 0 then cast(revenue / orders as decimal(18, 2)) end as avg_order_value,
               median_days_quiet, stability
        from found order by segment_id is null, revenue desc, segment_name
        """,
    )


def rule_segments(warehouse: Warehouse) -> list[Row]:
    """One row per rule segment, customers in none under 'none' (last): segment, customers, customer_share, revenue (lifetime)."""
    return _read(
        warehouse,
        f"""
        with found as (
            select coalesce(scores.segment, '{NO_SEGMENT}') as name, count(*) as customers, coalesce(sum(lifetime_revenue), 0) as revenue
            from {SCORES} as scores left join {CUSTOMER_360} using (customer_id) group by 1
        )
        select name as segment, customers, customers / sum(customers) over () as customer_share, revenue
        from found order by name = '{NO_SEGMENT}', customers desc, name
        """,
    )


def ml_transitions(warehouse: Warehouse) -> list[Row]:
    """What the last day on which memberships changed did: source, target, customers, moved_at (the last moment of it).

    One row per pair of segments, customers who stayed included; source 'new' for customers who were not assigned before,
    target 'gone' for customers who are no longer. Empty before the second such day.
    """
    return _read(
        warehouse,
        """
        with newest as (
            select max(greatest(valid_from, coalesce(valid_to, valid_from))) as moment, date_trunc('day', moment) as day
            from headwater.segment_assignments having min(valid_from) < day
        ),
        before as (
            select customer_id, segment_name from headwater.segment_assignments, newest
            where valid_from < day and (valid_to is null or valid_to >= day)
            qualify row_number() over (partition by customer_id order by valid_from desc) = 1
        ),
        after as (
            select customer_id, segment_name from headwater.segment_assignments, newest
            where valid_from <= moment and (valid_to is null or valid_to > moment)
            qualify row_number() over (partition by customer_id order by valid_from desc) = 1
        )
        select coalesce(before.segment_name, 'new') as source, coalesce(after.segment_name, 'gone') as target,
               count(*) as customers, (select moment from newest) as moved_at
        from before full join after using (customer_id)
        group by all order by source, target
        """,
    )


def rule_transitions(warehouse: Warehouse) -> list[Row]:
    """Rule segments of customers at their last two decisions (of different runs): source, target, customers.

    'none' for no segment. Empty until somebody was decided on twice.
    """
    return _read(
        warehouse,
        f"""
        with newest_of_run as (
            select customer_id, run_id, segment, decided_at, decision_id
            from headwater.decision_log
            qualify row_number() over (partition by customer_id, run_id order by decided_at desc, decision_id desc) = 1
        ),
        seen as (
            select customer_id, coalesce(segment, '{NO_SEGMENT}') as segment,
                   row_number() over (partition by customer_id order by decided_at desc, decision_id desc) as age
            from newest_of_run
        )
        select before.segment as source, after.segment as target, count(*) as customers
        from seen as before join seen as after on before.customer_id = after.customer_id and before.age = 2 and after.age = 1
        group by all order by source, target
        """,
    )


def monitor(warehouse: Warehouse) -> list[Row]:
    """The newest monitoring: one row per measure and subject: measure, subject, value, threshold, alert, measured_at."""
    return _read(
        warehouse,
        """
        select measure, subject, value, threshold, coalesce(alert, false) as alert, measured_at
        from headwater.segment_monitor
        where run_id = (select run_id from headwater.segment_monitor order by measured_at desc, run_id desc limit 1)
        order by measure, subject
        """,
    )


def rfm(warehouse: Warehouse) -> list[Row]:
    """One row per recency and frequency score (1 … 5 each; 5 = most recent, most often) that has customers:
    recency, frequency, customers, revenue, revenue_share. Customers without orders have no scores and are not in it."""
    return _read(
        warehouse,
        f"""
        select rfm_recency_score as recency, rfm_frequency_score as frequency, count(*) as customers,
               coalesce(sum(lifetime_revenue), 0) as revenue,
               sum(lifetime_revenue)::double / nullif(sum(sum(lifetime_revenue)) over (), 0)::double as revenue_share
        from {CUSTOMER_360} where rfm_recency_score is not null and rfm_frequency_score is not null
        group by all order by recency desc, frequency
        """,
    )


def cohorts(warehouse: Warehouse) -> list[Row]:
    """One row per month of first order and month since: cohort_month, months_since_first (≥ 1), cohort_customers,
    active_customers, retention_rate, revenue. The last 15 cohorts, up to 12 months on; month 0, always 1, is left out."""
    return _read(
        warehouse,
        """
        select cohort_month, months_since_first, cohort_customers, active_customers, retention_rate, revenue
        from main.mart_marketing__cohort_retention
        where months_since_first between 0 and 12
          and cohort_month in (select distinct cohort_month from main.mart_marketing__cohort_retention order by 1 desc limit 15)
        order by cohort_month, months_since_first
        """,
    )


def clv_summary(warehouse: Warehouse) -> Row | None:
    """One dictionary over all scored customers, or None: customers, total, mean, median, p90, horizon_days, model,
    version, as_of, top_decile_share (what the 10 % of customers with the highest CLV are of the total)."""
    rows = _read(
        warehouse,
        """
        with ranked as (
            select *, row_number() over (order by clv desc, customer_id) as place, count(*) over () as n
            from headwater.clv_scores where clv is not null
        )
        select count(*) as customers, sum(clv) as total, cast(avg(clv) as decimal(18, 4)) as mean,
               cast(median(clv) as decimal(18, 4)) as median, cast(quantile_cont(clv, 0.9) as decimal(18, 4)) as p90,
               max(horizon_days) as horizon_days, max(model) as model, max(version) as version, max(as_of) as as_of,
               sum(clv) filter (place <= ceil(n / 10.0))::double / nullif(sum(clv), 0)::double as top_decile_share
        from ranked
        """,
    )
    return rows[0] if rows and rows[0]["customers"] else None


def clv_warnings(warehouse: Warehouse) -> list[str]:
    """What the model of expected values warned of when it was trained, one sentence each."""
    rows = _read(
        warehouse,
        """
        select metrics from headwater.ml_model_registry
        where (model, version) in (select distinct (model, version) from headwater.clv_scores) order by version desc limit 1
        """,
    )
    return [str(text) for row in rows for text in json.loads(row["metrics"] or "{}").get("warnings", [])]


def clv_histogram(warehouse: Warehouse) -> list[Row]:
    """Scored customers by CLV, one row per column of a histogram: bin (0 …), low, high, customers; empty bins with 0.

    Bins are equally wide, a round amount (1, 2, 2.5 or 5 × a power of ten), so that 12 to 25 of them reach the 98th
    percentile; one more holds all above it and has a null `high`. Negative values count in the first. Empty when the
    98th percentile is 0.
    """
    return _read(
        warehouse,
        """
        with scored as (select greatest(clv, 0)::double as clv from headwater.clv_scores where clv is not null),
        ends as (select quantile_cont(clv, 0.98) as top from scored),
        rough as (select top, top / 25 as wide, power(10, floor(log10(top / 25))) as unit from ends where top > 0),
        width as (
            select top, unit * case when wide <= unit then 1 when wide <= 2 * unit then 2 when wide <= 2.5 * unit then 2.5
                                    when wide <= 5 * unit then 5 else 10 end as wide
            from rough
        ),
        scale as (select wide, ceil(top / wide)::bigint as last_bin from width),
        counted as (
            select least(floor(clv / wide)::bigint, last_bin) as bin, count(*) as customers from scored, scale group by all
        )
        select bin, (bin * wide)::decimal(18, 4) as low, case when bin < last_bin then ((bin + 1) * wide)::decimal(18, 4) end as high,
               coalesce(customers, 0) as customers
        from (select wide, last_bin, unnest(range(last_bin + 1)) as bin from scale) left join counted using (bin)
        order by bin
        """,
    )


def clv_by_segment(warehouse: Warehouse) -> list[Row]:
    """One row per ML segment with scored customers: segment_id, segment_name, customers, total, median (of the CLV)."""
    return _read(
        warehouse,
        f"""
        select segment_id, segment_name, count(*) as customers, sum(clv) as total,
               cast(median(clv) as decimal(18, 4)) as median
        from headwater.clv_scores join {SEGMENTS} using (customer_id) where clv is not null
        group by all order by total desc, segment_name
        """,
    )


def decision_summary(warehouse: Warehouse) -> Row | None:
    """One dictionary over the newest decision of each customer, or None without any: customers, acted, holdout, blocked
    (an action was wanted and a rule said no), last_at, decisions (all ever), rejects (inputs refused)."""
    rows = _read(
        warehouse,
        f"""
        select count(*) as customers, count(*) filter (action <> 'none') as acted,
               count(*) filter (experiment_group = 'holdout') as holdout,
               count(*) filter (action = 'none' and blocked_by is not null) as blocked, max(decided_at) as last_at,
               (select count(*) from headwater.decision_log) as decisions,
               (select count(*) from headwater.decision_rejects) as rejects
        from {LATEST_DECISIONS}
        """,
    )
    return rows[0] if rows and rows[0]["customers"] else None


def decisions_by_action(warehouse: Warehouse) -> list[Row]:
    """Newest decision of each customer, one row per action, channel and template ('none' last): action, channel, template,
    customers, customer_share, mean_discount_pct."""
    return _read(
        warehouse,
        f"""
        select action, channel, template, count(*) as customers, count(*) / sum(count(*)) over () as customer_share,
               cast(avg(discount_pct) as decimal(5, 2)) as mean_discount_pct
        from {LATEST_DECISIONS} group by action, channel, template
        order by action = 'none', customers desc, action, channel, template
        """,
    )


def decisions_by_block(warehouse: Warehouse) -> list[Row]:
    """Newest decision of each customer where that is `none`, one row per rule that stood in the way: blocked_by
    (null: nothing did, there was simply no action for the customer), customers."""
    return _read(
        warehouse,
        f"""
        select blocked_by, count(*) as customers from {LATEST_DECISIONS} where action = 'none'
        group by all order by customers desc, blocked_by
        """,
    )


def leads(warehouse: Warehouse) -> Row | None:
    """One dictionary, or None when nobody has a score: scored (people with a score), qualified (rows of user_alerts),
    known (qualified people who are customers)."""
    rows = _read(
        warehouse,
        """
        select (select count(*) from main.user_mql_score) as scored,
               (select count(*) from main.user_alerts) as qualified,
               (select count(*) from main.user_alerts where customer_id is not null) as known
        """,
    )
    return rows[0] if rows and (rows[0]["scored"] or rows[0]["qualified"]) else None


def lead_scores(warehouse: Warehouse) -> list[Row]:
    """One row per score: score, people, qualified (how many of them are in user_alerts). Ordered by score."""
    return _read(
        warehouse,
        """
        select mql_score as score, count(*) as people, count(*) filter (alerts.person_id is not null) as qualified
        from main.user_mql_score left join (select distinct person_id from main.user_alerts) as alerts using (person_id)
        group by mql_score order by mql_score
        """,
    )


def top_leads(warehouse: Warehouse, most: int = 10) -> list[Row]:
    """The qualified people with the highest scores: person_id, customer_id (null: not a customer yet), score,
    last_event_at (the last one that scored)."""
    return _read(
        warehouse,
        f"""select person_id, customer_id, mql_score as score, last_event_at
            from main.user_alerts order by mql_score desc, person_id limit {int(most)}""",
    )


def roas_by_channel(warehouse: Warehouse) -> list[Row]:
    """One row per channel over all months: channel, spend, orders, revenue, roas (over the months in which it can be told)."""
    return _read(
        warehouse,
        f"""
        select coalesce(channel, 'no channel') as channel, coalesce(sum(spend), 0) as spend, coalesce(sum(orders), 0) as orders,
               coalesce(sum(revenue), 0) as revenue, {RETURN} as roas
        from main.mart_marketing__roas group by 1 order by spend desc, revenue desc, channel
        """,
    )


def roas_by_campaign(warehouse: Warehouse, most: int = 15) -> list[Row]:
    """One row per channel and campaign with spend, over all months, the largest spend first: channel, campaign_id, spend,
    orders, revenue, roas. At most `most` rows."""
    return _read(
        warehouse,
        f"""
        select coalesce(channel, 'no channel') as channel, coalesce(campaign_id, 'not tied to one') as campaign_id,
               sum(spend) as spend, coalesce(sum(orders), 0) as orders, coalesce(sum(revenue), 0) as revenue,
               {RETURN} as roas
        from main.mart_marketing__roas group by 1, 2 having sum(spend) > 0
        order by spend desc, channel, campaign_id limit {int(most)}
        """,
    )


def segment_performance(warehouse: Warehouse) -> list[Row]:
    """One row per segment over all campaigns: segment, sent, opened, clicked, converted, unsubscribed, revenue and the
    rates of what was sent: open_rate, click_rate, conversion_rate, unsubscribe_rate (null when nothing was sent)."""
    return _read(
        warehouse,
        """
        select coalesce(segment, 'none') as segment, sum(sent) as sent, sum(opened) as opened, sum(clicked) as clicked,
               sum(converted) as converted, sum(unsubscribed) as unsubscribed, coalesce(sum(revenue), 0) as revenue,
               sum(opened) / nullif(sum(sent), 0) as open_rate, sum(clicked) / nullif(sum(sent), 0) as click_rate,
               sum(converted) / nullif(sum(sent), 0) as conversion_rate, sum(unsubscribed) / nullif(sum(sent), 0) as unsubscribe_rate
        from main.mart_marketing__segment_performance group by 1 order by sent desc, segment
        """,
    )


_NEWEST_TESTS = """(
    select * from headwater.test_results
    qualify row_number() over (partition by test_name order by tested_at desc, run_id desc) = 1
)"""


def tests(warehouse: Warehouse) -> list[Row]:
    """Newest result of each dbt test, one row per status: status, tests, tested_at (the newest)."""
    return _read(
        warehouse,
        f"select status, count(*) as tests, max(tested_at) as tested_at from {_NEWEST_TESTS} group by all order by tests desc, status",
    )


def tests_not_passed(warehouse: Warehouse) -> list[Row]:
    """Newest result of each dbt test that did not pass: test_name, model, status, failures (rows that break it), message. At most 50."""
    return _read(
        warehouse,
        f"""select test_name, model, status, failures, message from {_NEWEST_TESTS}
            where status <> 'pass' order by status, failures desc nulls last, test_name limit 50""",
    )


def row_counts(warehouse: Warehouse) -> list[Row]:
    """What became of the rows read, one row per entity, outcome and reason: entity, outcome, reason, row_count, amount.

    read = kept + orphaned + quarantined + collapsed + excluded + unreadable; other outcomes say what was done to rows that are
    among the kept ones.
    """
    return _read(
        warehouse,
        """select entity, outcome, reason, row_count, amount from main.row_counts
           where row_count > 0 order by entity, outcome, reason""",
    )


def excluded(warehouse: Warehouse) -> list[Row]:
    """Rows that are sound but are left out of some models, by entity and reason: entity, reason, row_count, amount."""
    return _read(
        warehouse,
        "select entity, reason, row_count, amount from main.excluded_rows order by entity, row_count desc, reason",
    )


def quarantined(warehouse: Warehouse, most: int = 15) -> list[Row]:
    """Quarantined rows by what is wrong: entity, column_name, reason, advice, rows, and an example (file, line, value). At most `most`.

    A row with two faults counts under both.
    """
    return _read(
        warehouse,
        f"""
        select entity, column_name, reason, max(advice) as advice, count(*) as rows,
               arg_min(file, line) as file, min(line) as line, arg_min(value, line) as value
        from main.quarantined_rows group by entity, column_name, reason
        order by rows desc, entity, column_name, reason limit {int(most)}
        """,
    )


def file_rejects(warehouse: Warehouse, most: int = 15) -> list[Row]:
    """Lines that could not be read as rows at all, by file and reason: file, reason, advice, lines, first_line. At most `most`."""
    return _read(
        warehouse,
        f"""
        select file, reason, max(advice) as advice, count(*) as lines, min(line) as first_line
        from headwater.file_rejects group by file, reason order by lines desc, file, reason limit {int(most)}
        """,
    )
