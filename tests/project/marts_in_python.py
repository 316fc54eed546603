"""The marts once more, in plain Python from the rows of the shop: slow, without SQL, and written from their descriptions.

Each function returns rows as the mart has them, for the columns that it recomputes; `Marts` holds the rows and the clock.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from typing import Any

Row = dict[str, Any]
ZERO = Decimal(0)
POINTS = {
    "demo_requested": 30,
    "whitepaper_downloaded": 20,
    "newsletter_subscribed": 10,
    "meetup_attended": 5,
    "community_joined": 5,
}


def rounded(value: Decimal) -> Decimal:
    return value.quantize(Decimal("0.0001"), ROUND_HALF_UP)


def month(moment: datetime | date) -> date:
    return date(moment.year, moment.month, 1)


def months_apart(earlier: date, later: date) -> int:
    return (later.year - earlier.year) * 12 + later.month - earlier.month


def share(part: Any, whole: Any) -> float | None:
    return float(part) / float(whole) if whole else None


@dataclass
class Marts:
    rows: dict[str, list[Row]]
    as_of: datetime

    def within(self, moment: datetime | None, days: int | None = None) -> bool:
        if moment is None or moment > self.as_of:
            return False
        return days is None or moment > self.as_of - timedelta(days=days)

    @cached_property
    def products(self) -> dict[str, Row]:
        return {row["product_id"]: row for row in self.rows["products"]}

    @cached_property
    def lines_of(self) -> dict[str, list[Row]]:
        lines: dict[str, list[Row]] = defaultdict(list)
        for line in self.rows["order_lines"]:
            lines[line["order_id"]].append(line)
        return lines

    # ------------------------------------------------------------------ orders

    @cached_property
    def orders(self) -> list[Row]:
        orders = []
        for order in self.rows["orders"]:
            if not self.within(order["ordered_at"]):
                continue
            lines = self.lines_of.get(order["order_id"], [])
            amounts = [line["quantity"] * line["unit_price"] for line in lines]
            if lines:
                is_purchase = any(line["quantity"] > 0 and line["unit_price"] >= 0 for line in lines)
            else:
                amounts = [order.get("amount") or ZERO]
                is_purchase = amounts[0] >= 0
            gross = sum((a for a in amounts if a > 0), ZERO)
            refund = -sum((a for a in amounts if a < 0), ZERO)
            discount = sum((line["discount_amount"] or ZERO for line in lines), ZERO)
            orders.append(
                {
                    "order_id": order["order_id"],
                    "customer_id": order["customer_id"],
                    "ordered_at": order["ordered_at"],
                    "channel": order.get("channel"),
                    "campaign_id": order.get("campaign_id"),
                    "line_count": len(lines),
                    "units": sum(line["quantity"] for line in lines),
                    "gross_revenue": gross,
                    "refund_amount": refund,
                    "discount_amount": discount,
                    "revenue": gross - refund - discount,
                    "is_purchase": is_purchase,
                    "order_number": None,
                    "updated_at": max(filter(None, (order.get("updated_at"), order["ordered_at"]))),
                }
            )
        numbers: dict[str, int] = defaultdict(int)
        for order in sorted(orders, key=lambda o: (o["ordered_at"], o["order_id"])):
            if order["customer_id"] is not None and order["is_purchase"]:
                numbers[order["customer_id"]] += 1
                order["order_number"] = numbers[order["customer_id"]]
        return orders

    # ------------------------------------------------------------------ people

    @cached_property
    def events(self) -> list[Row]:
        known: dict[str, str] = {}
        for event in sorted(self.rows["events"], key=lambda e: (e["occurred_at"], e["customer_id"] or "")):
            if event["anonymous_id"] and event["customer_id"] and self.within(event["occurred_at"]):
                known.setdefault(event["anonymous_id"], event["customer_id"])
        events = []
        for event in self.rows["events"]:
            customer = event["customer_id"] or known.get(event["anonymous_id"])
            if not self.within(event["occurred_at"]) or not (event["anonymous_id"] or customer):
                continue
            person = customer or f"anon:{event['anonymous_id']}"
            events.append({**event, "customer_id": customer, "person_id": person})
        last: dict[str, tuple[datetime, str]] = {}
        for event in sorted(events, key=lambda e: (e["occurred_at"], e["event_id"])):
            if event["session_id"]:
                continue
            person, at = event["person_id"], event["occurred_at"]
            if person in last and at - last[person][0] <= timedelta(minutes=30):
                session = last[person][1]
            else:
                session = f"{person}/{at:%Y%m%dT%H%M%S.%f}"
            last[person] = (at, session)
            event["session_id"] = session
        return events

    @cached_property
    def customer_ids(self) -> set[str]:
        ids = {row["customer_id"] for row in self.rows["customers"]}
        ids |= {row["customer_id"] for row in self.orders if row["customer_id"]}
        return ids | {row["customer_id"] for row in self.events if row["customer_id"]}

    def _by_customer(self, rows: Iterable[Row]) -> dict[str, list[Row]]:
        grouped: dict[str, list[Row]] = defaultdict(list)
        for row in rows:
            if row["customer_id"]:
                grouped[row["customer_id"]].append(row)
        return grouped

    def customer_360(self) -> list[Row]:
        orders_of, events_of = self._by_customer(self.orders), self._by_customer(self.events)
        people = {row["customer_id"]: row for row in self.rows["customers"]}
        result = []
        for customer in self.customer_ids:
            orders, events = orders_of[customer], events_of[customer]
            bought = [o for o in orders if o["order_number"]]
            last = max((o["ordered_at"] for o in bought), default=None)
            days = (self.as_of.date() - last.date()).days if last else None
            events_30d = [e for e in events if self.within(e["occurred_at"], 30)]
            revenue = sum((o["revenue"] for o in orders), ZERO)
            result.append(
                {
                    "customer_id": customer,
                    "email": people.get(customer, {}).get("email"),
                    "first_order_at": min((o["ordered_at"] for o in bought), default=None),
                    "last_order_at": last,
                    "days_since_last_order": days,
                    "activity_status": activity_status(days),
                    "order_count": len(bought),
                    "lifetime_revenue": revenue,
                    "avg_order_value": rounded(revenue / len(bought)) if bought else None,
                    **{
                        f"revenue_{width}d": sum(
                            (o["revenue"] for o in orders if self.within(o["ordered_at"], width)), ZERO
                        )
                        for width in (30, 90, 365)
                    },
                    "orders_30d": sum(self.within(o["ordered_at"], 30) for o in bought),
                    "orders_90d": sum(self.within(o["ordered_at"], 90) for o in bought),
                    "last_event_at": max((e["occurred_at"] for e in events), default=None),
                    "events_30d": len(events_30d),
                    "sessions_30d": len({e["session_id"] for e in events_30d}),
                    "nps_score": people.get(customer, {}).get("nps_score"),
                }
            )
        for measure, column in (
            ("recency", "last_order_at"),
            ("frequency", "order_count"),
            ("monetary", "lifetime_revenue"),
        ):
            values = sorted(row[column] for row in result if row["order_count"])
            cuts = [values[-(-len(values) * number // 5) - 1] for number in range(1, 5)] if values else []
            for row in result:
                score = 1 + sum(row[column] > cut for cut in cuts) if row["order_count"] else None
                row[f"rfm_{measure}_score"] = score
        for row in result:
            row["rule_segment"] = self._segment(row)
        return result

    def _segment(self, row: Row) -> str | None:
        if row["nps_score"] is not None and row["nps_score"] < 7:
            return "churn_rescue_nps"
        seen = row["last_event_at"] or row["last_order_at"]
        if row["revenue_90d"] >= 150 and not self.within(seen, 30):
            return "high_value_lapse_risk"
        if row["revenue_90d"] <= 0 and row["events_30d"] >= 2:
            return "new_users_first_week_intent"
        return None

    def rfm(self) -> list[Row]:
        result = []
        for customer, orders in self._by_customer(self.orders).items():
            bought = [o for o in orders if o["order_number"]]
            if not bought:
                continue
            moments = [o["ordered_at"] for o in bought]
            days = sorted({m.date() for m in moments})
            repeat = sum((o["revenue"] for o in orders if o["ordered_at"].date() in days[1:]), ZERO)

            def age(earlier: datetime, later: datetime) -> float:
                return (later - earlier).total_seconds() / 86_400

            result.append(
                {
                    "customer_id": customer,
                    "recency_days": age(max(moments), self.as_of),
                    "frequency": len(bought),
                    "monetary": sum((o["revenue"] for o in orders), ZERO),
                    "tenure_days": age(min(moments), self.as_of),
                    "repeat_purchases": len(days) - 1,
                    "last_purchase_age_days": age(min(moments), max(moments)),
                    "repeat_value": rounded(repeat / (len(days) - 1)) if len(days) > 1 else None,
                }
            )
        return result

    # ------------------------------------------------------------------ products

    def _price(self, product: str | None, at: datetime) -> tuple[Decimal | None, bool] | None:
        """Price and whether the product was gone; None where nothing is known of the product's price."""
        versions = sorted(
            (
                v
                for v in self.rows["product_prices"]
                if v["product_id"] == product and product is not None and self.within(v["valid_from"])
            ),
            key=lambda v: v["valid_from"],
        )
        if not versions:
            listed = self.products.get(product or "")
            return (listed["price"], False) if listed else None
        holding = [v for v in versions if v["valid_from"] <= at] or versions[:1]
        return holding[-1]["price"], bool(holding[-1]["is_deleted"])

    @cached_property
    def priced_lines(self) -> list[Row]:
        lines = []
        for order in self.orders:
            for line in self.lines_of.get(order["order_id"], []):
                product = line["product_id"]
                found = self._price(product, order["ordered_at"])
                price, gone = found or (None, False)
                price = line["unit_price"] if price is None else price
                listed = self.products.get(product or "")
                name = listed["product_name"] if listed else product or "(no product)"
                why = None
                if gone:
                    why = "product deleted at the time"
                elif not (name or "").strip():
                    why = "product without a name"
                elif (price or ZERO) <= 0:
                    why = "price not positive"
                lines.append({**line, "order": order, "price": price, "product_name": name, "excluded_because": why})
        return lines

    def product_sales(self) -> list[Row]:
        people = {row["customer_id"]: row for row in self.rows["customers"]}
        addresses = {row["address_id"]: row for row in self.rows["addresses"]}
        result = []
        for line in self.priced_lines:
            if line["excluded_because"]:
                continue
            person = people.get(line["order"]["customer_id"] or "", {})
            shipping = addresses.get(person.get("shipping_address_id") or "", {})
            billing = addresses.get(person.get("billing_address_id") or "", {})
            result.append(
                {
                    "order_line_id": line["order_line_id"],
                    "order_id": line["order_id"],
                    "ordered_at": line["order"]["ordered_at"],
                    "product_name": line["product_name"],
                    "price": line["price"],
                    "customer_id": line["order"]["customer_id"],
                    "customer_name": full_name(person),
                    "shipping_address_city": shipping.get("city"),
                    "shipping_address_state": shipping.get("state"),
                    "billing_address_state": billing.get("state"),
                    "quantity": line["quantity"],
                    "total_amount": line["quantity"] * line["price"],
                }
            )
        return result

    def thirty_day_customer_snapshot(self) -> list[Row]:
        amounts: dict[str, Decimal] = defaultdict(lambda: ZERO)
        bought: dict[str, set[str]] = defaultdict(set)
        for sale in self.product_sales():
            if sale["customer_id"] and self.within(sale["ordered_at"], 30):
                amounts[sale["customer_id"]] += sale["total_amount"]
                if sale["quantity"] > 0:
                    bought[sale["customer_id"]].add(sale["order_id"])
        for order in self.orders:
            if order["customer_id"] and not order["line_count"] and self.within(order["ordered_at"], 30):
                amounts[order["customer_id"]] += order["revenue"]
                if order["is_purchase"]:
                    bought[order["customer_id"]].add(order["order_id"])
        people = {row["customer_id"]: row for row in self.rows["customers"]}
        return [
            {
                "customer_id": customer,
                "customer_name": full_name(people.get(customer, {})),
                "total_amount": amounts[customer],
                "number_of_orders": len(bought[customer]),
            }
            for customer in self.customer_ids
        ]

    # ------------------------------------------------------------------ marketing

    def cohort_retention(self) -> list[Row]:
        first = {o["customer_id"]: month(o["ordered_at"]) for o in self.orders if o["order_number"] == 1}
        active: dict[tuple[date, date], set[str]] = defaultdict(set)
        revenue: dict[tuple[date, date], Decimal] = defaultdict(lambda: ZERO)
        months = set()
        for order in self.orders:
            cohort = first.get(order["customer_id"])
            if cohort:
                cell = (cohort, max(month(order["ordered_at"]), cohort))
                months.add(cell[1])
                revenue[cell] += order["revenue"]
                if order["is_purchase"]:
                    active[cell].add(order["customer_id"])
        sizes = {cohort: sum(1 for c in first.values() if c == cohort) for cohort in first.values()}
        return [
            {
                "cohort_month": cohort,
                "months_since_first": months_apart(cohort, then),
                "cohort_customers": size,
                "active_customers": len(active[cohort, then]),
                "retention_rate": len(active[cohort, then]) / size,
                "revenue": revenue[cohort, then],
            }
            for cohort, size in sizes.items()
            for then in months
            if then >= cohort
        ]

    def roas(self) -> list[Row]:
        cells: dict[tuple[Any, ...], list[Any]] = defaultdict(lambda: [ZERO, 0, ZERO])
        for spend in self.rows["ad_spend"]:
            day = spend["spent_on"]
            if self.within(datetime.combine(day, time())):
                cells[month(day), spend["channel"], spend["campaign_id"]][0] += spend["amount"]
        for order in self.orders:
            cell = cells[month(order["ordered_at"]), order["channel"] or "unattributed", order["campaign_id"]]
            cell[1] += order["is_purchase"]
            cell[2] += order["revenue"]
        attributed = {month(o["ordered_at"]) for o in self.orders if o["channel"] and o["is_purchase"]}
        return [
            {
                "month": then,
                "channel": channel,
                "campaign_id": campaign,
                "spend": spend,
                "orders": orders,
                "revenue": revenue,
                "roas": share(revenue, spend) if then in attributed else None,
            }
            for (then, channel, campaign), (spend, orders, revenue) in cells.items()
        ]

    def engagement_metrics(self) -> list[Row]:
        days = {e["occurred_at"].date() for e in self.events} | {o["ordered_at"].date() for o in self.orders}
        result = []
        for day in days:
            events = [e for e in self.events if e["occurred_at"].date() == day]
            orders = [o for o in self.orders if o["ordered_at"].date() == day]
            result.append(
                {
                    "event_date": day,
                    "events": len(events),
                    "visitors": len({e["person_id"] for e in events}),
                    "customers": len({e["customer_id"] for e in events} - {None}),
                    "sessions": len({e["session_id"] for e in events}),
                    "orders": sum(o["is_purchase"] for o in orders),
                    "revenue": sum((o["revenue"] for o in orders), ZERO),
                }
            )
        return result

    def segment_performance(self) -> list[Row]:
        segment_of = {row["customer_id"]: row["rule_segment"] or "none" for row in self.customer_360()}
        cells: dict[tuple[str, str], Row] = {}
        reached: dict[tuple[str, str], set[str]] = defaultdict(set)
        for message in self.rows["campaign_responses"]:
            if not self.within(message["sent_at"]):
                continue
            key = (segment_of.get(message["customer_id"], "none"), message["campaign_id"])
            cell = cells.setdefault(key, dict.fromkeys(("sent", "opened", "clicked", "converted", "unsubscribed"), 0))
            reached[key].add(message["customer_id"])
            for column in cell:
                cell[column] += self.within(message[f"{column}_at"])
        return [
            {
                "segment": segment,
                "campaign_id": campaign,
                **cell,
                "conversion_rate": share(cell["converted"], cell["sent"]),
                "revenue": sum(
                    (
                        o["revenue"]
                        for o in self.orders
                        if o["campaign_id"] == campaign and o["customer_id"] in reached[segment, campaign]
                    ),
                    ZERO,
                ),
            }
            for (segment, campaign), cell in cells.items()
        ]

    # ------------------------------------------------------------------ leads

    def user_mql_score(self, window_days: int | None = 30) -> list[Row]:
        done: dict[str, set[str]] = defaultdict(set)
        for event in self.events:
            if event["event_name"] in POINTS and self.within(event["occurred_at"], window_days):
                done[event["person_id"]].add(event["event_name"])
        return [
            {
                "person_id": person,
                "customer_id": None if person.startswith("anon:") else person,
                "mql_score": sum(POINTS[name] for name in names),
                "scored_event_names": len(names),
            }
            for person, names in done.items()
        ]

    def user_alerts(self) -> list[Row]:
        return [row for row in self.user_mql_score() if row["mql_score"] >= 20]


def activity_status(days: int | None) -> str:
    if days is None:
        return "No orders"
    for most, status in ((30, "Active"), (90, "Recent"), (180, "Dormant")):
        if days <= most:
            return status
    return "Inactive"


def full_name(person: Row) -> str | None:
    name = f"{person.get('first_name') or ''} {person.get('last_name') or ''}".strip()
    return name or person.get("company")
