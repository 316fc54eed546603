"""The reads of how much was going on, week by week; the rules are those of `queries`."""

from headwater.console.queries import Row, _read
from headwater.warehouse.connection import Warehouse


def engagement_by_week(warehouse: Warehouse) -> list[Row]:
    """One row per week (week, its Monday) that has passed at as_of, the last 26, from the first with events on: sessions, events, orders, and orders_per_session
    (null without sessions). From mart_marketing__engagement_metrics, summed over the days; visitors cannot be summed and are left out."""
    return _read(
        warehouse,
        """
        select date_trunc('week', event_date)::date as week, sum(sessions)::bigint as sessions, sum(events)::bigint as events,
               sum(orders)::bigint as orders, sum(orders) / nullif(sum(sessions), 0) as orders_per_session
        from main.mart_marketing__engagement_metrics
        where date_trunc('week', event_date) + interval 7 days <= (select max(as_of) from headwater.clock)
          and event_date >= (select min(event_date) from main.mart_marketing__engagement_metrics where events > 0)
        group by all order by week desc limit 26
        """,
    )[::-1]
