"""A small shop of random rows, with everything in it that a model may get wrong: ties, refunds, orders of nobody, several
visitors per person and persons per visitor, price versions, rows exactly on a bound of a window, rows after the clock."""

import random
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

AS_OF = datetime.fromisoformat("2026-03-31T12:00:00")
Rows = dict[str, list[dict[str, Any]]]

_EVENTS = ("page_viewed", "product_viewed", "demo_requested", "whitepaper_downloaded", "meetup_attended", "identify")
_WIDTHS = (30, 90, 365)


def shop(seed: int = 11, customers: int = 50) -> Rows:
    """Rows of all ten entities; the same seed gives the same rows."""
    draw = random.Random(seed)

    def moment(days: float = 500) -> datetime:
        if draw.random() < 0.15:  # on a bound of a window, or a second beside it
            return AS_OF - timedelta(days=draw.choice((0, *_WIDTHS)), seconds=draw.choice((-1, 0, 1)))
        return AS_OF - timedelta(seconds=draw.randrange(-3 * 86_400, int(days * 86_400)))

    def money(most: int) -> Decimal:
        return Decimal(draw.randrange(0, most * 100)) / 100

    rows: Rows = {}
    rows["addresses"] = [{"address_id": f"a{i}", "city": f"City {i}", "state": f"S{i % 5}"} for i in range(12)]
    rows["customers"] = [
        {
            "customer_id": f"c{i}",
            "first_name": draw.choice(("Ann", "Bob", None)),
            "last_name": draw.choice(("Ng", None)),
            "company": draw.choice(("Acme", None)),
            "email": draw.choice((f"c{i}@example.com", "", None)),
            "nps_score": draw.choice((None, 0, 6, 7, 10)),
            "email_opt_in": draw.choice((True, False, None)),
            "shipping_address_id": draw.choice(("a1", "a2", "gone", None)),
            "billing_address_id": draw.choice(("a3", "a4", None)),
            "created_at": AS_OF - timedelta(days=draw.randrange(0, 600)),
        }
        for i in range(customers)
    ]
    names = {3: "", 8: None, 9: " "}
    rows["products"] = [
        {
            "product_id": f"p{i}",
            "product_name": names.get(i, f"Product {i}"),
            "brand": f"B{i % 3}",
            "category": f"K{i % 2}",
            "price": (None, Decimal(0), money(60))[min(i % 7, 2)],
            "cost": draw.choice((None, money(20))),
        }
        for i in range(20)
    ]
    rows["product_prices"] = []
    for i in range(12):
        ages = draw.sample((*_WIDTHS, -5, 10, 60, 120, 200, 300, 420), draw.randrange(1, 5))
        for number, days in enumerate(sorted(ages, reverse=True)):
            rows["product_prices"].append(
                {
                    "product_price_id": f"p{i}@{number}",
                    "product_id": f"p{i}",
                    "valid_from": AS_OF - timedelta(days=days),
                    "price": Decimal(0) if draw.random() < 0.1 else money(60),
                    "is_deleted": True if draw.random() < 0.1 else draw.choice((None, False)),
                }
            )
    rows["campaigns"] = [
        {"campaign_id": f"m{i}", "campaign_name": f"Campaign {i}", "channel": "email"} for i in range(4)
    ]
    rows["orders"], rows["order_lines"] = [], []
    known = [row["customer_id"] for row in rows["customers"]] + ["only_in_orders", "only_gives_back"]
    for i in range(customers * 6):
        customer = draw.choice(known[: customers // 2 + 10] if draw.random() < 0.8 else known)
        if draw.random() < 0.05:
            customer = None
        gives_back = customer == "only_gives_back" or draw.random() < 0.08
        ordered_at = moment()
        lines = 0 if draw.random() < 0.1 else draw.randrange(1, 5)
        rows["orders"].append(
            {
                "order_id": f"o{i}",
                "customer_id": customer,
                "ordered_at": ordered_at,
                "status": draw.choice(("paid", "refunded", None)),
                "channel": draw.choice(("email", "search", None)),
                "campaign_id": draw.choice(("m0", "m1", "m9", None)),
                "amount": draw.choice((None, -money(50) if gives_back else money(200))),
                "updated_at": draw.choice((None, ordered_at + timedelta(hours=3))),
            }
        )
        for number in range(lines):
            rows["order_lines"].append(
                {
                    "order_line_id": f"o{i}/{number}",
                    "order_id": f"o{i}",
                    "product_id": draw.choice((f"p{draw.randrange(22)}", None)),
                    "quantity": -draw.randrange(1, 3) if gives_back or draw.random() < 0.1 else draw.randrange(0, 4),
                    "unit_price": money(80),
                    "discount_amount": draw.choice((None, None, Decimal("1.25"))),
                }
            )
    rows["orders"].append(
        {
            "order_id": "back",
            "customer_id": "only_gives_back",
            "ordered_at": AS_OF - timedelta(days=9),
            "amount": Decimal(-7),
        }
    )
    rows["events"] = []
    for i in range(customers * 10):
        rows["events"].append(
            {
                "event_id": f"e{i}",
                "anonymous_id": draw.choice((f"v{draw.randrange(customers)}", None)),
                "customer_id": draw.choice((None, None, draw.choice([*known[: customers // 2], "only_in_events"]))),
                "event_name": draw.choice(_EVENTS),
                "occurred_at": moment(90),
                "session_id": draw.choice((None, None, f"s{i // 4}")),
            }
        )
    for i, last_seen in enumerate(
        (None, 31, 90)
    ):  # good customers who have gone quiet, one of whom no event was ever seen
        rows["customers"].append(
            {"customer_id": f"quiet{i}", "nps_score": 9, "created_at": AS_OF - timedelta(days=300)}
        )
        rows["orders"].append(
            {
                "order_id": f"quiet{i}",
                "customer_id": f"quiet{i}",
                "ordered_at": AS_OF - timedelta(days=50),
                "amount": Decimal(400),
            }
        )
        if last_seen:
            rows["events"].append(
                {
                    "event_id": f"quiet{i}",
                    "anonymous_id": None,
                    "customer_id": f"quiet{i}",
                    "event_name": "page_viewed",
                    "occurred_at": AS_OF - timedelta(days=last_seen),
                    "session_id": None,
                }
            )
    rows["campaign_responses"] = []
    for i in range(customers * 3):
        sent_at = moment(200)
        later = [None, sent_at + timedelta(hours=1), sent_at + timedelta(days=40)]
        rows["campaign_responses"].append(
            {
                "campaign_response_id": f"r{i}",
                "campaign_id": f"m{draw.randrange(4)}",
                "customer_id": f"c{draw.randrange(customers)}",
                "sent_at": sent_at,
                "opened_at": draw.choice(later),
                "clicked_at": draw.choice(later),
                "converted_at": draw.choice(later),
                "unsubscribed_at": draw.choice(later),
            }
        )
    rows["ad_spend"] = [
        {
            "ad_spend_id": f"{day}/{channel}/{campaign}",
            "spent_on": (AS_OF - timedelta(days=day)).date(),
            "channel": channel,
            "campaign_id": campaign,
            "amount": money(90),
        }
        for day in range(-5, 100, 3)
        for channel, campaign in (("email", "m0"), ("search", None))
    ]
    return rows


def until(rows: Rows, moment: datetime) -> Rows:
    """The rows as they were known at a moment: what happens after it is not there."""
    times = {
        "orders": "ordered_at",
        "events": "occurred_at",
        "product_prices": "valid_from",
        "campaign_responses": "sent_at",
    }
    cut = dict(rows)
    for name, column in times.items():
        cut[name] = [row for row in rows[name] if row[column] <= moment]
    cut["ad_spend"] = [row for row in rows["ad_spend"] if row["spent_on"] <= moment.date()]
    outcomes = ("opened_at", "clicked_at", "converted_at", "unsubscribed_at")
    cut["campaign_responses"] = [
        {key: None if key in outcomes and value and value > moment else value for key, value in row.items()}
        for row in cut["campaign_responses"]
    ]
    there = {row["order_id"] for row in cut["orders"]}
    cut["order_lines"] = [row for row in rows["order_lines"] if row["order_id"] in there]
    return cut
