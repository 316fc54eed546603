"""Leads, advertising and campaigns."""

from typing import Any

from headwater.console import queries
from headwater.console.charts import Bar, bars
from headwater.console.formats import count, day, percent, ratio
from headwater.console.page import Empty, Figure, Section
from headwater.console.reader import Reader, table


def leads(reader: Reader) -> Section:
    """Qualified leads."""
    title, lead = "Leads", "People who are interested enough to be called, by what they did."
    total = reader.read(queries.leads)
    if total is None:
        return Section(
            "leads",
            title,
            lead,
            empty=reader.why(
                "Nobody has a score: among the files are no events of the kinds that score (seeds/mql_score.csv says which do).",
                model="user_mql_score",
            ),
        )
    scores, top = reader.read(queries.lead_scores), reader.read(queries.top_leads)
    lead = f"{count(total['qualified'])} of {count(total['scored'])} people with a score are qualified; {count(total['known'])} of them are customers already."
    shown = [
        Bar(
            f"{ratio(row['score'], 0)} points", row["people"],
            f"{count(row['people'])}{' · qualified' if row['qualified'] else ''}",
            "t0" if row["qualified"] else "mute",
            f"{ratio(row['score'], 0)} points: {count(row['people'])} people, {count(row['qualified'])} qualified",
        )
        for row in scores[-12:]
    ]  # fmt: skip
    behind = table(
        ("Score", "People", "Qualified"),
        ((ratio(r["score"], 0), count(r["people"]), count(r["qualified"])) for r in scores),
        (0, 1, 2),
    )
    figures = [
        Figure("People by score", bars(shown, name="People by lead score"), (("t0", "qualified"), ("mute", "not yet")), table=behind,
               note="Only the 12 highest scores are drawn." if len(scores) > 12 else ""),
    ]  # fmt: skip
    if top:
        people = table(
            ("Person", "Customer", "Score", "Last event"),
            ((p["person_id"], _customer(p), ratio(p["score"], 0), day(p["last_event_at"])) for p in top),
            (2, 3),
            cards=True,
        )
        figures.append(Figure("The highest scores", table=people, open=True))
    else:
        figures.append(
            Figure(
                "The highest scores",
                empty=Empty("Nobody has reached the threshold (`mql.threshold` in headwater.yml)."),
            )
        )
    return Section("leads", title, lead, tuple(figures))


def _customer(person: dict[str, Any]) -> str:
    """Whether somebody is a customer, with the id where it is not the person's own."""
    if person["customer_id"] is None:
        return "not yet"
    return "yes" if person["customer_id"] == person["person_id"] else person["customer_id"]


def marketing(reader: Reader) -> Section:
    """What advertising brought, and how segments answer to campaigns."""
    title, lead = "Marketing", "What advertising brought back, and how each segment answers to campaigns."
    channels, performance = reader.read(queries.roas_by_channel), reader.read(queries.segment_performance)
    spent = [row for row in channels if row["spend"] > 0]
    if not spent and not performance:
        return Section(
            "marketing",
            title,
            lead,
            empty=reader.why(
                "Among the files are neither ad spend nor campaign responses: add them under `ad_spend` and `campaign_responses` in mapping.yml.",
                model="mart_marketing__roas",
            ),
        )
    if spent:
        spend, revenue = sum(r["spend"] for r in spent), sum(r["revenue"] for r in spent)
        lead = (
            f"{reader.money(spend)} of advertising brought {reader.money(revenue)}: {reader.money(revenue / spend)} for each {reader.money(1)} spent."
            if any(row["roas"] is not None for row in spent)
            else f"{reader.money(spend)} was spent on advertising. No order names one of its channels (`orders.channel` in"
            " mapping.yml), so nothing can be said of what it brought."
        )
    return Section("marketing", title, lead, (*_roas(reader, spent), _performance(reader, performance)))


def _roas(reader: Reader, rows: list[dict[str, Any]]) -> tuple[Figure, ...]:
    title = "Return on ad spend by channel"
    if not rows:
        return (
            Figure(
                title,
                empty=reader.why("There is no ad spend among the files: add it under `ad_spend` in mapping.yml."),
            ),
        )
    shown = [
        Bar(
            row["channel"],
            max(float(row["revenue"]), 0),
            f"{ratio(row['roas'])} × · {reader.short_money(row['revenue'])}"
            if row["roas"] is not None
            else f"spent {reader.short_money(row['spend'])}",
            "t0" if (row["roas"] or 0) >= 1 else "warn",
            f"{row['channel']}: spent {reader.money(row['spend'])}, {count(row['orders'])} orders for {reader.money(row['revenue'])}",
            max(float(row["spend"]), 0),
        )
        for row in rows
    ]
    colours = (("t0", "revenue"), ("warn", "revenue, less than was spent"))
    campaigns = table(
        ("Channel", "Campaign", "Spend", "Orders", "Revenue", "ROAS"),
        ((r["channel"], r["campaign_id"], reader.money(r["spend"]), count(r["orders"]), reader.money(r["revenue"]), ratio(r["roas"])) for r in reader.read(queries.roas_by_campaign)),
        range(2, 6),
    )  # fmt: skip
    return (
        Figure(
            title,
            bars(shown, name="Revenue and spend by channel"),
            (
                *(pair for pair in colours if any(bar.tone == pair[0] and bar.value for bar in shown)),
                ("second", "spend"),
            ),
            "The table has the campaigns with the largest spend.",
            campaigns,
        ),
    )


def _performance(reader: Reader, rows: list[dict[str, Any]]) -> Figure:
    title = "Campaigns by segment"
    sent = [row for row in rows if row["sent"]]
    if not sent:
        return Figure(
            title,
            empty=reader.why(
                "There are no campaign responses among the files: add them under `campaign_responses` in mapping.yml."
            ),
        )
    shown = [
        Bar(
            "in no segment" if row["segment"] == queries.NO_SEGMENT else row["segment"],
            row["click_rate"] or 0,
            f"{percent(row['click_rate'], 1)} · {percent(row['conversion_rate'], 1)}",
            reader.tone_of_rule.get(row["segment"]) or reader.tone_of_segment.get(row["segment"], "mute"),
            f"{row['segment']}: {count(row['sent'])} sent, {count(row['clicked'])} clicked, {count(row['converted'])} bought",
            row["conversion_rate"] or 0,
        )
        for row in sent
    ]
    behind = table(
        ("Segment", "Sent", "Opened", "Clicked", "Converted", "Unsubscribed", "Revenue"),
        (
            (r["segment"], count(r["sent"]), percent(r["open_rate"], 1), percent(r["click_rate"], 1), percent(r["conversion_rate"], 1), percent(r["unsubscribe_rate"], 1), reader.money(r["revenue"]))
            for r in rows
        ),
        range(1, 7),
    )  # fmt: skip
    return Figure(
        title,
        bars(shown, name="Click and conversion rate by segment", whole=1),
        (("t0", "clicked (colour of the segment)"), ("second", "bought")),
        table=behind,
    )
